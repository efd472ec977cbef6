"""Live shop traffic against an API: sessions that see slates and react to them. Room: load_tests.

Called by `kairos demo` and by tests. Events go out on a schedule (an open loop of `rate` events a second, in bursts as
a campaign makes them); which session has its turn is round robin, so a visitor thinks for about `pace_s`. Everything
that is sent is in the report's account: what must be refused was broken on purpose and is counted beforehand.

Absent: starting a stack, loading a catalogue (`load_tests.prepare`), reading the state store.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import httptools
import msgspec

from load_tests.account import TrafficReport
from load_tests.http_client import Answer, Client
from load_tests.simulator.dice import Dice
from load_tests.simulator.shopping import Plan, Shopping, Shown, Step, shop
from load_tests.simulator.stream import BATCH, BATCHED, BEACON, BROKEN, REPEATED, plans
from load_tests.simulator.wire import break_event, encode_json, rfc3339, stamp
from load_tests.simulator.world import World

ASKS: Final = 0.6  # share of pages that show a slate
WITH_TOKEN: Final = 0.5  # of those, how many ask to see their own click
WAIT_MS: Final = 500  # how long such an ask lets the API wait
TRIES: Final = 5  # of a request without a definite answer
BURST_S, BURST_EVERY_S, BURST_FACTOR = 1.0, 8.0, 2.0  # the schedule's bursts; the mean rate stays

#: Sources that say nothing of the visitor: popularity, what fills a slate up, and what the words of a search match.
IMPERSONAL: Final = ("popular", "cold_start", "catalog", "search")

Tick = Callable[[TrafficReport], None]


async def play(
    url: str,
    *,
    seconds: float,
    rate: float = 200.0,
    seed: int = 0,
    on_tick: Tick | None = None,
    world: World | None = None,
    pace_s: float = 1.5,
    limit: int = 12,
) -> TrafficReport:
    """Play traffic for so long and return its exact account.

    Parameters
    ----------
    url
        Of the API, ``http://127.0.0.1:8000``; its catalogue must hold the items of `world`.
    seconds
        How long events are sent; answers under way are waited for. Cancelling ends it earlier.
    rate
        Events a second, on average.
    seed
        Equal seeds give the same visitors in the same order; what they see, and so what they do, is the API's.
    on_tick
        Called twice a second with the report so far.
    world
        The shop; by default 1,000 items and 10,000 customers of the seed.
    pace_s
        Mean seconds between two events of a visitor.
    limit
        Items in a slate.
    """
    world = world if world is not None else World(seed=seed)
    client = Client(url, connections=128)
    driver = _Driver(client, world, seed, rate, pace_s, limit)
    background = [asyncio.create_task(driver.watch_cold_slates())]
    if on_tick is not None:
        background.append(asyncio.create_task(_tick(on_tick, driver.report)))
    try:
        await driver.send_for(seconds)
        await driver.finish()
    finally:
        for task in (*background, *driver.turns):
            task.cancel()
        await asyncio.gather(*background, *driver.turns, return_exceptions=True)
        await client.close()
    return driver.report


async def _tick(on_tick: Tick, report: TrafficReport) -> None:
    while True:
        await asyncio.sleep(0.5)
        report.seconds = time.monotonic() - report.started
        on_tick(report)


@dataclasses.dataclass(slots=True)
class _Visitor:
    """A session under way."""

    plan: Plan
    dice: Dice
    session: Shopping
    batching: bool
    shown: Shown | None = None
    held: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # a batching storefront's
    repeat: bytes = b""  # to be sent once more
    after: str = ""  # token of the last accepted event
    accepted: float = 0.0  # when that was


class _Driver:
    def __init__(self, client: Client, world: World, seed: int, rate: float, pace_s: float, limit: int) -> None:
        self.client, self.world, self.rate, self.limit = client, world, rate, limit
        self.report = TrafficReport(started=time.monotonic())
        self.turns: set[asyncio.Task[None]] = set()
        self._ready: deque[_Visitor] = deque()
        self._active, self._pool = 0, max(8, int(rate * pace_s))
        self._plans = plans(world, seed)
        self._run = int(time.time()) << 24  # so that sessions and orders of two runs differ
        self._debt = 0.0  # events sent beyond the schedule, by batches
        self._cold: list[str] = []

    # ---- the schedule ----------------------------------------------------------------------------------------

    async def send_for(self, seconds: float) -> None:
        """Give a visitor a turn each time the schedule says."""
        for due in self._schedule(seconds):
            wait = self.report.started + due - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            if self._debt >= 1.0:
                self._debt -= 1.0
                continue
            turn = asyncio.create_task(self._turn(self._next(), self.report.started + due))
            self.turns.add(turn)
            turn.add_done_callback(self.turns.discard)

    def _schedule(self, seconds: float) -> Iterator[float]:
        due, calm = 0.0, (BURST_EVERY_S - BURST_S * BURST_FACTOR) / (BURST_EVERY_S - BURST_S)
        while True:
            in_burst = due % BURST_EVERY_S >= BURST_EVERY_S - BURST_S
            due += 1.0 / (self.rate * (BURST_FACTOR if in_burst else calm))
            if due >= seconds:
                return
            yield due

    def _next(self) -> _Visitor:
        if self._ready and self._active >= self._pool:
            return self._ready.popleft()
        self._active += 1
        plan, dice = next(self._plans)
        plan = plan._replace(number=self._run + plan.number)
        self.report.sessions += 1
        return _Visitor(plan, dice, shop(self.world, plan, dice), dice.chance(BATCHED))

    async def finish(self) -> None:
        """Wait for what is under way and send what storefronts still hold."""
        while self.turns:
            await asyncio.gather(*self.turns)
        await asyncio.gather(*(self._flush(visitor, time.monotonic()) for visitor in self._ready))
        self.report.seconds = time.monotonic() - self.report.started

    # ---- a visitor's turn ------------------------------------------------------------------------------------

    async def _turn(self, visitor: _Visitor, planned: float) -> None:
        if visitor.repeat:
            body, visitor.repeat = visitor.repeat, b""
            self.report.repeats_sent += 1
            await self._post(body, 1, planned)
        elif visitor.plan.kind == "late":
            await self._send_late(visitor, planned)
            self._active -= 1
            return
        else:
            try:
                step = visitor.session.send(visitor.shown)
            except StopIteration:
                self._active -= 1
                await self._flush(visitor, planned)
                return
            visitor.shown = None
            await self._act(visitor, step, planned)
        self._ready.append(visitor)

    async def _act(self, visitor: _Visitor, step: Step, planned: float) -> None:
        """Send what the visitor did; see what the page then shows."""
        event = self._stamped(step.event, int(1000 * time.time()), visitor.dice)
        if visitor.batching:
            visitor.held.append(event)
            visitor.after = ""  # what it holds back cannot be reflected
            if len(visitor.held) >= BATCH:
                await self._flush(visitor, planned)
        elif visitor.dice.chance(BROKEN):
            await self._post_with_broken(visitor, event, planned)
        else:
            body = encode_json({**event, "sent_at": rfc3339(int(1000 * time.time()))})
            answer = await self._post(body, 1, planned, beacon=visitor.dice.chance(BEACON))
            self._remember(visitor, answer)
            if visitor.dice.chance(REPEATED):
                visitor.repeat = body
        self.report.clicks += event["event"] == "select_item"
        self.report.purchases += event["event"] == "purchase"
        if step.placement and visitor.dice.chance(ASKS):
            await self._ask(visitor, step, event)

    async def _flush(self, visitor: _Visitor, planned: float) -> None:
        held, visitor.held = visitor.held, []
        if held:
            body = encode_json({"events": held, "sent_at": rfc3339(int(1000 * time.time()))})
            self._remember(visitor, await self._post(body, len(held), planned))

    async def _send_late(self, visitor: _Visitor, planned: float) -> None:
        """A phone that was offline: the whole session at once, as it happened, 20 minutes to 20 hours ago."""
        at_ms = int(1000 * (time.time() - 60 * visitor.dice.between(20, 1200)))
        held = []
        for step in visitor.session:
            if step.pause_s > 86_400:
                break  # what was sent back days later
            at_ms += int(1000 * step.pause_s)
            held.append(self._stamped(step.event, at_ms, visitor.dice))
        visitor.held = held
        self._debt += len(held) - 1
        self.report.late += len(held)
        await self._flush(visitor, planned)

    def _stamped(self, event: dict[str, Any], at_ms: int, dice: Dice) -> dict[str, Any]:
        self.report.identities.add(event.get("customer_id") or event["anonymous_id"])
        return stamp(event, at_ms, dice)

    async def _post_with_broken(self, visitor: _Visitor, event: dict[str, Any], planned: float) -> None:
        label, wrong = break_event(stamp(event, int(1000 * time.time()), visitor.dice), visitor.dice)
        self.report.broken[label] += 1
        self._debt += 1.0
        self._remember(visitor, await self._post(encode_json({"events": [event, wrong]}), 2, planned))

    def _remember(self, visitor: _Visitor, answer: Answer | None) -> None:
        if answer is not None and answer.status == 202:
            accepted = answer.json().get("accepted") or ()
            if accepted:
                visitor.after, visitor.accepted = accepted[-1]["after"], time.monotonic()

    # ---- requests --------------------------------------------------------------------------------------------

    async def _post(self, body: bytes, count: int, planned: float, *, beacon: bool = False) -> Answer | None:
        """Send events until the outcome is known; count every one."""
        self.report.events_sent += count
        kind = "text/plain;charset=UTF-8" if beacon else "application/json"
        for attempt in range(TRIES):
            answer = await self._tried("/v1/events", body, kind)
            if answer is not None and answer.status in {202, 422}:
                self.report.event_latency.record_ns(int(1e9 * (time.monotonic() - planned)))
                result = answer.json()
                for name in ("accepted", "repeated", "rejected"):
                    found = len(result.get(name) or ())
                    setattr(self.report, name, getattr(self.report, name) + found)
                return answer
            await asyncio.sleep(0.1 * 2**attempt)
        self.report.unknown += count
        return None

    async def _tried(self, path: str, body: bytes, kind: str = "application/json") -> Answer | None:
        try:
            answer = await self.client.send(path, body, content_type=kind)
        except (OSError, httptools.HttpParserError) as err:  # TimeoutError is an OSError
            self.report.errors[type(err).__name__] += 1
            return None
        if answer.status not in {200, 202, 422}:
            self.report.errors[str(answer.status)] += 1
        return answer

    async def _ask(self, visitor: _Visitor, step: Step, event: dict[str, Any]) -> None:
        """Ask for the page's slate and show it."""
        ask: dict[str, Any] = {"placement": step.placement, "limit": self.limit}
        ask |= {k: event[k] for k in ("customer_id", "anonymous_id", "session_id", "query") if k in event}
        if step.placement in {"item", "cart"} and step.item >= 0:
            ask["item_ids"] = [self.world.catalogue.item_id(step.item)]
        after, visitor.after = visitor.after, ""  # freshness is of the click just made, never of an older one
        own_click = bool(after) and visitor.dice.chance(WITH_TOKEN)
        if own_click:
            ask |= {"after": after, "wait_ms": WAIT_MS}
        began = time.monotonic()
        answer = await self._tried("/v1/recommendations", encode_json(ask))
        if answer is None or answer.status != 200:
            return
        ended = time.monotonic()
        slate = msgspec.json.decode(answer.body)
        self._count(slate, ended - began)
        if own_click:
            if slate.get("consistency") == "stale":
                self.report.stale += 1
            else:
                self.report.freshness.record_ns(int(1e9 * (ended - visitor.accepted)))
        rows = [self.world.catalogue.row_of(item["item_id"]) for item in slate["items"]]
        visitor.shown = Shown(slate["recommendation_id"], rows)

    def _count(self, slate: dict[str, Any], took_s: float) -> None:
        self.report.answers += 1
        self.report.answer_latency.record_ns(int(1e9 * took_s))
        self.report.degraded += slate.get("degraded") is not None
        sources = Counter(item["source"] for item in slate["items"])
        self.report.sources.update(sources)
        own = any(not source.startswith(IMPERSONAL) for source in sources)
        if own and [item["item_id"] for item in slate["items"]] != self._cold:
            self.report.personalised += 1

    async def watch_cold_slates(self) -> None:
        """About once a second, see what a visitor gets of whom nothing is known."""
        number = 0
        while True:
            ask = {"placement": "home", "limit": self.limit, "anonymous_id": f"cold-{self._run + number:x}"}
            answer = await self._tried("/v1/recommendations", encode_json(ask))
            if answer is not None and answer.status == 200:
                self._cold = [item["item_id"] for item in answer.json()["items"]]
            number += 1
            await asyncio.sleep(1.0)
