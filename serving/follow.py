"""Keeps the catalogue in memory current: all of it at start, then every change. Room: serving.

Changes are read from each partition's `items:changes` stream four times a second and more; a reader that fell behind
what the streams keep loads everything anew, in small bites between which answers go on.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from typing import Final

import structlog

from events.errors import KairosError
from feature_store.codec import decode_item
from serving.backends import Backends
from serving.catalog import Catalog
from serving.metrics import Metrics

log = structlog.get_logger("serving")

_EVERY_S: Final = 0.2
_RETRY_S: Final = 1.0
_BITE: Final = 200
_CHANGES: Final = 100
_BEGIN: Final = "0-0"


class CatalogFollower:
    """Fills a `Catalog` from the store."""

    def __init__(self, backends: Backends, catalog: Catalog, metrics: Metrics) -> None:
        self._backends = backends
        self._catalog = catalog
        self._metrics = metrics

    async def follow(self) -> None:
        """Load, then tail; begin again when the tail was cut or the store was away."""
        await self._backends.connected.wait()
        while True:
            try:
                await self._tail(await self._load())
            except KairosError as err:
                log.debug("catalog_unreachable", reason=str(err))
                await asyncio.sleep(_RETRY_S)

    async def _load(self) -> dict[int, str]:
        """Load every partition's items; return where the change streams stood before."""
        reader = self._backends.reader
        after = await reader.last_changes()
        for partition in range(reader.partitions):
            cursor = 0
            while True:
                cursor, found = await reader.all_items(partition, cursor, _BITE)
                self._update(found)
                if not cursor:
                    break
        if not self._catalog.loaded:
            self._catalog.loaded = True
            await asyncio.to_thread(gc.collect)
            gc.freeze()  # what lives for ever is not looked through again
        log.info("catalog_loaded", items=self._catalog.told_count)
        return after

    async def _tail(self, after: dict[int, str]) -> None:
        """Apply changes until a stream was trimmed past where we stood."""
        reader = self._backends.reader
        while True:
            await asyncio.sleep(_EVERY_S)
            news = await reader.changes(after, _CHANGES)
            if news and await self._was_cut(after):
                return
            for partition, changes in news.items():
                for change_id, items in changes:
                    after[partition] = change_id
                    self._update(items)
                    await asyncio.sleep(0)
            self._metrics.catalog_behind.set_to_current_time()

    async def _was_cut(self, after: dict[int, str]) -> bool:
        """Whether a stream no longer holds the first change after where we stand."""
        for partition, oldest in (await self._backends.reader.oldest_changes()).items():
            if after[partition] != _BEGIN and _number(oldest) > _number(after[partition]):
                log.warning("catalog_tail_cut", partition=partition)
                return True
        return False

    def _update(self, encoded: Mapping[str, bytes]) -> None:
        self._catalog.update([decode_item(value) for value in encoded.values()])


def _number(entry_id: str) -> tuple[int, int]:
    ms, _, seq = entry_id.partition("-")
    return int(ms), int(seq)
