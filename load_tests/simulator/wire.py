"""Ids, times and breakages of events on the wire. Room: load_tests, simulator.

What `shopping` yields has no ids and no times; here it gets them, in the envelope that docs/api states. `break_event`
makes one of them wrong on purpose, in ways that any intake must refuse.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Final

import msgspec

from load_tests.simulator.dice import Dice

encode_json = msgspec.json.encode

Breakage = Callable[[dict[str, Any]], Any]


def rfc3339(at_ms: int) -> str:
    """Return epoch milliseconds as RFC 3339, UTC.

    >>> rfc3339(1_600_000_000_123)
    '2020-09-13T12:26:40.123Z'
    """
    moment = dt.datetime.fromtimestamp(at_ms // 1000, dt.UTC)
    return f"{moment.isoformat()[:19]}.{at_ms % 1000:03d}Z"


def uuid7(at_ms: int, dice: Dice) -> str:
    """Return a UUIDv7 of a time."""
    low = f"{0x8000000000000000 | dice.bits(32) << 30 | dice.bits(30):016x}"
    high = f"{at_ms & 0xFFFFFFFFFFFF:012x}"
    return f"{high[:8]}-{high[8:]}-7{dice.bits(12):03x}-{low[:4]}-{low[4:]}"


def stamp(event: dict[str, Any], at_ms: int, dice: Dice) -> dict[str, Any]:
    """Return the event with an id and the time at which it happened."""
    return {"event_id": uuid7(at_ms, dice), "timestamp": rfc3339(at_ms), **event}


def _without(*names: str) -> Breakage:
    return lambda event: {k: v for k, v in event.items() if k not in names}


def _with(**wrong: Any) -> Breakage:
    return lambda event: {**event, **wrong}


def _line_with(**wrong: Any) -> Breakage:
    return lambda event: {**event, "items": [{"item_id": "i000000", **wrong}]}


#: Label -> how to break an event: each of these is refused whatever else the event says.
BREAKAGES: Final[dict[str, Breakage]] = {
    "no_event_name": _without("event"),
    "event_name_not_a_string": _with(event=17),
    "unknown_event_name": _with(event="product_teleported"),
    "no_identity": _without("customer_id", "anonymous_id"),
    "identity_not_a_string": _with(customer_id={"id": 5}),
    "items_not_a_list": _with(items="i000000"),
    "item_without_id": lambda event: {**event, "items": [{"quantity": 1}]},
    "quantity_not_a_number": _line_with(quantity="two"),
    "negative_price": _line_with(price=-3.5, currency="EUR"),
    "unreadable_time": _with(timestamp="yesterday, about noon"),
    "not_an_object": lambda event: [event["event_id"]],
}


def break_event(event: dict[str, Any], dice: Dice) -> tuple[str, Any]:
    """Return a label of `BREAKAGES` and the event broken that way."""
    label = list(BREAKAGES)[dice.below(len(BREAKAGES))]
    return label, BREAKAGES[label](event)
