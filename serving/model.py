"""The model that answers, swapped while it answers. Room: serving.

When `<data_dir>/models/active` names another version it is loaded, verified and warmed in a thread, its items get their
catalogue rows, then one reference is switched; requests that hold the old version finish on it, and its arrays are let
go in a thread. A version that cannot be loaded is reported once, and the old one stays.
"""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import structlog

from events.errors import ModelError
from models import artefact, registry
from models.recommender import Recommender
from serving.catalog import Catalog, Rows
from serving.metrics import Metrics

log = structlog.get_logger("serving")

_EVERY_S: Final = 0.5
_CHUNK: Final = 1_000  # ids that get their rows in one go: well under a millisecond of the loop


class ActiveModel(NamedTuple):
    """A loaded version and its place in the catalogue."""

    recommender: Recommender
    rows: Rows  # catalogue row of each row of the model's item table, (items,)
    name: str
    version: str


class ModelSlot:
    """Holds the active version, or None."""

    def __init__(self, data_dir: Path, catalog: Catalog, metrics: Metrics) -> None:
        self._data_dir = data_dir
        self._catalog = catalog
        self._metrics = metrics
        self._seen: Path | None = None
        self.active: ActiveModel | None = None
        self.checked = False

    async def follow(self) -> None:
        """Look twice a second which version is active."""
        while True:
            await self.refresh()
            self.checked = True
            await asyncio.sleep(_EVERY_S)

    async def refresh(self) -> None:
        """Load the active version if it is another one than last seen."""
        try:
            path = registry.active(self._data_dir)
        except (OSError, ModelError) as err:
            log.debug("model_pointer_unreadable", reason=str(err))
            return
        if path == self._seen:
            return
        self._seen = path
        if path is None:
            self._switch(None)
            return
        try:
            recommender = await asyncio.to_thread(artefact.load, path)
        except ModelError as err:
            self._metrics.model_loads.labels("failed").inc()
            log.error("model_refused", path=str(path), reason=str(err))
            return
        self._switch(ActiveModel(recommender, await self._place(recommender.item_ids), path.parent.name, path.name))
        gc.freeze()
        self._metrics.model_loads.labels("loaded").inc()
        log.info("model_loaded", name=path.parent.name, version=path.name, items=len(recommender.item_ids))

    async def _place(self, item_ids: list[str]) -> Rows:
        """Return the catalogue rows of a model's items, a chunk at a time so that answers go on."""
        rows = np.empty(len(item_ids), dtype=np.int32)
        for start in range(0, len(item_ids), _CHUNK):
            part = item_ids[start : start + _CHUNK]
            rows[start : start + len(part)] = self._catalog.rows(part)
            await asyncio.sleep(0)
        return rows

    def _switch(self, new: ActiveModel | None) -> None:
        old, self.active = self.active, new
        self._metrics.model.clear()
        if new is not None:
            self._metrics.model.labels(new.name, new.version).set(1)
        if old is not None:
            asyncio.get_running_loop().run_in_executor(None, _let_go, [old])
            del old


def _let_go(held: list[ActiveModel]) -> None:
    """Drop a version off the loop: unmapping and freeing its arrays takes milliseconds."""
    held.clear()
