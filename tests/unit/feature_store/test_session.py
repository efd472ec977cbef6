"""How a session grows."""

from __future__ import annotations

from feature_store.customer import Customer, apply
from feature_store.session import GAP_MS, KEEP_RECENT
from tests.builders import NOW_MS, an_event


def _after(*events: tuple[int, str, str]) -> Customer:
    customer = Customer()
    for at_ms, session_id, item_id in events:
        apply(customer, an_event(at_ms=NOW_MS + at_ms, session_id=session_id, items=[item_id]))
    return customer


def test_a_gap_of_more_than_thirty_minutes_opens_a_session() -> None:
    customer = _after((0, "", "a"), (GAP_MS, "", "b"), (2 * GAP_MS + 1, "", "c"))
    assert customer.sessions == 2
    assert customer.session.item_ids() == ["c"]


def test_the_storefronts_session_ids_decide_where_both_are_known() -> None:
    customer = _after((0, "s1", "a"), (GAP_MS * 3, "s1", "b"), (GAP_MS * 3 + 1, "s2", "c"))
    assert customer.sessions == 2
    assert customer.session.session_id == "s2"
    assert [touch.item_id for touch in customer.session.recent] == ["a", "b", "c"]


def test_late_click_does_not_reopen_a_session() -> None:
    customer = _after((0, "", "a"), (GAP_MS * 2, "", "b"), (GAP_MS - 1, "", "late"))
    assert customer.sessions == 2
    assert customer.session.item_ids() == ["b"]
    assert [touch.item_id for touch in customer.session.recent] == ["a", "late", "b"]
    assert customer.session.last_ms == NOW_MS + GAP_MS * 2


def test_recent_items_are_the_last_fifty_with_event_and_time() -> None:
    customer = _after(*[(n, "", f"i{n}") for n in range(60)])
    recent = customer.session.recent
    assert len(recent) == KEEP_RECENT
    assert recent[0] == ("i10", 0, NOW_MS + 10)
    assert recent[-1] == ("i59", 0, NOW_MS + 59)
    assert len(customer.session.item_ids()) == KEEP_RECENT


def test_an_event_of_more_lines_than_are_kept_keeps_the_last() -> None:
    customer = Customer()
    apply(customer, an_event("purchase", items=[f"i{n}" for n in range(120)]))
    assert [t.item_id for t in customer.session.recent] == [f"i{n}" for n in range(70, 120)]


def test_the_cart_holds_what_was_put_in_and_not_taken_out_or_bought() -> None:
    customer = Customer()
    for event, items in (
        ("add_to_cart", ["a", "b", "c"]), ("add_to_cart", ["a"]), ("remove_from_cart", ["b"]), ("purchase", ["c"]),
    ):  # fmt: skip
        apply(customer, an_event(event, items=items))
    assert customer.session.cart == {"a": 2}


def test_queries_are_remembered_newest_last_and_once() -> None:
    customer = Customer()
    for query in ("shoes", "hats", "shoes"):
        apply(customer, an_event("search", items=[], query=query))
    assert customer.session.queries == ["hats", "shoes"]
