"""Warming: run the compiled query once on a tiny index of the same types, so that no request compiles.

Room: models. Called by `models.warm()`; needs no training dependency.
"""

from __future__ import annotations

import numpy as np

from models import embedding
from models.features import FACTS
from models.index import of_arrays
from models.params import Params
from models.recommender import Recommender


def warm_queries() -> None:
    """One query over two items and two sessions."""
    rows = np.array([0, 1], dtype=np.int32)
    edges = np.array([0, 1, 2], dtype=np.int64)
    ones = np.ones(2, dtype=np.float32)
    vectors = np.eye(2, dtype=np.float32)
    values, facts = np.ones((2, 4), dtype=np.float32), np.zeros((3, len(FACTS)), dtype=np.float32)
    arrays = (edges, rows, rows, edges, rows, ones, ones, edges, rows, values, facts, vectors)
    index = of_arrays(arrays, embedding.build_index(vectors, 0))
    Recommender(["a", "b"], index, Params()).warm()
