"""Real sessions, played live: the events of a data set with the times of now, at a steady rate. Room: cli.

Called by `kairos demo` beside the simulator's traffic (`load_tests.traffic`), whose account it shares the form of. Who
was here once cannot react to a slate, so these visitors only look at it; simulated ones react.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from cli.demo_data import RealSession
from load_tests.account import TrafficReport
from load_tests.http_client import Answer, Client

_ASKS: Final = 0.5  # share of events after which a slate is asked for
_WITH_TOKEN: Final = 0.5  # of those, how many ask to see their own event
_WAIT_MS: Final = 500
_TRIES: Final = 5  # of a request without a definite answer
_LIMIT: Final = 12
_POPULAR: Final = ("popular", "cold_start", "catalog", "search")  # prefixes of sources that know nobody


@dataclasses.dataclass(slots=True)
class _Visitor:
    who: dict[str, str]
    acts: Iterator[tuple[str, str]]
    after: str = ""
    accepted: float = 0.0


class RealTraffic:
    """Plays sessions again and again; each round they are new visits of the same customers."""

    def __init__(self, url: str, sessions: Sequence[RealSession], *, rate: float, pace_s: float = 1.5) -> None:
        self.report = TrafficReport(started=time.monotonic())
        self._client = Client(url, connections=32)
        self._rate = rate
        self._pool = max(4, int(rate * pace_s))
        self._visits = self._endless(sessions)
        self._ready: deque[_Visitor] = deque()
        self._active = 0
        self._turns: set[asyncio.Task[None]] = set()
        self._cold: list[str] = []
        self._random = random.Random(0)

    async def play(self, stop: asyncio.Event) -> None:
        """Send until told to stop; what is under way is waited for."""
        due = time.monotonic()
        watch = asyncio.create_task(self._watch_cold_slate())
        try:
            while not stop.is_set():
                due += 1.0 / self._rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                turn = asyncio.create_task(self._turn(self._next()))
                self._turns.add(turn)
                turn.add_done_callback(self._turns.discard)
            while self._turns:
                await asyncio.gather(*self._turns)
        finally:
            for task in (watch, *self._turns):
                task.cancel()
            await asyncio.gather(watch, *self._turns, return_exceptions=True)
            await self._client.close()

    def _endless(self, sessions: Sequence[RealSession]) -> Iterator[_Visitor]:
        for number, session in enumerate(itertools.cycle(sessions)):
            visit = f"r-{session.session_id}-{number // len(sessions)}"
            who = {"session_id": visit}
            if session.customer_id:
                who["customer_id"] = session.customer_id
            else:
                who["anonymous_id"] = f"s:{visit}"
            yield _Visitor(who, iter(session.acts))

    def _next(self) -> _Visitor:
        if self._ready and self._active >= self._pool:
            return self._ready.popleft()
        self._active += 1
        self.report.sessions += 1
        return next(self._visits)

    async def _turn(self, visitor: _Visitor) -> None:
        act = next(visitor.acts, None)
        if act is None:
            self._active -= 1
            return
        name, item_id = act
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        event = {"event_id": str(uuid.uuid4()), "event": name, "timestamp": now, "sent_at": now, **visitor.who}
        await self._post(visitor, msgspec.json.encode({**event, "items": [{"item_id": item_id}]}))
        if self._random.random() < _ASKS:
            await self._ask(visitor)
        self._ready.append(visitor)

    async def _post(self, visitor: _Visitor, body: bytes) -> None:
        """Send one event until its outcome is known."""
        report, began = self.report, time.monotonic()
        report.events_sent += 1
        report.identities.add(visitor.who.get("customer_id") or visitor.who["anonymous_id"])
        for attempt in range(_TRIES):
            answer = await self._tried("/v1/events", body)
            if answer is not None and answer.status in (202, 422):
                report.event_latency.record_ns(int(1e9 * (time.monotonic() - began)))
                result = answer.json()
                report.accepted += len(result["accepted"])
                report.rejected += len(result["rejected"])
                if result["accepted"]:
                    visitor.after, visitor.accepted = result["accepted"][-1]["after"], time.monotonic()
                return
            await asyncio.sleep(0.1 * 2**attempt)
        report.unknown += 1

    async def _ask(self, visitor: _Visitor) -> None:
        ask: dict[str, Any] = {"placement": "home", "limit": _LIMIT, **visitor.who}
        after, visitor.after = visitor.after, ""  # freshness is of the click just made, never of an older one
        own = bool(after) and self._random.random() < _WITH_TOKEN
        if own:
            ask |= {"after": after, "wait_ms": _WAIT_MS}
        began = time.monotonic()
        answer = await self._tried("/v1/recommendations", msgspec.json.encode(ask))
        if answer is None or answer.status != 200:
            return
        ended, slate, report = time.monotonic(), answer.json(), self.report
        report.answers += 1
        report.answer_latency.record_ns(int(1e9 * (ended - began)))
        report.degraded += slate.get("degraded") is not None
        if own and slate.get("consistency") == "stale":
            report.stale += 1
        elif own:
            report.freshness.record_ns(int(1e9 * (ended - visitor.accepted)))
        sources = [item["source"] for item in slate["items"]]
        report.sources.update(sources)
        personal = any(not source.startswith(_POPULAR) for source in sources)
        report.personalised += personal and [item["item_id"] for item in slate["items"]] != self._cold

    async def _watch_cold_slate(self) -> None:
        """About once a second, see what a visitor gets of whom nothing is known."""
        for number in itertools.count():
            ask = {"placement": "home", "limit": _LIMIT, "anonymous_id": f"nobody-{number}"}
            answer = await self._tried("/v1/recommendations", msgspec.json.encode(ask))
            if answer is not None and answer.status == 200:
                self._cold = [item["item_id"] for item in answer.json()["items"]]
            await asyncio.sleep(1.0)

    async def _tried(self, path: str, body: bytes) -> Answer | None:
        try:
            answer = await self._client.send(path, body)
        except OSError as err:  # TimeoutError is one
            self.report.errors[type(err).__name__] += 1
            return None
        if answer.status not in (200, 202, 422):
            self.report.errors[str(answer.status)] += 1
        return answer
