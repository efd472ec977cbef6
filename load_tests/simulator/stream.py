"""The present, as a fixed stream: what reaches the shop's intake, and when. Room: load_tests, simulator.

Deterministic to the byte: sessions interleaved by time, sent one by one or in small batches, late mobile batches with
true times, repeats, bursts, and events broken on purpose. Nobody reacts to slates here (`load_tests.traffic` plays
sessions that do). Called by tests and by whoever wants a reproducible file of traffic.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from load_tests.simulator.dice import Dice
from load_tests.simulator.shopping import Plan, plan, shop
from load_tests.simulator.wire import break_event, encode_json, rfc3339, stamp
from load_tests.simulator.world import World

REPEATED, BROKEN, BEACON, BATCHED = 0.01, 0.005, 0.1, 0.3  # shares; BATCHED of sessions, the others of events
BATCH: Final = 8  # events that a batching storefront collects
BURST_EVERY, BURST_LENGTH, BURST_FACTOR = (
    400,
    80,
    5,
)  # sessions: a campaign brings the last 80 of 400, five times as dense


class Delivery(NamedTuple):
    """One request to `POST /v1/events`."""

    at_ms: int  # when it is sent
    body: bytes
    beacon: bool  # as text/plain, from `navigator.sendBeacon`
    events: int  # in it
    broken: tuple[str, ...]  # labels of those that were broken on purpose
    repeats: int  # of those, events that were sent before
    late: bool  # events of an hour or a day ago


def arrival_gap(number: int, mean_s: float) -> float:
    """Return the mean seconds before a session: bursts are denser, and the rest is thinner to keep the mean."""
    in_burst = number % BURST_EVERY >= BURST_EVERY - BURST_LENGTH
    calm = (BURST_EVERY - BURST_LENGTH / BURST_FACTOR) / (BURST_EVERY - BURST_LENGTH)
    return mean_s / BURST_FACTOR if in_burst else mean_s * calm


def burst_focus(world: World, number: int, seed: int) -> int:
    """Return the row that a campaign is about if this session came by one, else -1."""
    if number % BURST_EVERY < BURST_EVERY - BURST_LENGTH:
        return -1
    return Dice(seed, 13, number // BURST_EVERY).below(world.catalogue.items)


def plans(world: World, seed: int, day: int = 0) -> Iterator[tuple[Plan, Dice]]:
    """Yield who comes, for ever, each with its own dice."""
    number = 0
    while True:
        dice = Dice(seed, 12, number)
        yield plan(world, number, day, dice, focus=burst_focus(world, number, seed)), dice
        number += 1


def deliveries(world: World, *, sessions: int, start_ms: int, per_second: float = 5.0, seed: int = 0) -> list[Delivery]:
    """Return the traffic of so many sessions in the order of sending.

    Parameters
    ----------
    sessions, per_second
        How many sessions begin, and how many a second on average.
    start_ms
        When the first begins.
    seed
        Equal arguments give equal bytes.
    """
    queue: list[tuple[int, int, int, Delivery]] = []
    arrivals, begin_s = Dice(seed, 14), 0.0
    for (who, dice), number in zip(plans(world, seed), range(sessions), strict=False):
        begin_s += arrivals.exponential(arrival_gap(number, 1.0 / per_second))
        for order, delivery in enumerate(_session(world, who, dice, start_ms + int(1000 * begin_s))):
            heapq.heappush(queue, (delivery.at_ms, number, order, delivery))
    return [heapq.heappop(queue)[3] for _ in range(len(queue))]


def _session(world: World, who: Plan, dice: Dice, begin_ms: int) -> Iterator[Delivery]:
    """Yield the requests of one session."""
    size = 60 if who.kind == "late" else BATCH if dice.chance(BATCHED) else 1
    held_ms = int(1000 * 60 * dice.between(20, 1200)) if who.kind == "late" else 0
    batch: list[Any] = []
    broken: list[str] = []
    at_ms = begin_ms - held_ms
    for step in shop(world, who, dice):
        at_ms += int(1000 * step.pause_s)
        if batch and (len(batch) >= size or step.pause_s > 86_400):
            yield _request(batch, broken, at_ms + held_ms, dice, late=bool(held_ms))
            batch, broken = [], []
        event = stamp(step.event, at_ms, dice)
        batch.append(event)
        if dice.chance(BROKEN):
            label, wrong = break_event(stamp(step.event, at_ms, dice), dice)
            batch.append(wrong)
            broken.append(label)
        if size == 1:
            yield _request(batch, broken, at_ms, dice)
            if dice.chance(REPEATED):
                yield _request([event], [], at_ms + 800, dice, repeats=1)
            batch, broken = [], []
    if batch:
        yield _request(batch, broken, at_ms + held_ms + 1, dice, late=bool(held_ms))


def _request(
    batch: list[Any], broken: list[str], at_ms: int, dice: Dice, *, repeats: int = 0, late: bool = False
) -> Delivery:
    sent = rfc3339(at_ms)
    events = [{**event, "sent_at": sent} if isinstance(event, dict) else event for event in batch]
    body = encode_json(events[0] if len(events) == 1 and isinstance(events[0], dict) else {"events": events})
    return Delivery(at_ms, body, dice.chance(BEACON), len(events), tuple(broken), repeats, late)
