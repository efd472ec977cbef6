"""Requests in, responses out: what all routes share. Room: serving.

Bodies are read here with a limit, parsed by msgspec in the route, and answers leave as encoded bytes: FastAPI's own
validation and encoding would cost more than the recommendation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.errors import BadRequest, BodyTooLarge, UnsupportedMedia

JSON: Final = "application/json"
_encode = msgspec.json.Encoder().encode

Handler = Callable[[Request], Awaitable[Response]]


class DirectRoute(APIRoute):
    """A route whose function takes the request and returns the response, without FastAPI's dependency solving.

    It stands in the OpenAPI document like any other, by its `openapi_extra` and `responses`.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


def reply(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a personal answer, which nobody may cache."""
    sent = {"cache-control": "private, no-store"}
    if headers:
        sent.update(headers)
    return Response(_encode(content), status, sent, JSON)


async def read_body(request: Request, *, limit: int, text: bool = False) -> bytes:
    """Return the body of a request.

    Parameters
    ----------
    limit
        Most bytes; counted while they arrive.
    text
        Whether ``text/plain`` is JSON too (beacons send it, to need no preflight).

    Raises
    ------
    UnsupportedMedia
        Another content type, or a compressed body.
    BodyTooLarge
        More than `limit` bytes.
    """
    headers = request.headers
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind in ("", JSON) or kind.endswith("+json") or (text and kind == "text/plain")):
        raise UnsupportedMedia(f"content-type {kind!r} is not read here: send application/json")
    if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise UnsupportedMedia("compressed bodies are not read: send it without Content-Encoding")
    if (length := headers.get("content-length", "")).isdigit() and int(length) > limit:
        raise BodyTooLarge(f"the body has {int(length):,} bytes, the limit is {limit:,}")
    body: bytes = b""
    receive = request.receive
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge(f"the body has more than {limit:,} bytes")
        if not message.get("more_body", False):
            return body


def refuse_unknown_query(request: Request, known: Collection[str] = ()) -> None:
    """Refuse query parameters that mean nothing here: a typo would be an unnoticed wish."""
    if not request.scope["query_string"]:
        return
    for name in request.query_params:
        if name not in known:
            there = f"known are {', '.join(sorted(known))}" if known else "there are none here"
            raise BadRequest(f"unknown query parameter {name[:64]!a}: {there}", code="unknown_parameter")


def iso(at_ms: int) -> str:
    """Return epoch milliseconds as RFC 3339, UTC, with milliseconds.

    >>> iso(1_795_312_800_123)
    '2026-11-22T02:00:00.123Z'
    """
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
