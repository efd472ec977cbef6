"""Laws of the wire: nothing but `EventError` comes out, and what was meant survives."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from events.errors import EventError
from events.schema import EVENT_NAMES, decode_event, encode_event
from events.shapes import WireEvent
from events.wire import decode, split_body
from events.wire_catalog import decode_item, split_items

NOW = 1_795_312_800_000

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
fields = st.sampled_from(WireEvent.__struct_fields__)
objects = st.dictionaries(fields | st.text(max_size=8), json, max_size=8)
plain = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=256)


def judge(raw: bytes) -> None:
    with contextlib.suppress(EventError):
        for event in split_body(raw).events:
            for historical in (False, True):
                with contextlib.suppress(EventError):
                    encode_event(decode(event, received_ms=NOW, historical=historical).event)
    with contextlib.suppress(EventError):
        for item in split_items(raw):
            decode_item(item)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_an_event_error(raw: bytes) -> None:
    judge(raw)


@given(json | objects | st.fixed_dictionaries({"events": st.lists(objects, max_size=4)}))
def test_any_json_is_an_event_or_an_event_error(value: object) -> None:
    judge(msgspec.json.encode(value))


@given(objects, st.sampled_from(sorted(EVENT_NAMES)), plain)
def test_any_field_of_any_type_is_an_event_or_an_event_error(
    extra: dict[str, object], name: str, customer: str
) -> None:
    judge(msgspec.json.encode({**extra, "event": name, "customer_id": customer}))


@given(
    name=st.sampled_from(sorted(EVENT_NAMES)),
    customer=plain,
    items=st.lists(st.tuples(plain, st.integers(1, 1_000), st.integers(0, 1_000_000)), min_size=1, max_size=9),
    at=st.datetimes(datetime(2026, 10, 24), datetime(2026, 11, 22), timezones=st.just(UTC)),
)
def test_what_was_meant_survives_wire_and_log(
    name: str, customer: str, items: list[tuple[str, int, int]], at: datetime
) -> None:
    sent = {
        "event": name, "event_id": "e", "customer_id": customer, "timestamp": at, "currency": "EUR", "query": "q",
        "items": [{"item_id": i, "quantity": q, "price": cents / 100} for i, q, cents in items],
    }  # fmt: skip
    event, _ = decode(msgspec.json.encode(sent), received_ms=NOW)
    assert decode_event(encode_event(event)) == event
    assert (event.event, event.customer_id, event.currency) == (name, customer, "EUR")
    assert [(line.item_id, line.quantity, line.price_micros) for line in event.items] == [
        (i, q, cents * 10_000) for i, q, cents in items
    ]
    assert event.at_ms == round(at.timestamp() * 1_000_000) // 1_000
