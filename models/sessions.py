"""Sessions as arrays: the shape in which every estimator sees behaviour.

Room: models, pure. Made by `models.dataset` from files and events; it holds no customer and no session ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sessions:
    """Clicks of many sessions, in time order of the sessions.

    Parameters
    ----------
    indptr
        Where each session begins, shape ``(sessions + 1,)``, int64.
    items
        Item rows, oldest first, shape ``(clicks,)``, int32.
    start
        When each session began, ``(sessions,)``: milliseconds, or its number where there is no clock.
    item_ids
        The item table: row -> id.
    timed
        Whether `start` is a clock.
    by_user
        Whether these are whole sequences of users, not sessions.
    """

    indptr: npt.NDArray[np.int64]
    items: Rows
    start: npt.NDArray[np.int64]
    item_ids: list[str]
    timed: bool = True
    by_user: bool = False

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __iter__(self) -> Iterator[Rows]:
        for low, high in zip(self.indptr[:-1].tolist(), self.indptr[1:].tolist(), strict=True):
            yield self.items[low:high]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Clicks of each session."""
        return np.diff(self.indptr)

    def part(self, low: int, high: int) -> Sessions:
        """The sessions low .. high - 1, over the same item table."""
        edges = self.indptr[low : high + 1]
        items = self.items[edges[0] : edges[-1]]
        return Sessions(edges - edges[0], items, self.start[low:high], self.item_ids, self.timed, self.by_user)

    def without_last(self, count: int = 1) -> Sessions:
        """Each session without its last clicks; sessions that end up empty stay, empty."""
        kept = np.maximum(self.lengths - count, 0)
        place = np.arange(len(self.items)) - np.repeat(self.indptr[:-1], self.lengths)
        mask = place < np.repeat(kept, self.lengths)
        indptr = np.zeros(len(self) + 1, dtype=np.int64)
        np.cumsum(kept, out=indptr[1:])
        return Sessions(indptr, self.items[mask], self.start, self.item_ids, self.timed, self.by_user)
