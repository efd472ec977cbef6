"""Playing: rows in time order become events with their times, at the wanted rate. Room: cli."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from cli.replaying.account import Account
from cli.replaying.files import Source, merged
from cli.replaying.items import Items
from cli.replaying.rows import Facts, Mapper
from cli.replaying.sending import Sending
from events.clock import PAST_MS
from events.errors import SettingsError

_TICK_S: Final = 0.02  # between two bursts at a stated rate
_STEP: Final = 1_000  # events between two looks at the clock at full speed


class Plan(NamedTuple):
    """What is played, and how."""

    sources: Sequence[Source]
    rows: int
    mappers: Mapping[str, Mapper]
    shift_ms: int  # added to each time
    rate: float  # events a second, 0: as fast as it goes
    historical: bool
    span_ms: int  # from the first row to the last


def make_plan(
    sources: Sequence[Source], items: Items | None, *, rate: float, historical: bool, limit: int | None, currency: str
) -> Plan:
    """Return the plan: times as they are for an import of the past, else moved by one constant to end now."""
    facts: dict[str, Facts] = items.facts() if items else {}
    mappers = {source.name: Mapper(source.name, source.columns, facts, currency=currency) for source in sources}
    if len(mappers) < len(sources):
        raise SettingsError("two files have the same name and directory name, so their events would have the same ids")
    filled = [source for source in sources if source.count]
    count = sum(source.count for source in filled)
    first_ms = min((source.first_ms for source in filled), default=0)
    last_ms = max((source.last_ms for source in filled), default=0)
    shift_ms = 0 if historical else _now_ms() - last_ms
    return Plan(filled, min(count, limit or count), mappers, shift_ms, rate, historical, last_ms - first_ms)


async def play(
    plan: Plan, items: Items | None, make: Callable[[], Sending], account: Account, tell: Callable[[int], None]
) -> None:
    """Send the items, then the events; `make` is called on the loop, `tell` gets the events handed over so far."""
    sending = make()
    try:
        if items is not None:
            await sending.items(items)
        await _events(plan, sending, account, tell)
    finally:
        await sending.close()
    tell(account.read)


async def _events(plan: Plan, sending: Sending, account: Account, tell: Callable[[int], None]) -> None:
    encode = msgspec.json.Encoder().encode
    rows = islice(merged(plan.sources), plan.rows) if plan.sources else iter(())
    started = time.monotonic()
    due = 0
    while account.read < plan.rows:
        due = int((time.monotonic() - started) * plan.rate) + 1 if plan.rate else due + _STEP
        sent_at = None if plan.historical else _now_ms()
        for source, row in islice(rows, max(due - account.read, 0)):
            timestamp = row.ts + plan.shift_ms
            event = plan.mappers[source.name].event(row, timestamp=timestamp, sent_at=sent_at)
            account.read += 1
            account.clamped += sent_at is not None and timestamp < sent_at - PAST_MS
            await sending.put(event.get("customer_id") or event.get("anonymous_id") or "", encode(event))
        tell(account.read)
        if plan.rate:
            await sending.flush()
            await asyncio.sleep(_TICK_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
