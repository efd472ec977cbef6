"""The popularity lists in memory: what everybody gets when nothing else is known. Room: serving.

The materialiser writes one blob about every second; this takes it over when its version changed. It is also what
answers stand on when the store is gone, so the last lists stay until better ones come.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog

from events.errors import KairosError
from feature_store.popular import Popular
from serving.backends import Backends
from serving.catalog import Catalog, Rows
from serving.metrics import Metrics

log = structlog.get_logger("serving")

_EVERY_S: Final = 1.0

#: Rows ``(n,)``, best first, and their scores ``(n,)``.
Ranked = tuple[Rows, npt.NDArray[np.float32]]
_NONE: Final[Ranked] = (np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))


class PopularLists:
    """Catalogue rows by popularity, of the whole shop and by category."""

    def __init__(self, catalog: Catalog, metrics: Metrics) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._by_category: dict[str, Ranked] = {}
        self.version = 0
        self.at_ms = 0
        self.overall: Ranked = _NONE

    def take(self, popular: Popular) -> None:
        """Take over a materialised version."""
        rows = self._catalog.rows(popular.item_ids)
        scores = popular.score_array()
        self._by_category = {c: (rows[places], scores[places]) for c, places in popular.by_category.items()}
        self.overall = rows[popular.top], scores[popular.top]
        self.version, self.at_ms = popular.version, popular.at_ms

    def in_category(self, category: str) -> Ranked:
        """Return what is popular in a category, or in the nearest one above it that has a list."""
        while category:
            ranked = self._by_category.get(category)
            if ranked is not None:
                return ranked
            category = category.rpartition("/")[0]
        return _NONE

    async def follow(self, backends: Backends) -> None:
        """Look for a new version every second."""
        await backends.connected.wait()
        while True:
            try:
                if await backends.reader.popular_version() != self.version:
                    popular = await backends.reader.popular()
                    if popular is not None:
                        self.take(popular)
            except KairosError as err:
                log.debug("popular_unreachable", reason=str(err))
            if self.at_ms:
                self._metrics.popular_age.set(max(time.time() - self.at_ms / 1_000, 0))
            await asyncio.sleep(_EVERY_S)
