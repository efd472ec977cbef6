"""Which column means what: the data sets' names, the publishers' own files, and ``--map``. Room: cli, pure.

================  ==============================================================================================
field             columns that are taken for it, the first that is there
================  ==============================================================================================
ts                ts, at_ms, timestamp, event_time, time (epoch ms, epoch s, or ISO 8601 in UTC)
event             event (a name of ours, or short: view, click, cart, purchase, follow, comment, cancel, …)
customer_id       user_id, customer_id
anonymous_id      anonymous_id
session_id        session_id
item_id           item_id
order_id          basket_id, invoice, order_id
quantity          quantity (what is given back may be negative)
price             price (of one unit)
value             sales_value, amount, value (of the row)
category, brand   category, brand
query             query
position          position
currency          currency
================  ==============================================================================================

Publishers' own files are known by their header, or by the shape of their first line:

RetailRocket      ``events.csv``: visitorid is the customer, transactionid the order
YooChoose         ``yoochoose-clicks.dat``, ``yoochoose-buys.dat`` (no header)
Diginetica        ``train-item-views.csv``, ``train-purchases.csv``: time is eventdate + timeframe
UCI Online Retail the CSV with InvoiceNo …: an invoice that begins with C is a cancellation

Anything else: ``--map column=field``, as often as needed; it goes before all of the above.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from events.errors import SettingsError

#: What a row may say; the order is that of `cli.replaying.rows.Row`.
FIELDS: Final = (
    "event", "customer_id", "anonymous_id", "session_id", "item_id", "order_id", "quantity", "price", "value",
    "category", "brand", "query", "position", "currency",
)  # fmt: skip

_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "ts": ("ts", "at_ms", "timestamp", "event_time", "time"),
    "event": ("event",),
    "customer_id": ("user_id", "customer_id"),
    "anonymous_id": ("anonymous_id",),
    "session_id": ("session_id",),
    "item_id": ("item_id",),
    "order_id": ("basket_id", "invoice", "order_id"),
    "quantity": ("quantity",),
    "price": ("price",),
    "value": ("sales_value", "amount", "value"),
    "category": ("category",),
    "brand": ("brand",),
    "query": ("query",),
    "position": ("position",),
    "currency": ("currency",),
}

#: Data-set names that ``--map`` may use for our fields.
_MEANT: Final = {name: field for field, names in _NAMES.items() for name in names}

_ISO: Final = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d")
NO_CURRENCY: Final = "XXX"  # ISO 4217: no currency is known


class Columns(msgspec.Struct, kw_only=True):
    """How one file is read."""

    preset: str
    of: dict[str, str]  # field -> column
    plus: str = ""  # column of milliseconds to add to the time
    month_first: bool = False  # the time is "12/1/2010 8:26"
    event: str = ""  # of rows without an event column
    cancelled_by: str = ""  # an order id that begins so is a cancellation
    blank: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)  # field -> values that mean "unknown"
    currency: str = ""


_PUBLISHED: Final = (
    (
        {"timestamp", "visitorid", "event", "itemid", "transactionid"},
        Columns(
            preset="RetailRocket",
            of={"ts": "timestamp", "event": "event", "customer_id": "visitorid", "item_id": "itemid"}
            | {"order_id": "transactionid"},
        ),
    ),
    (
        {"sessionid", "userid", "itemid", "timeframe", "eventdate", "ordernumber"},
        Columns(
            preset="Diginetica",
            of={"ts": "eventdate", "session_id": "sessionid", "customer_id": "userid", "item_id": "itemid"}
            | {"order_id": "ordernumber"},
            plus="timeframe",
            event="purchase",
        ),
    ),
    (
        {"sessionid", "userid", "itemid", "timeframe", "eventdate"},
        Columns(
            preset="Diginetica",
            of={"ts": "eventdate", "session_id": "sessionid", "customer_id": "userid", "item_id": "itemid"},
            plus="timeframe",
            event="view",
        ),
    ),
    (
        {"invoiceno", "stockcode", "quantity", "invoicedate", "unitprice", "customerid"},
        Columns(
            preset="UCI Online Retail",
            of={"ts": "invoicedate", "customer_id": "customerid", "item_id": "stockcode", "order_id": "invoiceno"}
            | {"quantity": "quantity", "price": "unitprice"},
            month_first=True,
            event="purchase",
            cancelled_by="C",
            currency="GBP",
        ),
    ),
)

#: YooChoose's files have no header: our names for their columns, by how many there are.
_YOOCHOOSE: Final = {
    4: (["session_id", "timestamp", "item_id", "category"], "view"),
    5: (["session_id", "timestamp", "item_id", "price", "quantity"], "purchase"),
}


def parse_map(pairs: Sequence[str]) -> dict[str, str]:
    """Return field -> column of ``--map column=field`` options.

    Raises
    ------
    SettingsError
        No such field, or not of that form.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        column, equals, name = pair.rpartition("=")
        field = _MEANT.get(name.strip(), name.strip())
        if not equals or field not in _NAMES:
            raise SettingsError(f"--map {pair!r}: write column=field with one of {', '.join(_NAMES)}")
        mapping[field] = column.strip()
    return mapping


def headless(first: Sequence[str]) -> tuple[list[str], str] | None:
    """Return names and event of a YooChoose file, known by its first line; None where that is a header."""
    if len(first) in _YOOCHOOSE and first[0].isdigit() and _ISO.match(first[1]):
        return _YOOCHOOSE[len(first)]
    return None


def recognise(header: Sequence[str], mapping: Mapping[str, str], *, where: str) -> Columns:
    """Return how a file with this header is read; `mapping` (``--map``) goes first.

    Raises
    ------
    SettingsError
        A mapped column is not there, or nothing says when and who.
    """
    for field, column in mapping.items():
        if column not in header:
            raise SettingsError(f"--map {column}={field}: {where} has no column {column!r}, but {', '.join(header)}")
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in header}
    for needed, known in _PUBLISHED:
        if needed <= plain.keys():
            found = msgspec.structs.replace(known, of={f: plain[c] for f, c in known.of.items()} | dict(mapping))
            found.plus = plain[known.plus] if known.plus else ""
            return _checked(found, header, where)
    of = {field: name for field, names in _NAMES.items() for name in reversed(names) if name in header}
    columns = Columns(preset="README names", of=of | dict(mapping))
    if "event" not in columns.of:
        columns.event = "purchase" if columns.of.keys() & {"value", "quantity", "order_id"} else "view"
    if columns.of.get("value") in ("sales_value", "amount"):
        columns.currency = "USD"
    elif columns.of.get("order_id") == "invoice":
        columns.currency = "GBP"
    return _checked(columns, header, where)


def _checked(columns: Columns, header: Sequence[str], where: str) -> Columns:
    missing = [field for field in ("ts",) if field not in columns.of]
    if not columns.of.keys() & {"customer_id", "anonymous_id", "session_id", "order_id"}:
        missing.append("customer_id (or anonymous_id, session_id, order_id)")
    if not columns.of.keys() & {"item_id", "value", "query"}:
        missing.append("item_id (or value, query)")
    if missing:
        raise SettingsError(
            f"{where} has no column that is taken for {', nor for '.join(missing)}; it has {', '.join(header)}: "
            f"say what they mean with --map column=field"
        )
    return columns
