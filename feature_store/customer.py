"""What we know of a customer, event by event. Room: feature_store, pure core: no clock, no network, no randomness.

Called by the stream, the backfill, the training-set builder, the parity check, and by serving to overlay events of the
same call. The session's part is `feature_store.session`; repeats are judged before, in `feature_store.repeats`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import xxhash

from events.log import START
from events.schema import Event, Line
from feature_store.decay import HALF_LIFE_MS, RESCALE_AFTER, rescale, weight_at
from feature_store.session import Session, advance, drop_from_cart, put_in_cart, search
from feature_store.vocabulary import CUSTOM, MEANINGS

#: Affinities kept by category and by brand; up to half as many more wait for the next clean-up.
KEEP_TASTES: Final = 16
_SLACK: Final = KEEP_TASTES * 3 // 2
KEEP_ORDERS: Final = 8
KEEP_CURRENCIES: Final = 4


class Customer(msgspec.Struct, array_like=True, gc=False):
    """A customer's stored value. Fields are appended, never moved: old values decode, new fields take their default.

    Weighted sums (`decayed`, `categories`, `brands`, `price_bands`) are forward-decayed from `landmark_ms`; read them
    with `decay.as_of`.
    """

    position: int = START  # of the last log entry that this value reflects
    first_ms: int = 0
    last_ms: int = 0
    seen: bytearray = msgspec.field(default_factory=bytearray)  # ring of recent event ids, `feature_store.repeats`
    session: Session = msgspec.field(default_factory=Session)
    sessions: int = 0
    landmark_ms: int = 0
    counts: dict[int, int] = msgspec.field(default_factory=dict)  # event code -> events
    decayed: dict[int, float] = msgspec.field(default_factory=dict)  # event code -> weight
    categories: dict[str, float] = msgspec.field(default_factory=dict)
    brands: dict[str, float] = msgspec.field(default_factory=dict)
    price_bands: dict[int, float] = msgspec.field(default_factory=dict)  # octave of the price, `price_band`
    orders: int = 0
    last_order_ms: int = 0
    spent: dict[str, int] = msgspec.field(default_factory=dict)  # currency -> micros, refunds taken off
    order_ring: list[int] = msgspec.field(default_factory=list)  # hashes of the last orders: rows of one basket


def price_band(price_micros: int) -> int:
    """Return the octave of a price: band b holds prices from 2^(b-1) to 2^b - 1 micros."""
    return price_micros.bit_length()


def show(customer: Customer, event: Event) -> None:
    """Count an impression that our own API wrote, in place: what we show is no visit and no sign of life."""
    code = MEANINGS["view_item_list"].code
    customer.counts[code] = customer.counts.get(code, 0) + 1
    weight = weight_at(event.at_ms, customer.landmark_ms)
    customer.decayed[code] = customer.decayed.get(code, 0.0) + weight


def apply(customer: Customer, event: Event) -> None:
    """Advance a customer by one event, in place.

    The event is not a repeat (the caller asked `repeats.is_repeat`). A late event counts where it belongs, but never
    turns the clock back or reopens a session.
    """
    at_ms = event.at_ms
    code, weight, touches, act = _STEPS.get(event.event, _CUSTOM)
    if at_ms > customer.last_ms:
        if not customer.last_ms:
            customer.first_ms = customer.landmark_ms = at_ms
        customer.last_ms = at_ms
    elif at_ms < customer.first_ms:
        customer.first_ms = at_ms
    half_lives = (at_ms - customer.landmark_ms) / HALF_LIFE_MS
    if half_lives > RESCALE_AFTER:
        _move_landmark(customer, at_ms)
        half_lives = 0.0
    now_weighs = 2.0**half_lives

    counts, decayed, items = customer.counts, customer.decayed, event.items
    counts[code] = counts.get(code, 0) + 1
    decayed[code] = decayed.get(code, 0.0) + now_weighs
    if advance(customer.session, at_ms, event.session_id, items if touches else (), code):
        customer.sessions += 1
    if weight and items:
        _prefer(customer, items, weight * now_weighs)
    if act is not None:
        act(customer, event)


def _prefer(customer: Customer, lines: Sequence[Line], weight: float) -> None:
    categories, brands, bands = customer.categories, customer.brands, customer.price_bands
    for line in lines:
        if category := line.category:
            known = categories.get(category)
            if known is None:
                _make_room(categories)
            categories[category] = weight + (known or 0.0)
        if brand := line.brand:
            known = brands.get(brand)
            if known is None:
                _make_room(brands)
            brands[brand] = weight + (known or 0.0)
        if (price := line.price_micros) > 0:
            band = price.bit_length()
            bands[band] = bands.get(band, 0.0) + weight


def _make_room(sums: dict[str, float]) -> None:
    """Where a further key would be too many, drop all but the greatest sums, in place; among equals the newer stays."""
    if len(sums) >= _SLACK:
        for key in sorted(sums, key=sums.__getitem__)[:-KEEP_TASTES]:
            del sums[key]


def _move_landmark(customer: Customer, at_ms: int) -> None:
    factor = 2.0 ** ((customer.landmark_ms - at_ms) / HALF_LIFE_MS)
    for sums in (customer.decayed, customer.categories, customer.brands, customer.price_bands):
        rescale(sums, factor)
    customer.landmark_ms = at_ms


def event_value(event: Event) -> int:
    """Return what an event is worth in micros of its currency: its own value, else the sum of its lines."""
    if event.value_micros:
        return event.value_micros
    return sum(line.price_micros * line.quantity for line in event.items if line.price_micros > 0)


def _purchase(customer: Customer, event: Event) -> None:
    order = xxhash.xxh3_64_intdigest((event.order_id or event.event_id).encode())
    ring = customer.order_ring
    if order not in ring:  # further rows of one basket are one order
        customer.orders += 1
        ring.append(order)
        if len(ring) > KEEP_ORDERS:
            del ring[0]
    if event.at_ms > customer.last_order_ms:
        customer.last_order_ms = event.at_ms
    _spend(customer, event.currency, event_value(event))
    drop_from_cart(customer.session, event.items, whole=True)


def _refund(customer: Customer, event: Event) -> None:
    _spend(customer, event.currency, -event_value(event))


def _spend(customer: Customer, currency: str, micros: int) -> None:
    if micros and (currency in customer.spent or len(customer.spent) < KEEP_CURRENCIES):
        customer.spent[currency] = customer.spent.get(currency, 0) + micros


def _add_to_cart(customer: Customer, event: Event) -> None:
    put_in_cart(customer.session, event.items)


def _remove_from_cart(customer: Customer, event: Event) -> None:
    drop_from_cart(customer.session, event.items)


def _search(customer: Customer, event: Event) -> None:
    search(customer.session, event.query)


_ACTS: Final[dict[str, Callable[[Customer, Event], None]]] = {
    "purchase": _purchase,
    "refund": _refund,
    "cancel_order": _refund,
    "add_to_cart": _add_to_cart,
    "remove_from_cart": _remove_from_cart,
    "search": _search,
}
_Step = tuple[int, float, bool, Callable[[Customer, Event], None] | None]
#: What `apply` asks of an event's name, in one look-up: code, weight, touches, act.
_STEPS: Final[dict[str, _Step]] = {name: (m.code, m.weight, m.touches, _ACTS.get(name)) for name, m in MEANINGS.items()}
_CUSTOM: Final[_Step] = (CUSTOM.code, CUSTOM.weight, CUSTOM.touches, None)
