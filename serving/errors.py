"""Errors over HTTP: one table, class -> status and problem type (RFC 9457). Room: serving.

Lookup follows ancestry, so a base class covers its children. Frameworks' own refusals (404, 405, 422 …) and bugs (500)
take the same form, so a caller parses one.
"""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from msgspec import UNSET, Struct, UnsetType
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from events.errors import EventError, KairosError, LogError, LogTimeout, ModelError, StoreError, StoreTimeout


class HttpError(KairosError):
    """A request that is refused for itself; the children say with which status."""

    def __init__(self, detail: str, *, code: str = "", pointer: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.pointer = pointer


class BadRequest(HttpError):
    """The request cannot be read."""


class Unauthorized(HttpError):
    """No key, or a wrong one."""


class Forbidden(HttpError):
    """A key, but not of enough power."""


class NotFound(HttpError):
    """No such thing."""


class BodyTooLarge(HttpError):
    """More bytes than the limit."""


class UnsupportedMedia(HttpError):
    """A body in a form that is not read here."""


class Unprocessable(HttpError):
    """The request can be read, but its values cannot be used."""


class Overloaded(HttpError):
    """Intake sheds."""

    def __init__(self, detail: str, *, retry_after_ms: int) -> None:
        super().__init__(detail, code="overloaded")
        self.retry_after_ms = retry_after_ms


class Row(NamedTuple):
    status: int
    code: str
    title: str
    retry_after_ms: int = 0


TABLE: Final[dict[type[Exception], Row]] = {
    BadRequest: Row(400, "bad_request", "The request cannot be read"),
    Unauthorized: Row(401, "unauthorized", "A key is needed"),
    Forbidden: Row(403, "forbidden", "This key may not do that"),
    NotFound: Row(404, "not_found", "There is no such thing"),
    BodyTooLarge: Row(413, "body_too_large", "The body is too large"),
    UnsupportedMedia: Row(415, "unsupported_media_type", "The body's form is not read here"),
    Unprocessable: Row(422, "invalid_request", "The request's values cannot be used"),
    EventError: Row(422, "invalid_event", "The event cannot be accepted"),
    Overloaded: Row(429, "overloaded", "Too much at once"),
    LogTimeout: Row(503, "log_timeout", "The event log did not answer in time", 1_000),
    LogError: Row(503, "log_unavailable", "The event log is not available", 1_000),
    StoreTimeout: Row(503, "store_timeout", "The state store did not answer in time", 500),
    StoreError: Row(503, "store_unavailable", "The state store is not available", 1_000),
    ModelError: Row(503, "model_unavailable", "The model cannot be used", 1_000),
    Exception: Row(500, "internal_error", "Something is broken on our side"),
}

#: Complaints about a whole body, which are no question of meaning.
_WHOLE: Final[dict[str, type[Exception]]] = {
    "malformed_json": BadRequest,
    "not_an_object": BadRequest,
    "too_deep": BadRequest,
    "body_too_large": BodyTooLarge,
}

PROBLEM_TYPE: Final = "application/problem+json"


class FieldProblem(Struct, omit_defaults=True):
    """What is wrong with one field."""

    pointer: str
    code: str
    detail: str


class Problem(Struct, omit_defaults=True, kw_only=True):
    """RFC 9457 problem details, with a word for programs, the request's id and the fields."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = ""
    code: str
    request_id: str = ""
    errors: list[FieldProblem] = []
    retry_after_ms: int | UnsetType = UNSET


def problem_of(err: Exception, request: Request | None = None, *, whole: bool = False) -> Problem:
    """Return the problem that an exception is.

    Parameters
    ----------
    whole
        An `EventError` about the body as a whole, not about one event in it.
    """
    row = next(TABLE[kind] for kind in type(err).__mro__ if kind in TABLE)
    code = getattr(err, "code", "") or row.code
    if whole and isinstance(err, EventError):
        row = TABLE[_WHOLE.get(code, Unprocessable)]
    pointer = getattr(err, "pointer", "")
    detail = str(err) if isinstance(err, KairosError) else "see the server's log under this request_id"
    return Problem(
        type=f"urn:kairos:problem:{code}",
        title=row.title,
        status=row.status,
        detail=detail,
        instance=request.url.path if request else "",
        code=code,
        request_id=request_id(request) if request else "",
        errors=[FieldProblem(pointer, code, detail)] if pointer else [],
        retry_after_ms=getattr(err, "retry_after_ms", row.retry_after_ms or UNSET),
    )


def respond(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    """Return the problem as a response."""
    sent = {"cache-control": "no-store", **{k.lower(): v for k, v in (headers or {}).items()}}
    if problem.retry_after_ms is not UNSET:
        sent["retry-after"] = str(math.ceil(problem.retry_after_ms / 1_000))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        sent["www-authenticate"] = 'Bearer realm="kairos"'
    return Response(msgspec.json.encode(problem), problem.status, sent, PROBLEM_TYPE)


def request_id(request: Request) -> str:
    """Return the id that the frame gave this request."""
    return str(request.scope.get("kairos.request_id", ""))


async def _on_kairos_error(request: Request, err: Exception) -> Response:
    return respond(problem_of(err, request, whole=True))


async def _on_http_exception(request: Request, err: Exception) -> Response:
    """Starlette's own: no such route, no such method."""
    if not isinstance(err, HTTPException):
        raise err
    code = HTTPStatus(err.status_code).name.lower()
    detail = f"{request.method} {request.url.path}: {err.detail}"
    headers = dict(err.headers or {})
    if err.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = _allowed(request)  # Starlette names the methods of the first route only
        detail += f"; allowed: {headers['allow']}"
    problem = Problem(
        type=f"urn:kairos:problem:{code}",
        title=HTTPStatus(err.status_code).phrase,
        status=err.status_code,
        detail=detail,
        instance=request.url.path,
        code=code,
        request_id=request_id(request),
    )
    return respond(problem, headers)


def _allowed(request: Request) -> str:
    """Return the methods of all routes at the request's path."""
    path = request.url.path
    there = [r for r in request.app.routes if isinstance(r, Route) and r.path_regex.match(path)]
    return ", ".join(sorted({method for route in there for method in route.methods or ()}))


async def _on_validation_error(request: Request, err: Exception) -> Response:
    """FastAPI's own validation, where a route uses it."""
    if not isinstance(err, RequestValidationError):
        raise err
    problem = problem_of(Unprocessable("the parameters cannot be used"), request)
    problem.errors = [_field(e) for e in err.errors()]
    return respond(problem)


def _field(error: dict[str, Any]) -> FieldProblem:
    return FieldProblem("/" + "/".join(str(part) for part in error["loc"]), str(error["type"]), str(error["msg"]))


async def _on_disconnect(_request: Request, _err: Exception) -> Response:
    """The caller left before the body was whole: nobody reads this."""
    return Response(status_code=400)


async def _on_bug(request: Request, err: Exception) -> Response:
    return respond(problem_of(err, request))


def install(app: FastAPI) -> None:
    """Let every error leave as a problem."""
    app.add_exception_handler(KairosError, _on_kairos_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_bug)
