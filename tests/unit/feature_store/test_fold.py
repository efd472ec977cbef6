"""A batch becomes the effects of one commit."""

from __future__ import annotations

import pytest

from events.schema import Event, encode_event
from feature_store import fold as folding
from feature_store import popularity
from feature_store.codec import VERSION, decode_customer, encode_customer
from feature_store.customer import Customer
from feature_store.fold import decode_batch, fold_safely
from feature_store.head import Head
from tests.builders import NOW_MS, a_batch, a_catalog_event, an_event, folded


def test_every_entry_is_counted_once() -> None:
    repeated = an_event(event_id="same")
    nobody = Event(event="view_item", event_id="n", at_ms=1, received_ms=1)
    head, customers, effects = folded(
        [repeated, repeated, b"\xc1", nobody, a_catalog_event(title="Pan"), an_event(anonymous_id="v1"),
         an_event("view_item_list", properties={"served": True})]
    )  # fmt: skip
    assert (head.applied, head.duplicates, head.dead_lettered, head.catalog, head.served) == (2, 1, 2, 1, 1)
    assert head.entries == 7
    assert head.position == 6
    assert set(customers) == {"{p0}c:c1", "{p0}a:v1"}
    assert [letter.code for _, letter in effects.dead] == ["undecodable_entry", "nobody"]


def test_an_impression_of_our_own_is_no_visit_and_makes_no_customer() -> None:
    shown = {"event": "view_item_list", "properties": {"served": True}, "at_ms": NOW_MS + 3_600_000}
    head, customers, _ = folded([an_event(), an_event(**shown), an_event(customer_id="stranger", **shown)])
    assert (head.applied, head.served, head.customers) == (1, 2, 1)
    customer = customers["{p0}c:c1"]
    assert (customer.counts, customer.sessions, customer.last_ms) == ({0: 1, 7: 1}, 1, NOW_MS)


def test_the_same_event_id_of_another_customer_is_no_repeat() -> None:
    head, *_ = folded([an_event(event_id="x"), an_event(event_id="x", customer_id="c2")])
    assert (head.applied, head.duplicates) == (2, 0)


def test_the_last_sixty_four_events_are_remembered() -> None:
    events = [an_event(event_id=f"e{n}", at_ms=NOW_MS + n) for n in range(64)]
    head, *_ = folded([*events, *events])
    assert (head.applied, head.duplicates) == (64, 64)


def test_popularity_counts_views_carts_and_purchases_by_bucket() -> None:
    later = NOW_MS + popularity.BUCKET_MS
    _, _, effects = folded([an_event(), an_event(), an_event("add_to_cart"), an_event("purchase", at_ms=later)])
    first = popularity.bucket_of(NOW_MS)
    assert effects.counts == {first: {"v:i1": 2, "c:i1": 1}, first + 1: {"p:i1": 1}}


def test_old_buckets_are_dropped_as_the_watermark_passes() -> None:
    week = popularity.KEEP_BUCKETS * popularity.BUCKET_MS
    _, _, effects = folded([an_event(), an_event(at_ms=NOW_MS + week), an_event(at_ms=NOW_MS)])
    first = popularity.bucket_of(NOW_MS)
    assert list(effects.counts) == [first + popularity.KEEP_BUCKETS], "too late, before and after, leaves no trace"
    assert list(popularity.dropped(NOW_MS, NOW_MS + week)) == list(
        range(first - popularity.KEEP_BUCKETS + 1, first + 1)
    )


def test_an_event_that_raises_is_a_dead_letter_with_its_traceback_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = folding.apply

    def apply(customer: Customer, event: Event) -> None:
        real(customer, event)
        if event.query == "boom":
            raise ZeroDivisionError("boom")

    monkeypatch.setattr(folding, "apply", apply)
    events = [an_event(), an_event("search", items=[], query="boom"), an_event()]
    head, customers = Head("log", 0, 1), dict[str, Customer]()
    effects = fold_safely(head, decode_batch(a_batch(events)), customers, {})
    assert (head.applied, head.dead_lettered, head.position) == (2, 1, 2)
    assert customers["{p0}c:c1"].counts == {0: 2}
    ((position, letter),) = effects.dead
    assert position == 1
    assert "ZeroDivisionError: boom" in letter.traceback
    assert letter.original == encode_event(events[1])


def test_a_number_too_great_to_store_is_a_dead_letter() -> None:
    huge = an_event("purchase", items=[], value_micros=2**62, currency="EUR")
    again = an_event("purchase", items=[], value_micros=2**62, currency="EUR")
    more = an_event("purchase", items=[], value_micros=2**63, currency="EUR")
    head, customers = Head("log", 0, 1), dict[str, Customer]()
    effects = fold_safely(head, decode_batch(a_batch([huge, again, more])), customers, {})
    assert [position for position, _ in effects.dead] == [2]
    assert customers["{p0}c:c1"].orders == 2


def test_a_price_history_keeps_changes_only() -> None:
    _, _, effects = folded(
        [a_catalog_event(price_micros=5), a_catalog_event(stock=3), a_catalog_event(price_micros=4, at_ms=NOW_MS + 1),
         a_catalog_event(price_micros=9, at_ms=NOW_MS - 1)]
    )  # fmt: skip
    item = effects.items["i1"]
    assert item.prices == [(NOW_MS, 5), (NOW_MS + 1, 4)]
    assert (item.stock, item.price_micros) == (3, 4)


def test_a_value_from_before_a_field_was_added_still_decodes() -> None:
    old = bytes([VERSION]) + b"\x93\x07\x01\x02"  # position 7, first_ms 1, last_ms 2: the first three fields alone
    customer = decode_customer(old)
    assert (customer.position, customer.first_ms, customer.last_ms, customer.counts) == (7, 1, 2, {})
    assert decode_customer(encode_customer(customer)) == customer
