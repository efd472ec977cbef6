"""Laws of the fold, with hypothesis: whatever the events and however batches are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from events.schema import Event, Line, encode_event
from feature_store.codec import decode_customer, encode_customer
from feature_store.customer import Customer
from feature_store.fold import decode_batch, fold, fold_safely
from feature_store.head import Head, encode_head
from feature_store.item import ItemState
from feature_store.session import KEEP_CART, KEEP_QUERIES, KEEP_RECENT
from feature_store.vocabulary import MEANINGS
from tests.builders import NOW_MS, a_batch

lines = st.builds(
    Line,
    item_id=st.sampled_from([f"i{n}" for n in range(6)]),
    quantity=st.integers(1, 3),
    price_micros=st.integers(-1, 10**9),
    category=st.sampled_from(["", "a", "a/b", "c"]),
    brand=st.sampled_from(["", "x", "y"]),
)
events = st.builds(
    Event,
    event=st.sampled_from([*MEANINGS, "x_custom"]),
    event_id=st.integers(0, 40).map(str),
    at_ms=st.integers(NOW_MS - 40 * 86_400_000, NOW_MS + 60_000),
    received_ms=st.just(NOW_MS),
    customer_id=st.sampled_from(["c1", "c2", ""]),
    anonymous_id=st.just("v1"),
    session_id=st.sampled_from(["", "s1", "s2"]),
    items=st.lists(lines, max_size=4),
    order_id=st.sampled_from(["", "o1", "o2"]),
    value_micros=st.integers(0, 10**12),
    currency=st.sampled_from(["EUR", "USD"]),
    query=st.sampled_from(["", "shoes", "hats"]),
)
logs = st.lists(events, max_size=60)


def _state(
    log: list[Event], cuts: int, *, safely: bool = False, stored: bool = False
) -> tuple[bytes, dict[str, bytes]]:
    """Fold a log in batches of `cuts`; `stored` passes every value through its bytes between batches."""
    head, customers, items = Head("log", 0, 1), dict[str, Customer](), dict[str, ItemState]()
    for at in range(0, len(log), cuts):
        batch = a_batch(log[at : at + cuts], after=at - 1)
        (fold_safely if safely else fold)(head, decode_batch(batch), customers, items)
        if stored:
            customers = {key: decode_customer(encode_customer(value)) for key, value in customers.items()}
    return encode_head(head), {key: encode_customer(value) for key, value in customers.items()}


@given(logs, st.integers(1, 60))
def test_where_batches_are_cut_does_not_show_in_the_bytes(log: list[Event], cuts: int) -> None:
    assert _state(log, cuts) == _state(log, 60)


@given(logs, st.integers(1, 20))
def test_passing_through_the_store_changes_nothing(log: list[Event], cuts: int) -> None:
    assert _state(log, cuts, stored=True) == _state(log, 60)


@given(logs)
def test_the_safe_fold_gives_the_same_state(log: list[Event]) -> None:
    assert _state(log, 20, safely=True) == _state(log, 20)


@given(logs)
def test_every_entry_is_in_exactly_one_total(log: list[Event]) -> None:
    head = Head("log", 0, 1)
    if log:
        fold(head, decode_batch(a_batch([encode_event(e) for e in log])), {}, {})
    assert head.entries == len(log)


@given(logs)
def test_state_stays_bounded(log: list[Event]) -> None:
    customers: dict[str, Customer] = {}
    if log:
        fold(Head("log", 0, 1), decode_batch(a_batch(log * 3)), customers, {})
    for customer in customers.values():
        session = customer.session
        assert len(session.recent_items) == len(session.recent_marks) // 7 <= KEEP_RECENT
        assert [t.at_ms for t in session.recent] == sorted(t.at_ms for t in session.recent)
        assert session.fresh <= len(session.recent_items)
        assert len(session.cart) <= KEEP_CART
        assert len(session.queries) <= KEEP_QUERIES
        assert len(customer.seen) <= 64 * 12
        assert len(customer.categories) <= 24
