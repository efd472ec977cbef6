"""Candidates for one customer: what the model finds in a history, filtered and ranked. Room: serving, CPU only.

Some 200 candidates; the arrays' gathers cost microseconds, the model's kernel and the ranker make up the time.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.recommender import Candidates
from serving.catalog import Catalog, Rows
from serving.model import ActiveModel

Floats = npt.NDArray[np.float32]

#: Candidates that are asked of the model; more where a larger slate is wanted.
CANDIDATES: Final = 200
_FEW: Final = 16


class Found(NamedTuple):
    """Candidates with their catalogue rows."""

    candidates: Candidates
    rows: Rows


def retrieve(model: ActiveModel | None, history: list[str], limit: int, catalog: Catalog) -> Found | None:
    """Return what the model finds, None where there is no model or it knows nothing of the history.

    Items of the history that are newer than the model may be among it, if the catalogue knows them.
    """
    if model is None or not history:
        return None
    candidates = model.recommender.candidates(history, max(CANDIDATES, 2 * limit), unseen=True)
    if not len(candidates):
        return None
    if not candidates.unseen:
        return Found(candidates, model.rows[candidates.rows])
    table = len(model.rows)
    rows = model.rows[np.minimum(candidates.rows, table - 1)]
    for place, item_id in enumerate(candidates.unseen):
        rows[candidates.rows == table + place] = catalog.row_of.get(item_id, -1)
    known = rows >= 0
    return Found(candidates.take(known), rows[known])


def permitted(found: Found, catalog: Catalog, forbidden: Rows) -> Found:
    """Return the candidates that may be shown: in stock, not hidden, not forbidden."""
    rows = found.rows
    keep = catalog.allowed[rows]
    if len(forbidden) <= _FEW:
        for row in forbidden:
            keep &= rows != row
    else:
        keep &= np.isin(rows, forbidden, invert=True)
    return found if keep.all() else Found(found.candidates.take(keep), rows[keep])


def best(scores: Floats, limit: int) -> list[int]:
    """Return the places of the `limit` best scores, best first."""
    order: list[int] = np.argsort(-scores, kind="stable")[:limit].tolist()
    return order


def personal_order(
    rows: Rows, text_scores: Floats, found: Found | None, ranked: Floats | None, catalog: Catalog, liked: list[str]
) -> Floats:
    """Return scores for search results: what matches best, then what this customer is likely to want.

    The text decides between results that match by another share of the query; among equals the model's rank counts,
    then a liked category.
    """
    bonus = np.zeros(len(rows), dtype=np.float32)
    if found is not None and ranked is not None:
        place = {int(found.rows[p]): n for n, p in enumerate(np.argsort(-ranked, kind="stable").tolist())}
        bonus = np.array([1.0 / (2 + place[r]) if r in place else 0.0 for r in rows.tolist()], dtype=np.float32)
    if liked:
        codes = [catalog.categories.code(category) for category in liked]
        bonus += 0.1 * np.isin(catalog.category[rows], codes)
    scores: Floats = text_scores + 0.5 * bonus
    return scores
