"""Builders for tests: everything that a test does not say has a default."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

from events.log import START, Batch
from events.schema import CatalogItem, Event, Line, encode_event
from feature_store.customer import Customer
from feature_store.fold import Effects, decode_batch, fold
from feature_store.head import Head

NOW_MS = 1_780_000_000_000
_ids = count()


def a_line(item_id: str = "i1", **facts: Any) -> Line:
    return Line(item_id, **facts)


def an_event(event: str = "view_item", *, items: Sequence[str | Line] = ("i1",), **fields: Any) -> Event:
    """Return an event of customer c1, a minute after `NOW_MS` unless told otherwise."""
    fields.setdefault("event_id", f"e{next(_ids)}")
    fields.setdefault("at_ms", NOW_MS)
    fields.setdefault("received_ms", max(fields["at_ms"], NOW_MS))
    if "anonymous_id" not in fields:
        fields.setdefault("customer_id", "c1")
    lines = [line if isinstance(line, Line) else Line(line) for line in items]
    return Event(event=event, items=lines, **fields)


def a_catalog_event(item_id: str = "i1", at_ms: int = NOW_MS, **facts: Any) -> Event:
    told = [CatalogItem(item_id=item_id, **facts)]
    return Event(event="catalog_updated", event_id=f"k{next(_ids)}", at_ms=at_ms, received_ms=at_ms, catalog=told)


def a_batch(events: Iterable[Event | bytes], *, partition: int = 0, after: int = START) -> Batch:
    payloads = [event if isinstance(event, bytes) else encode_event(event) for event in events]
    return Batch(partition, list(range(after + 1, after + 1 + len(payloads))), payloads)


def folded(events: Iterable[Event | bytes]) -> tuple[Head, dict[str, Customer], Effects]:
    """Fold events of partition 0 from nothing; return head, customers and the effects."""
    head, customers = Head("log", 0, 1), dict[str, Customer]()
    effects = fold(head, decode_batch(a_batch(events)), customers, {})
    return head, customers, effects
