"""The application, as a wiring diagram. Room: serving. `cli.api` runs it; tests run it, too.

::

    settings ─► Backends (log appender, state reader, dead letters)
                   │            ├─► Watch (lag, memory) ─► Collect ─► POST /v1/events
                   │            ├─► CatalogFollower ─► Catalog ──┐
                   │            ├─► PopularLists ────────────────┤
    data_dir ─► ModelSlot ──────────────────────────────────────┼─► Recommend ─► /v1/recommendations
                   └─► Looker (breaker, `after`) ───────────────┘       └─► Impressions ─► log
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import structlog
from fastapi import FastAPI

from serving import errors, openapi
from serving.auth import Access
from serving.backends import Backends
from serving.catalog import Catalog
from serving.collect import Collect
from serving.customers import Customers
from serving.follow import CatalogFollower
from serving.frame import Frame, WidgetCors
from serving.health import Probes
from serving.http import DirectRoute
from serving.impressions import Impressions
from serving.items import Items
from serving.look import Looker
from serving.metrics import Metrics
from serving.model import ModelSlot
from serving.popular import PopularLists
from serving.recommend import Recommend
from serving.settings import ServingSettings
from serving.watch import Watch

log = structlog.get_logger("serving")

_FLUSH_S: Final = 2.0
_AGAIN_S: Final = 1.0

Task = Callable[[], Awaitable[None]]


def create_app(settings: ServingSettings) -> FastAPI:
    """Return the application; nothing is connected before its lifespan begins."""
    settings.check()
    metrics = Metrics()
    access = Access(settings.secret_key, settings.publishable_key)
    backends = Backends(settings)
    catalog = Catalog()
    popular = PopularLists(catalog, metrics)
    models = ModelSlot(settings.data_dir, catalog, metrics)
    watch = Watch(backends, settings, metrics)
    impressions = Impressions(backends, metrics, settings.impressions_buffer)
    looker = Looker(backends, settings, metrics)

    collect = Collect(backends, catalog, access, watch, metrics)
    shown = impressions if settings.log_impressions else None
    recommend = Recommend(looker, catalog, popular, models, shown, watch, access, metrics)
    items = Items(backends, access)
    customers = Customers(backends, access)
    probes = Probes(backends, catalog, models, metrics)

    tasks: dict[str, Task] = {
        "connect": backends.connect,
        "catalog": CatalogFollower(backends, catalog, metrics).follow,
        "popular": lambda: popular.follow(backends),
        "models": models.follow,
        "watch": watch.follow,
        "impressions": impressions.follow,
    }
    app = FastAPI(
        title="Kairos",
        summary="Real-time personalization: a click becomes a feature becomes a better next page.",
        version=openapi.VERSION,
        lifespan=_lifespan(tasks, impressions, backends),
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours: `serving.metrics`
    )
    app.state.models = models
    app.router.route_class = DirectRoute
    routes: list[tuple[str, str, Callable[..., Any]]] = [
        ("POST", "/v1/recommendations", recommend.post),  # the busiest first: routes are tried in order
        ("POST", "/v1/events", collect.events),
        ("GET", "/v1/recommendations", recommend.get),
        ("PUT", "/v1/catalog/items", items.put),
        ("GET", "/v1/catalog/items/{item_id:path}", items.get),
        ("GET", "/v1/customers/{customer_id:path}", customers.get),
        ("GET", "/livez", probes.live),
        ("GET", "/readyz", probes.ready),
        ("GET", "/startupz", probes.started),
        ("GET", "/metrics", probes.metrics),
    ]
    for method, path, function in routes:
        app.add_api_route(path, function, methods=[method], **openapi.operation(method, path, access))
    app.router.routes.sort(key=lambda route: not isinstance(route, DirectRoute))  # ours before the documents'
    errors.install(app)
    openapi.install(app, access)
    app.add_middleware(WidgetCors, origins=settings.cors_origins)
    app.add_middleware(Frame, metrics=metrics)
    return app


def _lifespan(
    tasks: dict[str, Task], impressions: Impressions, backends: Backends
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        running = [asyncio.create_task(_kept(name, task), name=name) for name, task in tasks.items()]
        try:
            yield
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await impressions.flush(_FLUSH_S)
            await backends.close()

    return lifespan


async def _kept(name: str, task: Task) -> None:
    """Run a background task; a bug in one is logged and the task begun again, while the others go on."""
    while True:
        try:
            await task()
            return
        except Exception:
            log.exception("task_failed", task=name)
            await asyncio.sleep(_AGAIN_S)
