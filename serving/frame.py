"""What surrounds every request: its id, its timing, its metrics; CORS where widgets call. Room: serving, pure ASGI."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.clock import new_id
from serving.metrics import Metrics

#: The only paths that pages of other origins may call.
WIDGET_PATHS: Final = ("/v1/events", "/v1/recommendations")
_MAX_ID: Final = 128


class Frame:
    """Gives each request an id (the caller's `X-Request-ID` if it is a plain one) and counts its outcome."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        name = _given_id(scope["headers"]) or new_id(time.time_ns() // 1_000_000).encode()
        scope["kairos.request_id"] = name.decode()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message["headers"] = [*message["headers"], (b"x-request-id", name)]
                if (stages := scope.get("kairos.stages")) is not None:
                    headers.append((b"server-timing", server_timing(stages, time.perf_counter() - began)))
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "unknown") if route is not None else "unknown"
            self._metrics.answered(path, status, time.perf_counter() - began)


class WidgetCors:
    """Lets pages of the given origins call the widget paths, and nothing else."""

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        self._plain = app
        self._cors = CORSMiddleware(
            app,
            allow_origins=tuple(origins),
            allow_methods=("GET", "POST"),
            allow_headers=("content-type", "x-api-key", "x-request-id"),
            expose_headers=("x-request-id", "server-timing", "retry-after"),
            max_age=86_400,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._cors if scope["type"] == "http" and scope["path"] in WIDGET_PATHS else self._plain
        await app(scope, receive, send)


def server_timing(stages: Iterable[tuple[str, float]], total_s: float) -> bytes:
    """Return the header's value: milliseconds by stage, then the total."""
    parts = [f"{name};dur={seconds * 1_000:.2f}" for name, seconds in stages]
    parts.append(f"total;dur={total_s * 1_000:.2f}")
    return ", ".join(parts).encode()


def _given_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for key, value in headers:
        if key == b"x-request-id":
            return value if 0 < len(value) <= _MAX_ID and all(33 <= byte <= 126 for byte in value) else b""
    return b""
