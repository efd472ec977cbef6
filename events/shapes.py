"""The shapes that callers send over HTTP. Room: events.

`events.wire` turns them into `events.schema`; `serving` makes the OpenAPI document of them. Constraints stand in the
types; the rules that span fields stand in `events.wire`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from msgspec import Meta, Raw, Struct, field

from events import clock
from events.schema import SCHEMA_VERSION

MAX_EVENT_BYTES: Final = 32_768
MAX_BODY_BYTES: Final = 500_000
MAX_EVENTS: Final = 500
MAX_LINES: Final = 200
MAX_ID: Final = 256
MAX_PRICE: Final = 1_000_000_000
MAX_VALUE: Final = 1_000_000_000_000  # of a whole event; its micros fit 64 bits

#: JSON Schema only; enforced by `events.wire`, which is faster than a regular expression per string.
_PLAIN = {"pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$"}
Id = Annotated[str, Meta(max_length=MAX_ID, extra_json_schema=_PLAIN)]
ItemId = Annotated[str, Meta(min_length=1, max_length=MAX_ID, extra_json_schema=_PLAIN)]
Text = Annotated[str, Meta(max_length=512, extra_json_schema=_PLAIN)]
Price = Annotated[float, Meta(ge=0, le=MAX_PRICE)]
Value = Annotated[float, Meta(ge=0, le=MAX_VALUE)]
Quantity = Annotated[int, Meta(ge=1, le=1_000_000)]
Rank = Annotated[int, Meta(ge=0, le=1_000_000)]
Currency = Annotated[str, Meta(pattern="^[A-Za-z]{3}$", description="ISO 4217, e.g. EUR")]
Time = (
    Annotated[datetime, Meta(tz=True, description="RFC 3339 with a zone")]
    | Annotated[int, Meta(ge=clock.EARLIEST_MS, le=clock.LATEST_MS, description="epoch milliseconds")]
)


class WireItem(Struct, gc=False):
    """One item of an event."""

    item_id: ItemId
    quantity: Quantity | None = None
    price: Price | None = None
    currency: Currency | None = None
    category: Text | None = None
    brand: Text | None = None
    position: Rank | None = None


Items = Annotated[list[WireItem], Meta(max_length=MAX_LINES)]


class WireContext(Struct, gc=False):
    """Free-form; only this much of it is read."""

    consent: Annotated[dict[Id, bool], Meta(max_length=50)] | None = None


class WireProperties(Struct, gc=False):
    """Free-form; item and order fields may stand here as well as at the top level."""

    item_id: ItemId | None = None
    quantity: Quantity | None = None
    price: Price | None = None
    category: Text | None = None
    brand: Text | None = None
    position: Rank | None = None
    items: Items | None = None
    value: Value | None = None
    currency: Currency | None = None
    order_id: Id | None = None
    query: Text | None = None


class WireEvent(Struct, kw_only=True):
    """An event as callers send it."""

    event: str
    event_id: Id | None = None
    timestamp: Time | None = None
    sent_at: Time | None = None
    customer_id: Id | None = None
    anonymous_id: Id | None = None
    session_id: Id | None = None
    item_id: ItemId | None = None
    quantity: Quantity | None = None
    price: Price | None = None
    category: Text | None = None
    brand: Text | None = None
    position: Rank | None = None
    items: Items | None = None
    value: Value | None = None
    currency: Currency | None = None
    order_id: Id | None = None
    query: Text | None = None
    recommendation_id: Id | None = None
    decision_id: Id | None = None
    consent: Annotated[dict[Id, bool], Meta(max_length=50)] | None = None
    experiment: Annotated[list[Id], Meta(max_length=20)] | None = None
    schema_version: Annotated[int, Meta(ge=1, le=SCHEMA_VERSION)] | None = None
    historical: bool | None = None  # belongs to the body; read there
    context: Raw = field(default_factory=Raw)
    properties: Raw = field(default_factory=Raw)
