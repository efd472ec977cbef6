"""POST /v1/events: judge each event by itself, append what is good, keep what is not, say so. Room: serving.

202 is answered after the log has accepted; what was refused is in the dead letters by then. Nothing is applied here:
the flow is the only writer of state, and it judges repeats over time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct
from starlette.requests import Request
from starlette.responses import Response

from events.errors import EventError
from events.letters import DeadLetter
from events.schema import Event, records_of
from events.shapes import MAX_BODY_BYTES
from events.wire import Body, Notice, decode, split_body
from serving.auth import Access
from serving.backends import Backends
from serving.catalog import Catalog
from serving.errors import Problem, problem_of, request_id, respond
from serving.http import read_body, refuse_unknown_query, reply
from serving.metrics import Metrics
from serving.tokens import After, encode_after, log_hash
from serving.watch import Watch

_MAX_WARNINGS: Final = 100
_BITE: Final = 40  # events judged in one go: half a millisecond


class Accepted(Struct):
    """The log has it; `after` names its place for read-your-own-click."""

    event_id: str
    after: str


class Repeated(Struct):
    """The same event_id stood in this request before."""

    index: int
    event_id: str


class Rejected(Struct):
    """It was refused, and is kept in the dead letters."""

    index: int
    event_id: str
    problem: Problem


class EventWarning(Struct):
    """It was accepted, but perhaps not as it was meant."""

    index: int
    event_id: str
    pointer: str
    code: str
    detail: str


class Collected(Struct):
    """What became of each event of the request."""

    accepted: list[Accepted]
    repeated: list[Repeated]
    rejected: list[Rejected]
    warnings: list[EventWarning]


class CollectProblem(Problem, kw_only=True):
    """All events were refused."""

    accepted: list[Accepted]
    repeated: list[Repeated]
    rejected: list[Rejected]
    warnings: list[EventWarning]


class _Named(Struct):
    event_id: object = None


_named = msgspec.json.Decoder(_Named)


class Collect:
    """The intake."""

    def __init__(self, backends: Backends, catalog: Catalog, access: Access, watch: Watch, metrics: Metrics) -> None:
        self._backends = backends
        self._catalog = catalog
        self._access = access
        self._watch = watch
        self._metrics = metrics

    async def events(self, request: Request) -> Response:
        """Take in one event or a batch."""
        self._access.widget(request)
        refuse_unknown_query(request)
        self._watch.admit()
        raw = await read_body(request, limit=MAX_BODY_BYTES, text=True)
        now_ms = time.time_ns() // 1_000_000
        try:
            body = split_body(raw)
        except EventError as err:  # nobody can tell its events apart: the whole body is one letter
            await self._backends.letters.keep([_letter(raw, "", err, now_ms)])
            self._metrics.events.labels("rejected").inc()
            raise
        if body.historical:
            self._access.history(request)
        result, events, letters = await self._judge(body, now_ms)
        if letters:
            await self._backends.letters.keep(letters)
        if events:
            appender = self._backends.appender
            records = records_of(events, appender.partitions)
            positions = await appender.append(records)
            log = log_hash(appender.log_id)
            result.accepted = [
                Accepted(event.event_id, encode_after(After(log, partition, position)))
                for event, (partition, _), position in zip(events, records, positions, strict=True)
            ]
        for outcome, n in (
            ("accepted", len(events)),
            ("repeated", len(result.repeated)),
            ("rejected", len(result.rejected)),
        ):
            if n:
                self._metrics.events.labels(outcome).inc(n)
        if result.accepted or result.repeated:
            return reply(result, 202)
        return respond_refusal(result, request)

    async def _judge(self, body: Body, now_ms: int) -> tuple[Collected, list[Event], list[DeadLetter]]:
        result = Collected([], [], [], [])
        events: list[Event] = []
        letters: list[DeadLetter] = []
        seen: set[str] = set()
        for index, raw in enumerate(body.events):
            if index % _BITE == _BITE - 1:
                await asyncio.sleep(0)  # a large batch must not hold up answers
            try:
                event, notices = decode(raw, received_ms=now_ms, sent_at=body.sent_at, historical=body.historical)
            except EventError as err:
                event_id = _event_id(raw)
                result.rejected.append(Rejected(index, event_id, problem_of(err)))
                letters.append(_letter(raw, event_id, err, now_ms))
                continue
            if event.event_id in seen:
                result.repeated.append(Repeated(index, event.event_id))
                continue
            seen.add(event.event_id)
            self._catalog.stamp(event)
            events.append(event)
            if notices and len(result.warnings) < _MAX_WARNINGS:
                result.warnings.extend(_warnings(index, event.event_id, notices))
        return result, events, letters


def respond_refusal(result: Collected, request: Request) -> Response:
    """Return the 422 of a request of which nothing was accepted."""
    first = result.rejected[0].problem
    single = len(result.rejected) == 1
    problem = CollectProblem(
        type="urn:kairos:problem:events_rejected" if not single else first.type,
        title="No event was accepted",
        status=422,
        detail=first.detail if single else f"all {len(result.rejected)} events were refused; the first: {first.detail}",
        instance=request.url.path,
        code=first.code if single else "events_rejected",
        request_id=request_id(request),
        errors=first.errors if single else [],
        rejected=result.rejected,
        repeated=result.repeated,
        accepted=result.accepted,
        warnings=result.warnings,
    )
    return respond(problem)


def _warnings(index: int, event_id: str, notices: Sequence[Notice]) -> list[EventWarning]:
    return [EventWarning(index, event_id, n.pointer, n.code, n.detail) for n in notices]


def _letter(raw: bytes | Raw, event_id: str, err: EventError, now_ms: int) -> DeadLetter:
    return DeadLetter(
        reason=err.detail,
        code=err.code,
        source="intake",
        original=bytes(raw),
        pointer=err.pointer,
        event_id=event_id,
        at_ms=now_ms,
    )


def _event_id(raw: Raw) -> str:
    """Return the event_id that a refused event names, if it can be read."""
    try:
        name = _named.decode(raw).event_id
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""
    return name[:256] if isinstance(name, str) else ""
