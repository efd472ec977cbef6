"""What an answer knows of its customer, events of the same call included."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from events.schema import Event, Line
from feature_store.customer import Customer, apply
from feature_store.repeats import digest_of, remember
from serving.ask import Advice, Ask
from serving.catalog import Catalog
from serving.view import NOBODY, overlay, view_of

NOW = 1_795_312_800_000
MINUTE = 60_000


def seen(*acts: tuple[str, str, int]) -> Customer:
    """A customer after (event, item, minutes ago)."""
    customer = Customer()
    for name, item, minutes in acts:
        at_ms = NOW - minutes * MINUTE
        line = Line(item, category=f"about/{item}")
        apply(customer, Event(event=name, event_id=f"{name}{item}", at_ms=at_ms, received_ms=at_ms, items=[line]))
    return customer


def said(*events: dict[str, object], **fields: object) -> Ask:
    return Ask(events=[Raw(msgspec.json.encode(event)) for event in events], **{"customer_id": "c1", **fields})  # type: ignore[arg-type]


def test_nobody_has_an_empty_view() -> None:
    assert view_of(None, None, NOW) == NOBODY


def test_the_session_that_is_going_on_is_the_history() -> None:
    view = view_of(seen(("view_item", "old", 300), ("view_item", "a", 5), ("view_item", "b", 1)), None, NOW)
    assert view.history == ["a", "b"]


def test_after_the_session_the_last_items_of_before_stand_in() -> None:
    view = view_of(seen(*[("view_item", f"i{n}", 500 - n) for n in range(20)]), None, NOW)
    assert view.history == [f"i{n}" for n in range(10, 20)]


def test_bought_items_cart_and_liked_categories() -> None:
    view = view_of(
        seen(("view_item", "a", 9), ("add_to_cart", "b", 8), ("add_to_cart", "c", 7), ("purchase", "b", 6)), None, NOW
    )
    assert view.bought == ["b"]
    assert view.cart == ["c"]
    assert view.categories[0] == "about/b"


def test_a_visitor_who_logged_in_has_one_history() -> None:
    known = seen(("view_item", "old", 400), ("view_item", "c", 1))
    visitor = seen(("view_item", "a", 10), ("add_to_cart", "b", 5))
    view = view_of(known, visitor, NOW)
    assert view.history == ["a", "b", "c"]
    assert view.cart == ["b"]


def test_events_of_the_call_are_seen_at_once() -> None:
    ask = said({"event": "view_item", "event_id": "n1", "item_id": "new", "timestamp": NOW})
    customer, anonymous = overlay(ask, seen(("view_item", "a", 1)), None, Catalog(), NOW, [])
    assert anonymous is None
    assert view_of(customer, None, NOW).history == ["a", "new"]


def test_an_event_that_came_through_the_log_already_does_not_count_twice() -> None:
    customer = seen(("view_item", "a", 1))
    remember(customer.seen, digest_of(b"n1"), NOW)
    ask = said({"event": "view_item", "event_id": "n1", "item_id": "new", "timestamp": NOW})
    customer_after, _ = overlay(ask, customer, None, Catalog(), NOW, [])
    assert view_of(customer_after, None, NOW).history == ["a"]


def test_an_unknown_customer_begins_with_the_call() -> None:
    ask = said({"event": "view_item", "item_id": "new", "timestamp": NOW}, customer_id=None, anonymous_id="a1")
    customer, anonymous = overlay(ask, None, None, Catalog(), NOW, [])
    assert customer is None
    assert view_of(None, anonymous, NOW).history == ["new"]


def test_a_bad_event_in_the_call_is_a_warning() -> None:
    advice: list[Advice] = []
    ask = said({"event": "view"}, {"event": "view_item", "item_id": "x", "customer_id": "other"})
    assert overlay(ask, None, None, Catalog(), NOW, advice) == (None, None)
    assert [(a.pointer, a.code) for a in advice] == [
        ("/events/0/event", "unknown_event"),
        ("/events/1", "other_identity"),
    ]
