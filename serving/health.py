"""Probes and metrics, outside of auth. Room: serving.

Live: the loop turns. Started: the log and the store were reached once. Ready: intake and answers work now: the store
answers, the catalogue is in memory, and the model that was active at the start, if any, is loaded. An API that cannot
reach its store still answers recommendations (degraded), so what is not ready is not dead.
"""

from __future__ import annotations

import asyncio

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from events.errors import KairosError
from serving.backends import Backends
from serving.catalog import Catalog
from serving.http import reply
from serving.metrics import CONTENT_TYPE, Metrics
from serving.model import ModelSlot

_PING_S = 0.5


class Health(Struct):
    """`status` is "ok" or "waiting"; `checks` names each condition."""

    status: str
    checks: dict[str, str]


class Probes:
    """The probe routes."""

    def __init__(self, backends: Backends, catalog: Catalog, models: ModelSlot, metrics: Metrics) -> None:
        self._backends = backends
        self._catalog = catalog
        self._models = models
        self._metrics = metrics

    async def live(self, _request: Request) -> Response:
        """The process answers."""
        return reply(Health("ok", {}))

    async def started(self, _request: Request) -> Response:
        """The log and the store were reached."""
        return _health({"backends": "ok" if self._backends.connected.is_set() else "not reached yet"})

    async def ready(self, _request: Request) -> Response:
        """Intake and personal answers work now."""
        checks = {"backends": "ok" if self._backends.connected.is_set() else "not reached yet"}
        if self._backends.connected.is_set():
            try:
                async with asyncio.timeout(_PING_S):
                    await self._backends.reader.heads()
                checks["store"] = "ok"
            except (KairosError, TimeoutError) as err:
                checks["store"] = str(err) or "did not answer in time"
            checks["catalog"] = "ok" if self._catalog.loaded else "is being loaded"
            checks["model"] = "ok" if self._models.checked else "is being loaded"
        return _health(checks)

    async def metrics(self, _request: Request) -> Response:
        """Counters in OpenMetrics text."""
        self._metrics.catalog_items.set(self._catalog.told_count)
        return Response(self._metrics.text(), media_type=CONTENT_TYPE, headers={"cache-control": "no-store"})


def _health(checks: dict[str, str]) -> Response:
    ok = all(word == "ok" for word in checks.values())
    return reply(Health("ok" if ok else "waiting", checks), 200 if ok else 503)
