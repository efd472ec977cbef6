"""What one event does to a customer; expected values are written out."""

from __future__ import annotations

import pytest

from feature_store import decay
from feature_store.customer import KEEP_TASTES, Customer, apply
from tests.builders import NOW_MS, a_line, an_event

DAY_MS = 86_400_000


def test_first_event_opens_the_first_session() -> None:
    customer = Customer()
    apply(customer, an_event(at_ms=NOW_MS))
    assert (customer.first_ms, customer.last_ms, customer.sessions) == (NOW_MS, NOW_MS, 1)
    assert customer.counts == {0: 1}


def test_counts_decay_by_half_in_a_week() -> None:
    customer = Customer()
    apply(customer, an_event(at_ms=NOW_MS))
    apply(customer, an_event(at_ms=NOW_MS + 7 * DAY_MS))
    assert decay.as_of(customer.decayed[0], NOW_MS + 7 * DAY_MS, customer.landmark_ms) == pytest.approx(1.5)


def test_a_late_event_weighs_what_it_would_have_weighed_in_time() -> None:
    in_time, late = Customer(), Customer()
    first, second = an_event(at_ms=NOW_MS), an_event(at_ms=NOW_MS + DAY_MS)
    for event in (first, second):
        apply(in_time, event)
    for event in (second, first):
        apply(late, event)
    now = NOW_MS + 2 * DAY_MS
    ours, theirs = (decay.as_of(c.decayed[0], now, c.landmark_ms) for c in (in_time, late))
    assert ours == pytest.approx(theirs)
    assert late.last_ms == NOW_MS + DAY_MS


def test_the_landmark_moves_before_the_weights_overflow() -> None:
    customer = Customer()
    for year in range(0, 60, 5):
        apply(customer, an_event(at_ms=NOW_MS + year * 365 * DAY_MS, items=[a_line(category="a", brand="b")]))
    now = NOW_MS + 55 * 365 * DAY_MS
    assert decay.as_of(customer.decayed[0], now, customer.landmark_ms) == pytest.approx(1.0)
    assert decay.as_of(customer.categories["a"], now, customer.landmark_ms) == pytest.approx(1.0)


def test_purchases_add_up_and_rows_of_one_basket_are_one_order() -> None:
    customer = Customer()
    for item_id, micros in (("i1", 2_000_000), ("i2", 3_500_000)):
        line = a_line(item_id, quantity=2, price_micros=micros)
        apply(customer, an_event("purchase", items=[line], order_id="o1", currency="EUR"))
    apply(customer, an_event("purchase", items=[], order_id="o2", value_micros=1_000_000, currency="USD"))
    assert customer.orders == 2
    assert customer.spent == {"EUR": 11_000_000, "USD": 1_000_000}


def test_an_order_without_an_id_is_its_own_order() -> None:
    customer = Customer()
    for _ in range(3):
        apply(customer, an_event("purchase"))
    assert customer.orders == 3


def test_a_refund_is_taken_off() -> None:
    customer = Customer()
    apply(customer, an_event("purchase", items=[], value_micros=5_000_000, currency="EUR"))
    apply(customer, an_event("refund", items=[], value_micros=2_000_000, currency="EUR"))
    assert customer.spent == {"EUR": 3_000_000}


def test_tastes_keep_the_strongest() -> None:
    customer = Customer()
    apply(customer, an_event("purchase", items=[a_line(category="loved", brand="loved")]))
    for n in range(100):
        apply(customer, an_event(items=[a_line(category=f"c{n}", brand=f"b{n}")]))
    assert "loved" in customer.categories
    assert "loved" in customer.brands
    assert len(customer.categories) <= KEEP_TASTES * 3 // 2


def test_an_unknown_event_name_is_counted_as_custom() -> None:
    customer = Customer()
    apply(customer, an_event("x_wheel_spun", items=[]))
    assert customer.counts == {63: 1}
