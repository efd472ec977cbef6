"""Sessions: how a visit grows, event by event. Room: feature_store, pure core.

A session ends after 30 minutes without an event, or when the storefront names another one. The recent items, the cart
and the searches outlive it (a cart is left, not emptied); `fresh` says how many recent items belong to this session.
"""

from __future__ import annotations

from bisect import insort_right
from collections.abc import Sequence
from typing import Final

import msgspec

from events.schema import Line

GAP_MS: Final = 1_800_000
KEEP_RECENT: Final = 50
KEEP_CART: Final = 50
KEEP_QUERIES: Final = 10

Touch = tuple[str, int, int]  # item_id, event code (feature_store.vocabulary), at_ms


class Session(msgspec.Struct, array_like=True, gc=False):
    """The visit that is going on, or the last one."""

    session_id: str = ""
    opened_ms: int = 0
    last_ms: int = 0
    events: int = 0
    fresh: int = 0  # how many of the newest `recent` were touched in this session
    recent: list[Touch] = msgspec.field(default_factory=list)  # newest last, in event time
    cart: dict[str, int] = msgspec.field(default_factory=dict)  # item_id -> quantity
    queries: list[str] = msgspec.field(default_factory=list)  # newest last

    def items(self) -> list[Touch]:
        """Return what was touched in this session, newest last."""
        return self.recent[-self.fresh :] if self.fresh else []


def advance(session: Session, at_ms: int, session_id: str, touched: Sequence[Line], code: int) -> bool:
    """Count one event into the session, in place; return whether it opened a new one."""
    opened = at_ms > session.last_ms and _is_another(session, at_ms, session_id)
    if opened:
        session.session_id = session_id
        session.opened_ms = at_ms
        session.events = session.fresh = 0
    elif session_id and not session.session_id:
        session.session_id = session_id
    session.events += 1
    for line in touched:
        _touch(session, line.item_id, code, at_ms)
    if at_ms > session.last_ms:
        session.last_ms = at_ms
    return opened


def _is_another(session: Session, at_ms: int, session_id: str) -> bool:
    if not session.last_ms:
        return True
    if session_id and session.session_id:
        return session_id != session.session_id
    return at_ms - session.last_ms > GAP_MS


def _touch(session: Session, item_id: str, code: int, at_ms: int) -> None:
    recent = session.recent
    if not recent or at_ms >= recent[-1][2]:
        recent.append((item_id, code, at_ms))
    else:  # late: to its place in time
        insort_right(recent, (item_id, code, at_ms), key=_touched_ms)
    if at_ms >= session.opened_ms and session.fresh < KEEP_RECENT:
        session.fresh += 1
    if len(recent) > KEEP_RECENT:
        del recent[0]


def _touched_ms(touch: Touch) -> int:
    return touch[2]


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
