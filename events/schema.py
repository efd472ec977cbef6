"""The event, as log, dataflow and archive know it. Room: events.

One schema for all: the HTTP decoder (`events.wire`) turns what callers send into an `Event` once; from there on
times are `at_ms` and `received_ms`, money is integer micros, names are GA4's in snake_case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import xxhash

SCHEMA_VERSION: Final = 1

#: Our names are GA4's recommended e-commerce events; adapters map the others (API.md).
EVENT_NAMES: Final = frozenset(
    {
        "view_item_list", "select_item", "view_item", "search", "page_view",
        "add_to_cart", "remove_from_cart", "view_cart",
        "begin_checkout", "add_shipping_info", "add_payment_info", "purchase", "refund", "cancel_order",
        "add_to_wishlist", "remove_from_wishlist",
        "view_promotion", "select_promotion", "apply_coupon",
        "review_item", "share", "check_in",
        "offer_presented", "offer_accepted", "offer_rejected", "offer_expired",
        "message_sent", "message_opened", "message_clicked", "message_aborted", "unsubscribe",
        "sign_up", "login", "consent_updated", "complaint", "support_contact", "not_interested",
    }
)  # fmt: skip

#: The catalogue's own event: partitioned by item, never sent by a storefront.
CATALOG_UPDATED: Final = "catalog_updated"

MICROS: Final = 1_000_000


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """One item of an event, with the item facts that intake stamps on it (category, brand, price)."""

    item_id: str
    quantity: int = 1
    price_micros: int = -1  # per unit, in the event's currency; -1: unknown
    category: str = ""  # path, "home/kitchen/pans"
    brand: str = ""
    position: int = -1  # rank in the slate, from 0


class CatalogItem(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What the shop says of an item; a field that is not set leaves what was known."""

    item_id: str
    title: str | msgspec.UnsetType = msgspec.UNSET
    category: str | msgspec.UnsetType = msgspec.UNSET
    brand: str | msgspec.UnsetType = msgspec.UNSET
    price_micros: int | msgspec.UnsetType = msgspec.UNSET
    list_price_micros: int | msgspec.UnsetType = msgspec.UNSET
    currency: str | msgspec.UnsetType = msgspec.UNSET
    stock: int | msgspec.UnsetType = msgspec.UNSET  # units; 0: out of stock
    hidden: bool | msgspec.UnsetType = msgspec.UNSET
    url: str | msgspec.UnsetType = msgspec.UNSET
    image_url: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    attributes: dict[str, str] | msgspec.UnsetType = msgspec.UNSET


class Event(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """Something that happened in the shop. Strings are ``""`` and numbers 0 where the caller gave none."""

    event: str
    event_id: str
    at_ms: int  # when it happened, UTC, clock-corrected and clamped to [received - 30 d, received + 60 s]
    received_ms: int  # when intake accepted it
    customer_id: str = ""
    anonymous_id: str = ""
    session_id: str = ""
    items: list[Line] = msgspec.field(default_factory=list)
    value_micros: int = 0  # of the whole event (an order's total), in `currency`
    currency: str = ""
    order_id: str = ""
    query: str = ""  # what was searched
    recommendation_id: str = ""
    decision_id: str = ""
    claimed_ms: int = 0  # the event time before clamping, only where clamping changed it
    historical: bool = False  # an import of the past: features are read as of its last event
    catalog: list[CatalogItem] = msgspec.field(default_factory=list)
    consent: dict[str, bool] = msgspec.field(default_factory=dict)
    context: dict[str, Any] = msgspec.field(default_factory=dict)
    properties: dict[str, Any] = msgspec.field(default_factory=dict)
    experiment: list[str] = msgspec.field(default_factory=list)
    schema_version: int = SCHEMA_VERSION


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Event)

#: Event -> bytes for the log (msgpack map, defaults left out).
encode_event = _encoder.encode
#: bytes -> Event; raises `msgspec.DecodeError` or its child `msgspec.ValidationError`.
decode_event = _decoder.decode


def partition_of(identity: str, partitions: int) -> int:
    """Return the partition of a customer, anonymous or item id: XXH3-64 of its UTF-8 bytes, modulo `partitions`.

    Our own hash everywhere, so that intake, flows, serving and any language agree whatever the log's client does.
    """
    return xxhash.xxh3_64_intdigest(identity.encode()) % partitions


def identity_of(event: Event) -> str:
    """Return the id that owns an event: the customer where known, else the anonymous one, else the item."""
    return event.customer_id or event.anonymous_id or event.catalog[0].item_id


def records_of(events: Sequence[Event], partitions: int) -> list[tuple[int, bytes]]:
    """Return ``(partition, payload)`` per event, ready for `EventLog.append`."""
    return [(partition_of(identity_of(e), partitions), encode_event(e)) for e in events]
