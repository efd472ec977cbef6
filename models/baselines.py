"""Yardsticks that stand beside every figure: popularity, exact cosine item-kNN, plain VMIS-kNN.

Room: models. Evaluation calls them; they are never served. Each one is an `Estimator` and scores every item that it
can say something about, so that ranks are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from models import counting
from models.jit import compiled
from models.recommender import Scored
from models.sessions import Floats, Rows, Sessions


class Estimator(Protocol):
    """What a recommender can do, small enough to write one in an afternoon."""

    name: str

    def fit(self, sessions: Sessions) -> None:
        """Learn from sessions in time order."""

    def scored(self, recent: Rows) -> tuple[Rows, Floats]:
        """Rows and scores of all items that the session (rows, newest last) makes likely; the rest ties at the end."""

    def recommend(self, items: Sequence[str], *, k: int) -> list[Scored]:
        """The k best items for a session of item ids, newest last."""

    def save(self, directory: Path) -> None:
        """Write what was learned."""

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read it back."""


class Baseline:
    """What the yardsticks share: an item table, named arrays, and lists made from scores."""

    name = ""
    arrays: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.item_ids: list[str] = []
        self.row_of: dict[str, int] = {}

    def scored(self, recent: Rows) -> tuple[Rows, Floats]:
        """See `Estimator`."""
        raise NotImplementedError

    def recommend(self, items: Sequence[str], *, k: int = 20) -> list[Scored]:
        """See `Estimator`."""
        recent = np.array([self.row_of[item] for item in items if item in self.row_of], dtype=np.int32)
        rows, scores = self.scored(recent)
        order = np.argsort(-scores, kind="stable")[:k]
        return [Scored(self.item_ids[rows[i]], float(scores[i]), self.name) for i in order.tolist()]

    def save(self, directory: Path) -> None:
        """See `Estimator`."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "items.msgpack").write_bytes(msgspec.msgpack.encode(self.item_ids))
        for array in self.arrays:
            np.save(directory / f"{array}.npy", getattr(self, array))

    @classmethod
    def load(cls, directory: Path) -> Self:
        """See `Estimator`."""
        made = cls()
        made._know(msgspec.msgpack.decode((directory / "items.msgpack").read_bytes(), type=list[str]))
        for array in cls.arrays:
            setattr(made, array, np.load(directory / f"{array}.npy"))
        return made

    def _know(self, item_ids: list[str]) -> None:
        self.item_ids = item_ids
        self.row_of = {item: row for row, item in enumerate(item_ids)}


class Popularity(Baseline):
    """The items of most sessions, the same for everyone."""

    name = "popularity"
    arrays = ("rows", "counts")
    rows: Rows
    counts: Floats

    def fit(self, sessions: Sessions) -> None:
        """See `Estimator`."""
        self._know(sessions.item_ids)
        everywhere, *_ = counting.item_counts(sessions.indptr, sessions.items, len(self.item_ids), 0)
        self.rows = np.argsort(-everywhere, kind="stable").astype(np.int32)
        self.counts = everywhere[self.rows].astype(np.float32)

    def scored(self, recent: Rows) -> tuple[Rows, Floats]:  # noqa: ARG002  the same for everyone
        """See `Estimator`."""
        return self.rows, self.counts


class CosineLastItem(Baseline):
    """Items of the same sessions as the last item: c_ij / sqrt(n_i n_j) over session sets, the last item barred.

    References
    ----------
    Hidasi et al., ICLR 2016, "Session-based Recommendations with Recurrent Neural Networks" (its Item-KNN baseline,
    here without shrinkage).
    """

    name = "cosine_last_item"
    arrays = ("edges", "rows", "cosines")
    edges: npt.NDArray[np.int64]
    rows: Rows
    cosines: Floats

    def fit(self, sessions: Sessions) -> None:
        """See `Estimator`."""
        from scipy.sparse import csr_matrix, diags_array

        self._know(sessions.item_ids)
        ones = np.ones(len(sessions.items), dtype=np.float64)
        shape = (len(sessions), len(self.item_ids))
        # A copy: SciPy sums duplicates in place, and the sessions are not ours to change.
        held = csr_matrix((ones, sessions.items.copy(), sessions.indptr.copy()), shape=shape)
        held.sum_duplicates()
        held.data[:] = 1.0
        counts = np.asarray(held.sum(axis=0)).ravel()
        scale = diags_array(1 / np.sqrt(np.maximum(counts, 1)))
        cosines: Any = (scale @ (held.T @ held) @ scale).tocsr()
        cosines.setdiag(0)
        cosines.eliminate_zeros()
        self.edges, self.rows = cosines.indptr.astype(np.int64), cosines.indices.astype(np.int32)
        self.cosines = cosines.data.astype(np.float32)

    def scored(self, recent: Rows) -> tuple[Rows, Floats]:
        """See `Estimator`."""
        last = recent[-1] if len(recent) else -1
        if not 0 <= last < len(self.item_ids):
            return self.rows[:0], self.cosines[:0]
        where = slice(self.edges[last], self.edges[last + 1])
        return self.rows[where], self.cosines[where]


class PlainVmis(Baseline):
    """Vector-multiplication-indexed session kNN, as published.

    References
    ----------
    Kersbergen, Sprangers and Schelter, SIGMOD 2022, "Serenade - Low-Latency Session-Based Recommendation in
    e-Commerce at Scale": the m newest sessions per item, linear position weight, k nearest sessions, and the
    score sum of similarity * lambda(newest match) * log(sessions / sessions of the item). The last item is barred.
    """

    name = "vmis_knn"
    arrays = ("starts", "postings", "edges", "items", "idf")
    starts: npt.NDArray[np.int64]
    postings: Rows
    edges: npt.NDArray[np.int64]
    items: Rows
    idf: Floats

    def __init__(self, m: int = 500, k: int = 100) -> None:
        super().__init__()
        self.m, self.k = m, k

    def fit(self, sessions: Sessions) -> None:
        """See `Estimator`."""
        self._know(sessions.item_ids)
        n_items = len(self.item_ids)
        self.edges, self.items = sessions.indptr, sessions.items
        self.starts, self.postings, _ = counting.postings(self.edges, self.items, n_items, self.m)
        everywhere, *_ = counting.item_counts(self.edges, self.items, n_items, 0)
        self.idf = np.log(len(sessions) / np.maximum(everywhere, 1)).astype(np.float32)

    def scored(self, recent: Rows) -> tuple[Rows, Floats]:
        """See `Estimator`."""
        known = recent[recent < len(self.item_ids)]
        scores = _vmis(known, self.starts, self.postings, self.edges, self.items, self.idf, self.k)
        if len(recent) and recent[-1] < len(scores):
            scores[recent[-1]] = 0.0
        rows = np.flatnonzero(scores).astype(np.int32)
        return rows, scores[rows]


@compiled
def _vmis(
    recent: Rows,
    starts: npt.NDArray[np.int64],
    postings: Rows,
    edges: npt.NDArray[np.int64],
    items: Rows,
    idf: Floats,
    k: int,
) -> Floats:
    """Scores of all items, shape ``(items,)``, 0 for those without a vote."""
    n = len(recent)
    touched = np.empty(starts[-1] if n else 0, dtype=np.int64)
    similar = np.zeros(len(edges) - 1, dtype=np.float64)
    newest = np.zeros(len(edges) - 1, dtype=np.int64)
    count = 0
    for place in range(n, 0, -1):
        item = recent[place - 1]
        if (recent[place:] == item).any():
            continue
        for e in range(starts[item], starts[item + 1]):
            s = postings[e]
            if similar[s] == 0.0:
                touched[count] = s
                newest[s] = n - place
                count += 1
            similar[s] += place / n
    ids = touched[:count]
    order = np.argsort(-(similar[ids] + 1e-9 * ids), kind="mergesort")[:k]
    scores = np.zeros(len(idf), dtype=np.float32)
    for s in ids[order]:
        weight = max(0.0, 1.0 - 0.1 * (newest[s] + 1)) * similar[s]
        for p in range(edges[s], edges[s + 1]):
            if not (items[edges[s] : p] == items[p]).any():
                scores[items[p]] += np.float32(weight * idf[items[p]])
    return scores
