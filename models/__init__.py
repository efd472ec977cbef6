"""Room: models. What we predict: trainers, evaluation, artefacts, retrieval and ranking on arrays.

Serving imports `models.artefact`, `models.registry` and `models.recommender`; training needs the `train` extra.
"""

from __future__ import annotations


def warm() -> None:
    """Compile (or take from the cache) all that a request runs; called at installation and before serving.

    `artefact.load` warms what it loads by itself, so a server that loads before it is ready needs no extra call.
    """
    from models.warming import warm_queries

    warm_queries()
