"""What one answer knows of its customer: the stored values, overlaid with the events of the call. Room: serving, pure.

Two values may be read, of the known customer and of the visitor they were before; what either touched is one history.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Final, NamedTuple

from events.errors import EventError
from events.schema import Event
from events.wire import decode
from feature_store.customer import Customer, apply
from feature_store.repeats import digest_of, is_repeat, remember
from feature_store.session import GAP_MS
from feature_store.vocabulary import MEANINGS
from serving.ask import Advice, Ask
from serving.catalog import Catalog

#: Items of earlier visits that stand in for a session that has none yet.
REMEMBERED: Final = 10
LIKED: Final = 3
_BOUGHT: Final = MEANINGS["purchase"].code


class View(NamedTuple):
    """What matters for a slate."""

    history: list[str]  # touched in this session (or before, if nothing yet), newest last
    bought: list[str]  # recently bought
    cart: list[str]
    categories: list[str]  # best liked first


NOBODY: Final = View([], [], [], [])


def overlay(
    ask: Ask, customer: Customer | None, anonymous: Customer | None, catalog: Catalog, now_ms: int, advice: list[Advice]
) -> tuple[Customer | None, Customer | None]:
    """Apply the events of the call to the values that were read (they are this answer's own copies), in place.

    An event that cannot be used becomes a warning: a bad event is no reason for an empty page.
    """
    for index, raw in enumerate(ask.events):
        try:
            event = decode(
                raw, received_ms=now_ms, customer_id=ask.customer_id or "", anonymous_id=ask.anonymous_id or ""
            ).event
            owner = _owner(event, ask)
        except EventError as err:
            advice.append(Advice(f"/events/{index}{err.pointer}", err.code, err.detail))
            continue
        catalog.stamp(event)
        if owner == "customer":
            customer = customer or Customer()
            _apply(customer, event)
        else:
            anonymous = anonymous or Customer()
            _apply(anonymous, event)
    return customer, anonymous


def _owner(event: Event, ask: Ask) -> str:
    if event.customer_id and event.customer_id == ask.customer_id:
        return "customer"
    if not event.customer_id and event.anonymous_id == ask.anonymous_id:
        return "anonymous"
    detail = "this event is of somebody else than the request: send it to /v1/events"
    raise EventError(detail, code="other_identity")


def _apply(customer: Customer, event: Event) -> None:
    digest = digest_of(event.event_id.encode())
    if not is_repeat(customer.seen, digest):  # it may have come through the log already
        apply(customer, event)
        remember(customer.seen, digest, event.received_ms)


def view_of(customer: Customer | None, anonymous: Customer | None, now_ms: int) -> View:
    """Return what the values say at `now_ms`."""
    if customer is not None and anonymous is not None:
        return _joined(customer, anonymous, now_ms)
    value = customer or anonymous
    if value is None:
        return NOBODY
    session = value.session
    recent, codes = session.recent_items, session.recent_codes
    bought = [item for item, code in zip(recent, codes, strict=True) if code == _BOUGHT] if _BOUGHT in codes else []
    history = session.item_ids() if now_ms - session.last_ms <= GAP_MS else []
    return View(history or recent[-REMEMBERED:], bought, list(session.cart), _liked(value.categories))


def _joined(a: Customer, b: Customer, now_ms: int) -> View:
    """Return one history of a customer and of the visitor they were."""
    touches = sorted([*a.session.recent, *b.session.recent], key=attrgetter("at_ms"))
    begun_ms = min((v.session.opened_ms for v in (a, b) if now_ms - v.session.last_ms <= GAP_MS), default=now_ms)
    current = [touch.item_id for touch in touches if touch.at_ms >= begun_ms]
    weights = dict(a.categories)
    for category, weight in b.categories.items():
        weights[category] = max(weight, weights.get(category, 0.0))
    return View(
        current or [touch.item_id for touch in touches[-REMEMBERED:]],
        [touch.item_id for touch in touches if touch.code == _BOUGHT],
        list({**b.session.cart, **a.session.cart}),
        _liked(weights),
    )


def _liked(weights: Mapping[str, float]) -> list[str]:
    return sorted((c for c, w in weights.items() if w > 0), key=weights.__getitem__, reverse=True)[:LIKED]
