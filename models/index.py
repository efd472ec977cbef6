"""The index: what sessions teach the retrievers, as flat arrays that can be mapped and shared.

Room: models. `build` trains it, `models.query` reads it. Sessions in it are numbers in time order, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from models import counting, embedding
from models.params import HISTORY, Params
from models.sessions import Floats, Rows, Sessions

RECENT_SHARE = 0.1  # of the sessions, for recent popularity


@dataclass(frozen=True)
class Index:
    """Arrays of the retrievers; `vector_index` is FAISS's.

    Postings (`starts, postings, places`) list each item's newest sessions; `edges, items, weight` are the sessions;
    `co_*` the co-occurrence lists; `facts` ``(items + 1, 5)`` the item columns of the ranker, the last row for unseen
    items; `vectors` the item vectors.
    """

    starts: npt.NDArray[np.int64]
    postings: Rows
    places: Rows
    edges: npt.NDArray[np.int64]
    items: Rows
    weight: Floats
    idf: Floats
    co_starts: npt.NDArray[np.int64]
    co_items: Rows
    co_values: Floats
    facts: Floats
    vectors: Floats
    vector_index: Any

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All but the FAISS index, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "vector_index"}


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A read-only view: mapped and fitted arrays then have one type, and the query compiles once."""
    view = np.ascontiguousarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view


def build(sessions: Sessions, params: Params, vectors: Floats | None = None) -> Index:
    """Fit every retriever on the sessions; `vectors` may be given where they are fitted already."""
    n_items, n = len(sessions.item_ids), len(sessions)
    age = (n - 1 - np.arange(n)) / max(n, 1)
    flat = np.ones(n) if sessions.by_user else np.exp(-params.recency * age)
    weight = flat.astype(np.float32)
    everywhere, recent, returned, newest = counting.item_counts(
        sessions.indptr, sessions.items, n_items, int(n * (1 - RECENT_SHARE))
    )
    all_starts, all_sessions, _ = counting.postings(sessions.indptr, sessions.items, n_items, n)
    co_starts, co_items, co_values = counting.together(
        sessions.indptr, sessions.items, weight, all_starts, all_sessions, everywhere, params.co_items
    )
    starts, newest_sessions, places = counting.postings(sessions.indptr, sessions.items, n_items, params.postings)
    idf = np.log((n + 1) / (everywhere + 1)).astype(np.float32) + np.float32(0.1)
    if vectors is None:
        vectors = embedding.fit(sessions, params.dimension, params.seed)
    found = embedding.build_index(vectors, params.seed)
    facts = _facts(everywhere, recent, returned, newest, n)
    arrays = (
        starts, newest_sessions, places, sessions.indptr, sessions.items, weight, idf,
        co_starts, co_items, co_values, facts, vectors,
    )  # fmt: skip
    return of_arrays(arrays, found)


def of_arrays(arrays: Iterable[npt.NDArray[Any]], vector_index: Any) -> Index:
    """An index of arrays in the order of its fields."""
    names = [f.name for f in fields(Index) if f.name != "vector_index"]
    named: dict[str, Any] = {name: frozen(array) for name, array in zip(names, arrays, strict=True)}
    return Index(**named, vector_index=vector_index)


def _facts(
    everywhere: npt.NDArray[np.int64],
    recent: npt.NDArray[np.int64],
    returned: npt.NDArray[np.int64],
    newest: npt.NDArray[np.int64],
    n: int,
) -> Floats:
    """Item columns of the ranker, in shares so that a shop of another size looks alike."""
    everywhere, recent, returned = (np.append(counts, 0) for counts in (everywhere, recent, returned))
    newest = np.append(newest, -1)
    share = (everywhere + 1) / (n + 1)
    recent_share = (recent + RECENT_SHARE) / (RECENT_SHARE * n + 1)
    usual = returned.sum() / max(everywhere.sum(), 1)
    returns = (returned + 5 * usual) / (everywhere + 5)
    staleness = np.where(newest >= 0, (n - 1 - newest) / max(n, 1), 1.0)
    columns = (np.log(share), np.log(recent_share), np.log(recent_share / share), returns, staleness)
    return np.stack(columns, axis=1).astype(np.float32)


class Scratch:
    """Working memory of one thread's queries; every query leaves it as it found it."""

    def __init__(self, index: Index) -> None:
        from models.query import CAPACITY, WIDTH

        n_items, n_sessions = len(index.idf), len(index.weight)
        self.slots = np.full(n_items + HISTORY, -1, dtype=np.int32)
        self.held = np.empty(CAPACITY, dtype=np.int32)
        self.sums = np.zeros((CAPACITY, WIDTH), dtype=np.float32)
        self.similar = np.zeros(n_sessions, dtype=np.float32)
        self.match = np.zeros(n_sessions, dtype=np.int32)
        self.touched = np.empty(n_sessions, dtype=np.int32)

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """In the order in which the query kernel takes them."""
        return self.slots, self.held, self.sums, self.similar, self.match, self.touched
