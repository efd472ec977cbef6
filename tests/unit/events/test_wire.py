"""What senders may write, what becomes of it, and what they are told."""

from __future__ import annotations

import msgspec
import pytest

from events.errors import EventError
from events.schema import EVENT_NAMES, Event, Line
from events.wire import Decoded, decode, split_body

EXPENSIVE = {"item_id": "a", "price": 1e9, "quantity": 1_001}
NOW = 1_795_312_800_000  # 2026-11-22T02:00:00Z
DAY = 86_400_000


def sent(**fields: object) -> bytes:
    """A view of one item; all else as given, `...` leaves a field out."""
    event = {
        "event": "view_item",
        "event_id": "e1",
        "timestamp": NOW,
        "customer_id": "c1",
        "items": [{"item_id": "i1"}],
    }
    return msgspec.json.encode({k: v for k, v in (event | fields).items() if v is not ...})


def decoded(**fields: object) -> Decoded:
    return decode(sent(**fields), received_ms=NOW)


def accepted(**fields: object) -> Event:
    return decoded(**fields).event


def refused(**fields: object) -> tuple[str, str, str]:
    with pytest.raises(EventError) as caught:
        decoded(**fields)
    return caught.value.pointer, caught.value.code, caught.value.detail


def test_an_event_keeps_its_names_and_money_becomes_micros() -> None:
    event = accepted(
        event="purchase",
        order_id="o1",
        session_id="s1",
        value=49.9,
        currency="eur",
        items=[{"item_id": "i1", "quantity": 2, "price": 24.95, "category": "home/pans", "brand": "b", "position": 0}],
        recommendation_id="r1",
    )
    assert event == Event(
        event="purchase", event_id="e1", at_ms=NOW, received_ms=NOW, customer_id="c1", session_id="s1", order_id="o1",
        value_micros=49_900_000, currency="EUR", recommendation_id="r1",
        items=[Line("i1", 2, 24_950_000, "home/pans", "b", 0)],
    )  # fmt: skip


def test_every_event_name_of_the_schema_is_accepted() -> None:
    for name in EVENT_NAMES:
        assert accepted(event=name, query="q", order_id="o").event == name


def test_a_shop_may_send_events_of_its_own_under_x() -> None:
    assert accepted(event="x_spun_the_wheel").event == "x_spun_the_wheel"
    assert refused(event="x_No")[1] == "unknown_event"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("view", "did you mean 'view_item'?"),
        ("Product Added", "did you mean 'add_to_cart'?"),
        ("product_view", "did you mean 'view_item'?"),
        ("Purchase", "did you mean 'purchase'?"),
        ("puchase", "did you mean 'purchase'?"),
        ("catalog_updated", "the catalogue is written with PUT /v1/catalog/items"),
        ("zzz", "names are GA4's in snake_case (docs/http.md), a shop's own begin with 'x_'"),
    ],
)
def test_an_unknown_name_is_refused_with_what_it_may_mean(name: str, hint: str) -> None:
    assert refused(event=name) == (
        "/event",
        "unknown_event",
        f"event is {name!r}, which is no event name here: {hint}",
    )


def test_item_and_order_fields_may_stand_at_the_top_or_in_properties() -> None:
    fields = {"item_id": "i7", "quantity": 3, "price": 1.5, "currency": "USD", "category": "a/b", "brand": "x"}
    line = [Line("i7", 3, 1_500_000, "a/b", "x")]
    assert accepted(items=..., **fields).items == line
    assert accepted(items=..., properties=fields).items == line
    order = {"items": [{"item_id": "i7"}], "order_id": "o9", "value": 4, "currency": "USD"}
    event = accepted(event="purchase", items=..., properties=order)
    assert (event.order_id, event.value_micros, event.currency, event.items) == ("o9", 4_000_000, "USD", [Line("i7")])
    assert accepted(event="search", items=..., properties={"query": " red pans "}).query == "red pans"
    assert accepted(properties={"items": [{"item_id": "other"}]}).items == [Line("i1")], "the top level goes first"


def test_free_form_data_is_not_kept_except_consent() -> None:
    event = accepted(context={"page": {"url": "u"}, "consent": {"ads": False}}, properties={"color": [1, 2]})
    assert (event.context, event.properties, event.consent) == ({}, {}, {"ads": False})


def test_unknown_fields_are_ignored_with_a_warning() -> None:
    event, notices = decoded(flavour="salty", userId="u")
    assert event.customer_id == "c1"
    assert [(n.pointer, n.code) for n in notices] == [("/flavour", "unknown_field"), ("/userId", "unknown_field")]
    assert notices[1].detail == "'userId' is not a field of an event and was ignored; did you mean 'customer_id'?"


def test_a_missing_event_id_is_made_and_said() -> None:
    event, notices = decoded(event_id=...)
    assert event.event_id[14] == "7"
    assert event.event_id[19] in "89ab"
    assert int(event.event_id.replace("-", "")[:12], 16) == NOW
    assert [n.code for n in notices] == ["event_id_missing"]
    assert decoded(event_id=...).event.event_id != event.event_id


@pytest.mark.parametrize(
    ("fields", "at_ms", "claimed_ms", "codes"),
    [
        ({"timestamp": "2026-11-22T03:00:00.250+01:00"}, NOW + 250, 0, []),
        ({"timestamp": NOW - 5_000}, NOW - 5_000, 0, []),
        ({"timestamp": ...}, NOW, 0, ["timestamp_missing"]),
        ({"timestamp": None}, NOW, 0, ["timestamp_missing"]),
        # the sender's clock is a year ahead, yet the event was 3 s old when sent
        ({"timestamp": NOW + 365 * DAY, "sent_at": NOW + 365 * DAY + 3_000}, NOW - 3_000, 0, []),
        ({"timestamp": NOW - 40 * DAY}, NOW - 30 * DAY, NOW - 40 * DAY, ["timestamp_clamped"]),
        ({"timestamp": NOW + DAY}, NOW + 60_000, NOW + DAY, ["timestamp_clamped"]),
        ({"timestamp": NOW + 60_000}, NOW + 60_000, 0, []),
    ],
)
def test_the_clock_rule(fields: dict[str, object], at_ms: int, claimed_ms: int, codes: list[str]) -> None:
    event, notices = decoded(**fields)
    assert (event.at_ms, event.claimed_ms, event.received_ms) == (at_ms, claimed_ms, NOW)
    assert [n.code for n in notices] == codes


def test_a_historical_import_is_received_when_it_happened() -> None:
    event = decode(sent(timestamp=NOW - 900 * DAY), received_ms=NOW, historical=True).event
    assert (event.at_ms, event.received_ms, event.historical) == (NOW - 900 * DAY, NOW - 900 * DAY, True)
    for timestamp in (..., NOW + DAY):
        with pytest.raises(EventError, match="an import of the past needs the time") as caught:
            decode(sent(timestamp=timestamp), received_ms=NOW, historical=True)
        assert caught.value.code == "invalid_timestamp"


def test_the_send_time_of_a_batch_holds_for_its_events() -> None:
    body = split_body(b'{"sent_at": "2026-11-22T01:00:00Z", "events": [{}, {"a": 1}]}')
    assert [bytes(e) for e in body.events] == [b"{}", b'{"a": 1}']
    event = decode(sent(timestamp=NOW - 3_601_000), received_ms=NOW, sent_at=body.sent_at).event
    assert event.at_ms == NOW - 1_000


@pytest.mark.parametrize(
    ("fields", "pointer", "code", "says"),
    [
        ({"event": ...}, "/event", "field_missing", "event is missing; send a name of docs/http.md"),
        ({"customer_id": ...}, "", "no_identity", "send at least one of them"),
        ({"customer_id": "", "anonymous_id": None}, "", "no_identity", "send at least one of them"),
        ({"customer_id": ..., "user_id": "u"}, "", "no_identity", "'user_id' is called 'customer_id' here"),
        ({"customer_id": 7}, "/customer_id", "invalid_value", "customer_id is 7: expected 'str | null', got 'int'"),
        ({"customer_id": "x" * 257}, "/customer_id", "invalid_value", "send 1 to 256 characters"),
        ({"customer_id": "a\nb"}, "/customer_id", "control_characters", "customer_id is 'a\\nb', with control"),
        ({"items": [{"item_id": "a"}, {"item_id": "a\x00"}]}, "/items/1/item_id", "control_characters", "plain text"),
        ({"items": [{}]}, "/items/0/item_id", "field_missing", "item_id is missing"),
        ({"items": []}, "/items", "items_missing", "view_item without items"),
        ({"items": {}}, "/items", "invalid_value", "items is an object: expected 'array | null', got 'object'"),
        ({"items": [{"item_id": "a"}] * 201}, "/items", "invalid_value", "at most 200 objects"),
        ({"items": [{"item_id": "a", "quantity": 0}]}, "/items/0/quantity", "invalid_value", "items.0.quantity is 0"),
        ({"items": [{"item_id": "a", "price": 1}]}, "/items/0/price", "currency_missing", "add 'currency'"),
        ({"items": [{"item_id": "a", "price": -1}]}, "/items/0/price", "invalid_value", "items.0.price is -1"),
        ({"items": ..., "item_id": "a", "price": "9,95"}, "/price", "invalid_value", "price is '9,95'"),
        ({"items": ..., "item_id": "a", "price": 2}, "/price", "currency_missing", "price is 2.0 without a currency"),
        ({"items": ..., "properties": {"item_id": "a", "price": 2}}, "/properties/price", "currency_missing", "add"),
        ({"value": 5}, "/value", "currency_missing", "value is 5.0 without a currency"),
        ({"value": 0}, "/value", "currency_missing", "value is 0.0 without a currency"),
        ({"value": 2e12, "currency": "EUR"}, "/value", "invalid_value", "from 0 to 1,000,000,000,000"),
        ({"currency": "EURO"}, "/currency", "invalid_value", "three letters of ISO 4217"),
        ({"value": 1, "currency": "EUR", "items": [EXPENSIVE]}, "/items", "invalid_value", "price is per unit"),
        ({"timestamp": "yesterday"}, "/timestamp", "invalid_value", "timestamp is 'yesterday'"),
        ({"timestamp": "2026-11-22T02:00:00"}, "/timestamp", "invalid_value", "with a timezone component"),
        ({"timestamp": 1_795_312_800}, "/timestamp", "invalid_value", "epoch milliseconds, not seconds"),
        ({"sent_at": "2026-11-22"}, "/sent_at", "invalid_value", "sent_at is '2026-11-22'"),
        ({"event": "purchase", "items": []}, "/items", "items_missing", "add what was bought as items"),
        ({"event": "refund", "items": []}, "/order_id", "order_id_missing", "add the order_id"),
        ({"event": "search", "query": "  "}, "/query", "query_missing", "add the words"),
        ({"schema_version": 2}, "/schema_version", "invalid_value", "this server reads version 1"),
        ({"context": [1]}, "/context", "invalid_value", "context is a list"),
        ({"context": {"consent": {"ads": "no"}}}, "/context/consent", "invalid_value", "true or false"),
        ({"properties": {"price": "x"}}, "/properties/price", "invalid_value", "properties.price is 'x'"),
        ({"properties": {"a": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}}, "/properties", "too_deep", "flatten it"),
        ({"properties": {"a": "x" * 32_768}}, "", "event_too_large", "the limit is 32,768"),
    ],
)  # fmt: skip
def test_a_refusal_names_field_value_and_remedy(fields: dict[str, object], pointer: str, code: str, says: str) -> None:
    at, word, detail = refused(**fields)
    assert (at, word) == (pointer, code)
    assert says in detail


def test_a_whole_number_may_be_written_as_a_float() -> None:
    body = sent().replace(str(NOW).encode(), b"1795312800000.0").replace(b'"i1"', b'"i1", "quantity": 2.0')
    event, notices = decode(body, received_ms=NOW)
    assert (event.at_ms, event.items, notices) == (NOW, [Line("i1", 2)], [])
    assert refused(items=[{"item_id": "i1", "quantity": 1.5}])[:2] == ("/items/0/quantity", "invalid_value")


def test_the_currencies_of_an_event_agree() -> None:
    items = [{"item_id": "a", "price": 1, "currency": "eur"}, {"item_id": "b", "price": 1, "currency": "EUR"}]
    assert accepted(items=items).currency == "EUR"
    items[1]["currency"] = "USD"
    assert refused(items=items)[:2] == ("/items/1/currency", "currency_mixed")


def test_a_free_order_is_an_order() -> None:
    event = accepted(event="purchase", items=..., value=0, currency="EUR", order_id="o")
    assert (event.value_micros, event.items) == (0, [])


def test_an_order_without_order_id_is_accepted_with_a_warning() -> None:
    _, notices = decoded(event="purchase")
    assert [(n.pointer, n.code) for n in notices] == [("/order_id", "order_id_missing")]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b'{"a": "\xff"}', "malformed_json"),
        (b"[]", "not_an_object"),
        (b"3", "invalid_value"),
        (b'{"events": []}', "no_events"),
        (b'{"events": {}}', "invalid_value"),
        (b'{"events": [' + b"{}," * 500 + b"{}]}", "too_many_events"),
        (b'{"events": [{"a":' + b"[" * 9_000 + b"]" * 9_000 + b"}]}", "too_deep"),
        (b'{"a": "' + b"x" * 500_000 + b'"}', "body_too_large"),
    ],
)
def test_a_body_that_cannot_be_split_is_refused_as_a_whole(body: bytes, code: str) -> None:
    with pytest.raises(EventError) as caught:
        split_body(body)
    assert caught.value.code == code


def test_one_event_is_a_body_too() -> None:
    body = split_body(sent(historical=True))
    assert (body.single, body.historical) == (True, True)
    assert bytes(body.events[0]) == sent(historical=True)
