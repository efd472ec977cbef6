"""A row of a data file becomes an event, as a caller would send it. Room: cli, pure.

There is one mapping, to the JSON of ``POST /v1/events``; ``--via log`` has it judged by the same decoder as the API, so
both ways put the same events into the log. Rules beyond the column names:

* who: customer_id; without one anonymous_id; without one ``s:`` + session, or ``s:`` + order where there is no session
* the event id is ``<directory>/<file>:<row>``, so a second replay of a file repeats its events
* what is given back (a negative quantity of a purchase) is a ``refund``; quantities are counted up; 0 counts as 1
* ``value`` is of the row, ``price`` of one unit: each is computed from the other, a price only where it comes out even
  in millionths; a negative price is left out
* category, brand and price that the row lacks are taken from the items file
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from cli.replaying.columns import NO_CURRENCY, Columns
from events.names import ALIASES, is_known
from events.schema import MICROS

_ORDERS: Final = ("purchase", "refund", "cancel_order")
_MAX_QUANTITY: Final = 1_000_000


class Row(NamedTuple):
    """One row: its time, its number in the file, then `columns.FIELDS`; None where the file says nothing."""

    ts: int
    number: int
    event: str | None
    customer_id: str | None
    anonymous_id: str | None
    session_id: str | None
    item_id: str | None
    order_id: str | None
    quantity: float | None
    price: float | None
    value: float | None
    category: str | None
    brand: str | None
    query: str | None
    position: float | None
    currency: str | None


class Facts(NamedTuple):
    """What the items file says of an item."""

    category: str = ""
    brand: str = ""
    price: float | None = None


_NOTHING: Final = Facts()


class Mapper:
    """Turns the rows of one file into events."""

    def __init__(self, source: str, columns: Columns, facts: Mapping[str, Facts], *, currency: str = "") -> None:
        self._prefix = f"{source}:"
        self._columns = columns
        self._facts = facts
        self._currency = currency or columns.currency or NO_CURRENCY
        self._names: dict[str, str] = {}

    def event(self, row: Row, *, timestamp: int, sent_at: int | None = None) -> dict[str, Any]:
        """Return the event of a row; times are epoch milliseconds of the sender's clock."""
        name = self._name(row)
        event: dict[str, Any] = {"event": name, "event_id": f"{self._prefix}{row.number}", "timestamp": timestamp}
        if sent_at is not None:
            event["sent_at"] = sent_at
        if row.customer_id:
            event["customer_id"] = row.customer_id
        elif row.anonymous_id:
            event["anonymous_id"] = row.anonymous_id
        elif session := row.session_id or row.order_id:
            event["anonymous_id"] = f"s:{session}"
        if row.session_id:
            event["session_id"] = row.session_id
        if row.order_id:
            event["order_id"] = row.order_id
        if row.query:
            event["query"] = row.query
        self._worth(event, row, name)
        return event

    def _worth(self, event: dict[str, Any], row: Row, name: str) -> None:
        """Add the item, the value and the currency."""
        quantity = min(round(abs(row.quantity)) or 1, _MAX_QUANTITY) if row.quantity is not None else 1
        price = row.price if row.price is not None and row.price >= 0 else None
        value = abs(row.value) if row.value is not None else None
        if price is None and value is not None and round(value * MICROS) % quantity == 0:
            price = value / quantity
        if row.item_id:
            facts = self._facts.get(row.item_id, _NOTHING)
            if price is None:
                price = facts.price
            event["items"] = [self._line(row, quantity, price, facts)]
        if value is None and price is not None and name in _ORDERS:
            value = round(price * quantity, 6)
        if value is not None:
            event["value"] = value
        if price is not None or value is not None:
            event["currency"] = row.currency or self._currency

    def _line(self, row: Row, quantity: int, price: float | None, facts: Facts) -> dict[str, Any]:
        line: dict[str, Any] = {"item_id": row.item_id}
        if quantity != 1:
            line["quantity"] = quantity
        if price is not None:
            line["price"] = price
        blank = self._columns.blank
        own_category = row.category if row.category not in blank.get("category", ()) else None
        if category := own_category or facts.category:
            line["category"] = category
        if brand := row.brand or facts.brand:
            line["brand"] = brand
        if row.position is not None:
            line["position"] = int(row.position)
        return line

    def _name(self, row: Row) -> str:
        columns = self._columns
        if columns.cancelled_by and row.order_id and row.order_id.startswith(columns.cancelled_by):
            return "cancel_order"
        said = row.event or columns.event
        name = self._names.get(said) or self._names.setdefault(said, canonical(said))
        if name == "purchase" and row.quantity is not None and row.quantity < 0:
            return "refund"
        return name


def canonical(said: str) -> str:
    """Return our name for a data set's: one of ours, an alias, or a custom event that says what stood there.

    Examples
    --------
    >>> canonical("view"), canonical("transaction"), canonical("add_to_cart"), canonical("Rate it!")
    ('view_item', 'purchase', 'add_to_cart', 'x_rate_it')
    """
    plain = re.sub(r"[^a-z0-9]+", "_", said.lower()).strip("_")
    if is_known(plain):
        return plain
    return ALIASES.get(plain) or f"x_{plain[:60] or 'event'}"
