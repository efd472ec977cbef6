"""Sessions: how a visit grows, event by event. Room: feature_store, pure core.

A session ends after 30 minutes without an event, or when the storefront names another one. The recent items, the cart
and the searches outlive it (a cart is left, not emptied); `fresh` says how many recent items belong to this session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from events.schema import Line

GAP_MS: Final = 1_800_000
KEEP_RECENT: Final = 50
KEEP_CART: Final = 50
KEEP_QUERIES: Final = 10

_TIME: Final = 6  # bytes of a time, big-endian
_MARK: Final = _TIME + 1  # time, then the event's code
_CODES: Final = [bytes([code]) for code in range(64)]


class Touch(NamedTuple):
    """An item that was touched."""

    item_id: str
    code: int  # of the event, feature_store.vocabulary
    at_ms: int


class Session(msgspec.Struct, array_like=True, gc=False):
    """The visit that is going on, or the last one."""

    session_id: str = ""
    opened_ms: int = 0
    last_ms: int = 0
    events: int = 0
    fresh: int = 0  # how many of the newest `recent` were touched in this session
    # What was touched, newest last, in columns: an append and an encoding cost a third of a list of tuples.
    recent_items: list[str] = msgspec.field(default_factory=list)
    recent_marks: bytearray = msgspec.field(default_factory=bytearray)  # time and event code of each
    cart: dict[str, int] = msgspec.field(default_factory=dict)  # item_id -> quantity
    queries: list[str] = msgspec.field(default_factory=list)  # newest last

    @property
    def recent(self) -> list[Touch]:
        """The last 50 touched items of this and earlier sessions, newest last."""
        marks = self.recent_marks
        return [
            Touch(item_id, marks[at + _TIME], int.from_bytes(marks[at : at + _TIME], "big"))
            for item_id, at in zip(self.recent_items, range(0, len(marks), _MARK), strict=True)
        ]

    @property
    def recent_codes(self) -> bytearray:
        """The event code of each of `recent_items`."""
        return self.recent_marks[_TIME::_MARK]

    def item_ids(self) -> list[str]:
        """Return the item of each touch in this session, newest last, repeats included."""
        return self.recent_items[-self.fresh :] if self.fresh else []


def advance(session: Session, at_ms: int, session_id: str, touched: Sequence[Line], code: int) -> bool:
    """Count one event into the session, in place; return whether it opened a new one."""
    last_ms = session.last_ms
    opened = False
    if at_ms >= last_ms:
        known = session.session_id
        if session_id != known if session_id and known else at_ms - last_ms > GAP_MS:
            opened = True
            session.session_id = session_id
            session.opened_ms = at_ms
            session.events = session.fresh = 0
        elif session_id and not known:
            session.session_id = session_id
        session.last_ms = at_ms
    session.events += 1
    if touched:
        items, marks = session.recent_items, session.recent_marks
        mark = at_ms.to_bytes(_TIME, "big") + _CODES[code]
        for line in touched:
            if at_ms >= last_ms:
                items.append(line.item_id)
                marks += mark
            else:
                _insert(items, marks, line.item_id, mark)
        if at_ms >= session.opened_ms:
            session.fresh += len(touched)
        surplus = len(items) - KEEP_RECENT
        if surplus > 0:
            del items[:surplus], marks[: surplus * _MARK]
            if session.fresh > KEEP_RECENT:
                session.fresh = KEEP_RECENT
    return opened


def _insert(items: list[str], marks: bytearray, item_id: str, mark: bytes) -> None:
    """Put a late touch where its time belongs, after its equals."""
    at, time = len(items), mark[:_TIME]
    while at and marks[(at - 1) * _MARK : (at - 1) * _MARK + _TIME] > time:
        at -= 1
    items.insert(at, item_id)
    marks[at * _MARK : at * _MARK] = mark


def put_in_cart(session: Session, lines: Sequence[Line]) -> None:
    """Add lines to the cart; beyond `KEEP_CART` distinct items the oldest leaves."""
    cart = session.cart
    for line in lines:
        cart[line.item_id] = cart.get(line.item_id, 0) + line.quantity
        if len(cart) > KEEP_CART:
            del cart[next(iter(cart))]


def drop_from_cart(session: Session, lines: Sequence[Line], *, whole: bool = False) -> None:
    """Take lines out of the cart, wholly where they were bought."""
    cart = session.cart
    for line in lines:
        left = 0 if whole else cart.get(line.item_id, 0) - line.quantity
        if left > 0:
            cart[line.item_id] = left
        else:
            cart.pop(line.item_id, None)


def search(session: Session, query: str) -> None:
    """Remember a query; asking the same again moves it to the end."""
    if not query:
        return
    queries = session.queries
    if query in queries:
        queries.remove(query)
    queries.append(query)
    if len(queries) > KEEP_QUERIES:
        del queries[0]
