"""The recommended session model at work: retrieve, then rank.

Room: models. Serving holds one `Recommender` per loaded version and calls `candidates`, filters, then `rank`; the
evaluation calls `recommend`. No sockets, no files (see `models.artefact`), no global state: two versions can live in
one process, and threads may share one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from models import embedding, query
from models.features import N_FEATURES
from models.index import Index, Scratch, frozen
from models.params import HISTORY, SOURCES, Params
from models.ranker import OnnxRanker
from models.sessions import Floats, Rows


@dataclass(frozen=True)
class Candidates:
    """What retrieval found for one session, best first by the fused score.

    Parameters
    ----------
    rows
        Rows of the model's item table, ``(n,)`` int32.
    scores
        Fused retrieval scores, ``(n,)`` float32.
    sources
        Index into `Recommender.sources`: the retriever that spoke loudest, ``(n,)`` uint8.
    features
        What the ranker reads, ``(n, features)`` float32, columns `models.features.FEATURES`.
    unseen
        Ids of the session's items that the item table lacks: the j-th has row ``len(item_ids) + j``.
    """

    rows: Rows
    scores: Floats
    sources: npt.NDArray[np.uint8]
    features: Floats
    unseen: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, which: npt.NDArray[Any]) -> Candidates:
        """The candidates of a mask ``(n,)`` or of places, in that order."""
        rows, scores, sources = self.rows[which], self.scores[which], self.sources[which]
        return Candidates(rows, scores, sources, self.features[which], self.unseen)


@dataclass(frozen=True, slots=True)
class Scored:
    """One recommended item."""

    item_id: str
    score: float
    source: str


NOTHING = Candidates(
    np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.uint8), np.zeros((0, N_FEATURES), np.float32)
)


class Recommender:
    """Session neighbours, session memory, directed co-occurrence and item vectors, fused, then ranked.

    Parameters
    ----------
    item_ids
        The item table: row -> id.
    index
        Arrays of the retrievers.
    params
        Parameters the index was built with.
    ranker
        Scores candidates; without one, the fused retrieval score decides.
    manifest
        Facts about the version: name, version, metrics and so on.
    """

    sources: tuple[str, ...] = SOURCES

    def __init__(
        self,
        item_ids: list[str],
        index: Index,
        params: Params,
        ranker: OnnxRanker | None = None,
        manifest: Mapping[str, Any] | None = None,
    ) -> None:
        self.item_ids = item_ids
        self.params = params
        self.ranker = ranker
        self.manifest: Mapping[str, Any] = manifest or {}
        self.row_of: dict[str, int] = {item: row for row, item in enumerate(item_ids)}
        self.index = index
        self._vectors = index.vectors
        self._numbers = frozen(params.vector())
        self._arrays = (
            index.starts, index.postings, index.places, index.edges, index.items, index.weight, index.idf,
            index.co_starts, index.co_items, index.co_values, index.facts, index.vectors, self._numbers,
        )  # fmt: skip
        self._local = threading.local()

    @property
    def name(self) -> str:
        """Name of the model, empty for one that was never saved."""
        return str(self.manifest.get("name", ""))

    @property
    def version(self) -> str:
        """Version of the model, empty for one that was never saved."""
        return str(self.manifest.get("version", ""))

    def rows(self, items: Sequence[str]) -> tuple[Rows, list[str]]:
        """Rows of the newest 50 items, oldest first, and the ids of those that the item table lacks.

        The j-th unseen item gets row ``len(item_ids) + j``.
        """
        row_of, unseen = self.row_of, list[str]()
        rows = np.empty(min(len(items), HISTORY), dtype=np.int32)
        for place, item in enumerate(items[-HISTORY:]):
            row = row_of.get(item, -1)
            if row < 0:
                if item not in unseen:
                    unseen.append(item)
                row = len(row_of) + unseen.index(item)
            rows[place] = row
        return rows, unseen

    def candidates(self, recent: Sequence[str], k: int = 200, *, unseen: bool = False) -> Candidates:
        """Up to k candidates for a session given its items, newest last.

        Parameters
        ----------
        recent
            Item ids of the session, newest last; the newest 50 count.
        k
            How many candidates at most.
        unseen
            Let session memory offer items that the item table lacks too (new since training). Their rows are
            ``len(item_ids) + j`` with the id ``candidates.unseen[j]``; `ids` resolves both kinds.

        Returns
        -------
            None found when the session is empty or none of its items is known (and `unseen` is off).
        """
        rows, strangers = self.rows(recent)
        found = self.retrieve(rows, k)
        if not strangers:
            return found
        if not unseen:
            return found.take(found.rows < len(self.item_ids)) if len(strangers) < len(set(recent)) else NOTHING
        return replace(found, unseen=tuple(strangers))

    def ids(self, candidates: Candidates) -> list[str]:
        """Item ids of candidates, unseen ones included."""
        table, n = self.item_ids, len(self.item_ids)
        return [table[row] if row < n else candidates.unseen[row - n] for row in candidates.rows.tolist()]

    def retrieve(self, recent: Rows, k: int = 200) -> Candidates:
        """The same from rows as `rows` gives them."""
        if len(recent) == 0:
            return NOTHING
        vector = query.session_vector(recent, self._vectors, self.params.position_decay)
        similar, found = embedding.search(self.index.vector_index, vector, self.params.found)
        scratch = getattr(self._local, "scratch", None)
        if scratch is None:
            scratch = self._local.scratch = Scratch(self.index).arrays()
        return Candidates(*query.retrieve(recent, vector, found, similar, k, *self._arrays, *scratch))

    def rank(self, candidates: Candidates) -> Floats:
        """Scores ``(n,)``, higher is better; each depends on its own row only, so filters may come first."""
        return candidates.scores if self.ranker is None else self.ranker.score(candidates.features)

    def recommend(self, items: Sequence[str], *, k: int = 20) -> list[Scored]:
        """The k best items for a session, best first."""
        found = self.candidates(items, unseen=True)
        scores = self.rank(found)
        best = np.argsort(-scores, kind="stable")[:k]
        found, scores = found.take(best), scores[best]
        described = zip(self.ids(found), scores.tolist(), found.sources.tolist(), strict=True)
        return [Scored(item, score, SOURCES[source]) for item, score, source in described]

    def scored(self, recent: Rows) -> tuple[Rows, Floats]:
        """Rows and scores of the candidates; rows at or beyond the table are unseen items, named alike in and out."""
        n = len(self.item_ids)
        asked, strangers = recent[-HISTORY:], list[int]()
        if len(asked) and asked.max() >= n:
            strangers = list(dict.fromkeys(asked[asked >= n].tolist()))
            number = {row: n + place for place, row in enumerate(strangers)}
            asked = np.array([number.get(row, row) for row in asked.tolist()], dtype=np.int32)
        found = self.retrieve(np.ascontiguousarray(asked))
        rows = found.rows
        if strangers:
            unseen = rows >= n
            rows[unseen] = np.array(strangers, dtype=np.int32)[rows[unseen] - n]
        return rows, self.rank(found)

    def unranked(self) -> Recommender:
        """The same retrievers without the ranker, for ablations."""
        return Recommender(self.item_ids, self.index, self.params)

    def warm(self) -> None:
        """Answer once from each part, so that compiled code and buffers are there before the first request."""
        if self.item_ids:
            self.rank(self.retrieve(np.zeros(1, dtype=np.int32)))
        if self.ranker is not None:
            self.ranker.warm()
