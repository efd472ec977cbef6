"""What callers send, judged: HTTP JSON -> `Event`. Room: events, pure; no clock, no network.

Called by `serving` for intake and for the events inside a recommendation call. A body is split into the raw bytes of
its events first, so each is judged by itself and a refused one is kept as it came. The only error is `EventError`,
which names field, value and remedy. Free-form `context` and `properties` are read for the fields below and not kept:
a field joins the log when a feature needs it (size).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from events import clock
from events.complaints import MAX_DEPTH, MEANT, REMEDIES, decode_json, escaped, explained, needs_lenience, plain, shown
from events.errors import EventError
from events.names import is_known, remedy_for
from events.schema import MICROS, Event, Line
from events.shapes import (
    MAX_BODY_BYTES,
    MAX_EVENT_BYTES,
    MAX_EVENTS,
    MAX_VALUE,
    Time,
    WireContext,
    WireEvent,
    WireItem,
    WireProperties,
)


class _Strict(WireEvent, forbid_unknown_fields=True):
    """The quick path: no unknown field, so nothing to warn of."""


class _Envelope(Struct):
    events: list[Raw] | UnsetType = UNSET
    sent_at: Raw = Raw()
    historical: bool | None = None


class Body(NamedTuple):
    """A request body, split: each event's own bytes, and what holds for all of them."""

    events: list[Raw]
    sent_at: Time | None
    historical: bool
    single: bool


class Notice(Struct, gc=False):
    """A warning: the event is accepted, but perhaps not as it was meant."""

    pointer: str
    code: str
    detail: str


class Decoded(NamedTuple):
    event: Event
    notices: Sequence[Notice]


_strict = msgspec.json.Decoder(_Strict)
_lenient = msgspec.json.Decoder(WireEvent)
_envelope = msgspec.json.Decoder(_Envelope)
_context = msgspec.json.Decoder(WireContext | None)
_properties = msgspec.json.Decoder(WireProperties | None)
_time = msgspec.json.Decoder(Time | None)
_fields = msgspec.json.Decoder(dict[str, Raw])
_anything = msgspec.json.Decoder(Any)
_KNOWN: Final = frozenset(WireEvent.__struct_fields__)
_NOTHING: Final = WireProperties()

NEEDS_ITEMS: Final = frozenset(
    {"view_item_list", "select_item", "view_item", "add_to_cart", "remove_from_cart", "add_to_wishlist"}
    | {"remove_from_wishlist", "review_item", "not_interested"}
)
NEEDS_ITEMS_OR_VALUE: Final = frozenset({"purchase"})
NEEDS_ORDER_OR_ITEMS: Final = frozenset({"refund", "cancel_order"})


def split_body(body: bytes, *, max_events: int = MAX_EVENTS) -> Body:
    """Split a request body into the raw events of ``{"events": [...]}``, or the one event that it is.

    Raises
    ------
    EventError
        The body as a whole cannot be read: malformed, too large, of no or too many events.
    """
    if len(body) > MAX_BODY_BYTES:
        raise EventError(
            f"the body has {len(body):,} bytes, the limit is {MAX_BODY_BYTES:,}: send smaller batches",
            code="body_too_large",
        )
    try:
        str(body, "utf-8")  # the decoder does not look into strings that it skips
    except UnicodeDecodeError as err:
        raise explained(err, body) from None
    if body[:1] == b"[":
        raise EventError('the body is a list: send {"events": [...]} or one event', code="not_an_object")
    envelope = decode_json(_envelope, body)
    if envelope.events is UNSET:
        return Body([Raw(body)], None, bool(envelope.historical), single=True)
    if not envelope.events:
        raise EventError("'events' is empty: send at least one event", pointer="/events", code="no_events")
    if len(envelope.events) > max_events:
        raise EventError(
            f"'events' holds {len(envelope.events):,} events, the limit is {max_events}: send smaller batches",
            pointer="/events",
            code="too_many_events",
        )
    sent_at = decode_json(_time, envelope.sent_at, "/sent_at") if bytes(envelope.sent_at) else None
    return Body(envelope.events, sent_at, bool(envelope.historical), single=False)


def decode(
    raw: bytes | Raw,
    *,
    received_ms: int,
    sent_at: Time | None = None,
    historical: bool = False,
    customer_id: str = "",
    anonymous_id: str = "",
) -> Decoded:
    """Return the event that `raw` holds, its clock corrected and its values checked.

    Parameters
    ----------
    raw
        JSON of one event, at most 32,768 bytes.
    received_ms
        Now, epoch milliseconds.
    sent_at
        The batch's `sent_at`, where the event has none.
    historical
        An import of the past: received time is event time, and nothing is clamped.
    customer_id, anonymous_id
        Whose event it is where it does not say (events inside a recommendation call).

    Raises
    ------
    EventError
        It cannot be accepted.
    """
    if len(memoryview(raw)) > MAX_EVENT_BYTES:
        raise EventError(
            f"the event has {len(memoryview(raw)):,} bytes, the limit is {MAX_EVENT_BYTES:,}: leave out free-form data",
            code="event_too_large",
        )
    wire, notices = _read(raw)
    if not is_known(wire.event):
        detail = f"event is {shown(wire.event)}, which is no event name here: {remedy_for(wire.event)}"
        raise EventError(detail, pointer="/event", code="unknown_event")
    context = _free(_context, wire.context, "/context")
    properties = _free(_properties, wire.properties, "/properties")
    event = Event(
        event=wire.event,
        event_id=_text(wire.event_id, "/event_id"),
        at_ms=0,
        received_ms=received_ms,
        customer_id=_text(wire.customer_id, "/customer_id"),
        anonymous_id=_text(wire.anonymous_id, "/anonymous_id"),
        session_id=_text(wire.session_id, "/session_id"),
        order_id=_text(wire.order_id, "/order_id"),
        query=_text(wire.query, "/query").strip(),
        recommendation_id=_text(wire.recommendation_id, "/recommendation_id"),
        decision_id=_text(wire.decision_id, "/decision_id"),
        consent=wire.consent or (context.consent if context and context.consent else {}),
        experiment=wire.experiment or [],
    )
    if not (event.customer_id or event.anonymous_id):
        event.customer_id, event.anonymous_id = customer_id, anonymous_id
    if not (event.customer_id or event.anonymous_id):
        raise EventError(
            "neither customer_id nor anonymous_id is given: send at least one of them"
            + _confused(notices, "customer_id", "anonymous_id"),
            code="no_identity",
        )
    has_value = _set_items(event, wire, properties)
    _set_times(event, wire.timestamp, wire.sent_at or sent_at, received_ms, notices, historical=historical)
    _check_meaning(event, notices, has_value=has_value)
    if not event.event_id:
        event.event_id = clock.new_id(received_ms)
        detail = "no event_id, so one was made: without your own a retry cannot be told from a repeat"
        notices.append(Notice("/event_id", "event_id_missing", detail + _confused(notices, "event_id")))
    return Decoded(event, notices)


# ---- reading -------------------------------------------------------------------------------------------------


def _read(raw: bytes | Raw) -> tuple[WireEvent, list[Notice]]:
    try:
        return _strict.decode(raw), []
    except (msgspec.DecodeError, ValueError, RecursionError) as err:
        if not needs_lenience(err):
            raise explained(err, raw) from None
    wire = decode_json(_lenient, raw)
    unknown = [name for name in decode_json(_fields, raw) if name not in _KNOWN]
    notices = []
    for name in unknown[:10]:
        meant = f"; did you mean '{MEANT[name]}'?" if name in MEANT else ""
        detail = f"{shown(name)} is not a field of an event and was ignored{meant}"
        notices.append(Notice("/" + escaped(name[:64]), "unknown_field", detail))
    return wire, notices


def _confused(notices: Sequence[Notice], *fields: str) -> str:
    """Return the hint that another vocabulary was spoken, if an ignored field says so."""
    for notice in notices:
        if MEANT.get(notice.pointer[1:]) in fields:
            return f" ('{notice.pointer[1:]}' is called '{MEANT[notice.pointer[1:]]}' here)"
    return ""


_Struct = TypeVar("_Struct")


def _free(decoder: msgspec.json.Decoder[_Struct], raw: Raw, pointer: str) -> _Struct | None:
    """Read what is known of a free-form object, after a look at its nesting."""
    data = bytes(raw)
    if not data:
        return None
    if data.count(b"{") + data.count(b"[") > MAX_DEPTH and _depth(data) > MAX_DEPTH:
        detail = f"{pointer[1:]} is nested deeper than {MAX_DEPTH} levels: flatten it"
        raise EventError(detail, pointer=pointer, code="too_deep")
    return decode_json(decoder, data, pointer)


def _depth(data: bytes) -> int:
    depth, level = 0, [decode_json(_anything, data)]
    while level := [c for v in level if isinstance(v, dict | list) for c in (v.values() if isinstance(v, dict) else v)]:
        depth += 1
    return depth


# ---- values --------------------------------------------------------------------------------------------------


def _text(value: str | None, pointer: str) -> str:
    """Return a text without control characters; none and empty are the same."""
    return plain(value, pointer) if value else ""


def _micros(amount: float | None, pointer: str) -> int:
    if amount is None:
        return -1
    if not math.isfinite(amount):
        raise EventError(f"{pointer[1:]} is not finite: {REMEDIES['price']}", pointer=pointer, code="invalid_value")
    return round(amount * MICROS)


def _set_items(event: Event, wire: WireEvent, free: WireProperties | None) -> bool:
    """Fill lines, value and currency from the top level, else from `properties`; return whether a value was given."""
    free = free or _NOTHING
    found = list(_items(wire, free))
    event.items = [_line(item, at) for item, at in found]
    event.order_id = event.order_id or _text(free.order_id, "/properties/order_id")
    event.query = event.query or _text(free.query, "/properties/query").strip()
    event.currency = _currency(wire.currency or free.currency, found)
    value, at = (wire.value, "/value") if wire.value is not None else (free.value, "/properties/value")
    event.value_micros = max(_micros(value, at), 0)
    if not event.currency:
        priced = [(item.price, f"{where}/price") for item, where in found]
        for amount, pointer in [(value, at), *priced]:
            if amount is not None:
                detail = f"{pointer[1:].replace('/', '.')} is {amount} without a currency: add 'currency', e.g. 'EUR'"
                raise EventError(detail, pointer=pointer, code="currency_missing")
    if sum(line.quantity * line.price_micros for line in event.items if line.price_micros > 0) > MAX_VALUE * MICROS:
        detail = f"the items come to more than {MAX_VALUE:,}: price is per unit, quantity a count"
        raise EventError(detail, pointer="/items", code="invalid_value")
    return value is not None


def _items(wire: WireEvent, free: WireProperties) -> Iterator[tuple[WireItem, str]]:
    """Yield each item and its pointer: from the first of four places that has any."""
    for prefix, place in (("", wire), ("/properties", free)):
        if place.items:
            yield from ((item, f"{prefix}/items/{i}") for i, item in enumerate(place.items))
            return
        if place.item_id:
            single = (place.item_id, place.quantity, place.price, None, place.category, place.brand, place.position)
            yield WireItem(*single), prefix
            return


def _line(item: WireItem, pointer: str) -> Line:
    return Line(
        item_id=_text(item.item_id, f"{pointer}/item_id"),
        quantity=item.quantity or 1,
        price_micros=_micros(item.price, f"{pointer}/price"),
        category=_text(item.category, f"{pointer}/category"),
        brand=_text(item.brand, f"{pointer}/brand"),
        position=-1 if item.position is None else item.position,
    )


def _currency(own: str | None, found: Sequence[tuple[WireItem, str]]) -> str:
    """Return the one currency of an event: its own, or that on which its items agree."""
    currency = own.upper() if own else ""
    for item, pointer in found:
        if item.currency and item.currency.upper() != currency:
            if currency:
                detail = f"this item's currency is '{item.currency}', before it stood '{currency}': send one an event"
                raise EventError(detail, pointer=f"{pointer}/currency", code="currency_mixed")
            currency = item.currency.upper()
    return currency


def _set_times(
    event: Event,
    timestamp: Time | None,
    sent_at: Time | None,
    received_ms: int,
    notices: list[Notice],
    *,
    historical: bool,
) -> None:
    happened = clock.epoch_ms(timestamp) if timestamp is not None else None
    if historical:
        if happened is None or not clock.EARLIEST_MS <= happened <= received_ms + clock.FUTURE_MS:
            what = "is missing" if happened is None else f"{happened} lies in the future, or before 1973"
            detail = f"timestamp {what}: an import of the past needs the time at which each event happened"
            raise EventError(detail, pointer="/timestamp", code="invalid_timestamp")
        event.at_ms = event.received_ms = happened
        event.historical = True
        return
    if happened is None:
        event.at_ms = received_ms
        detail = "no timestamp, so the time of receipt stands" + _confused(notices, "timestamp")
        notices.append(Notice("/timestamp", "timestamp_missing", detail))
        return
    if sent_at is not None:
        happened = clock.corrected(happened, clock.epoch_ms(sent_at), received_ms)
    event.at_ms = clock.clamped(happened, received_ms)
    if event.at_ms != happened:
        event.claimed_ms = happened
        detail = f"event time {happened} lies not within 30 days before and 60 s after receipt: {event.at_ms} stands"
        notices.append(Notice("/timestamp", "timestamp_clamped", detail))


def _check_meaning(event: Event, notices: list[Notice], *, has_value: bool) -> None:
    """Refuse an event that lacks what its name promises."""
    name = event.event
    if name in NEEDS_ITEMS and not event.items:
        missing, remedy = "items", "add items: [{'item_id': …}]"
    elif name in NEEDS_ITEMS_OR_VALUE and not event.items and not has_value:
        missing, remedy = "items", "add what was bought as items, or at least value and currency"
    elif name in NEEDS_ORDER_OR_ITEMS and not event.items and not event.order_id:
        missing, remedy = "order_id", "add the order_id that it is about, or items"
    elif name == "search" and not event.query:
        missing, remedy = "query", "add the words that were searched"
    else:
        if name == "purchase" and not event.order_id:
            detail = "purchase without order_id: a repeat can be told by its event_id only"
            notices.append(Notice("/order_id", "order_id_missing", detail + _confused(notices, "order_id")))
        return
    detail = f"{name} without {missing}: {remedy}" + _confused(notices, missing, "item_id")
    raise EventError(detail, pointer=f"/{missing}", code=f"{missing}_missing")
