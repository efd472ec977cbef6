"""What a shop says of its items, judged: HTTP JSON -> `CatalogItem` and ``catalog_updated`` events. Room: events, pure.

Called by `serving` (PUT /v1/catalog/items) and by catalogue loading. A field that is absent or null leaves what was
known; all or nothing does not hold here either: each item is judged by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct

from events import clock
from events.complaints import decode_json, plain
from events.errors import EventError
from events.schema import CATALOG_UPDATED, MICROS, CatalogItem, Event, partition_of
from events.shapes import Currency, ItemId, Price, Text

MAX_ITEMS: Final = 1_000
MAX_ITEM_BYTES: Final = 32_768
ITEMS_AN_EVENT: Final = 50

Url = Annotated[str, Meta(max_length=2_048)]
Attribute = Annotated[str, Meta(max_length=512)] | bool | int | float


class WireCatalogItem(Struct, kw_only=True):
    """An item as the shop describes it."""

    item_id: ItemId
    title: Text | None = None
    category: Annotated[Text, Meta(description="path, e.g. home/kitchen/pans")] | None = None
    brand: Text | None = None
    price: Price | None = None
    list_price: Price | None = None
    currency: Currency | None = None
    stock: Annotated[int, Meta(ge=0, le=1_000_000_000, description="units; 0 is out of stock")] | None = None
    hidden: bool | None = None
    url: Url | None = None
    image_url: Url | None = None
    description: Annotated[str, Meta(max_length=10_000)] | None = None
    attributes: Annotated[dict[str, Attribute], Meta(max_length=50)] | None = None


class _Body(Struct):
    items: Annotated[list[Raw], Meta(min_length=1, max_length=MAX_ITEMS)]


_body = msgspec.json.Decoder(_Body)
_item = msgspec.json.Decoder(WireCatalogItem)


def split_items(body: bytes) -> list[Raw]:
    """Split ``{"items": [...]}`` into the raw items; raises `EventError`."""
    return decode_json(_body, body).items


def decode_item(raw: bytes | Raw) -> CatalogItem:
    """Return the item that `raw` holds; raises `EventError`."""
    data = bytes(raw)
    if len(data) > MAX_ITEM_BYTES:
        detail = f"the item has {len(data):,} bytes, the limit is {MAX_ITEM_BYTES:,}: shorten the description"
        raise EventError(detail, code="item_too_large")
    wire = decode_json(_item, data)
    for name, amount in (("price", wire.price), ("list_price", wire.list_price)):
        if amount is not None and wire.currency is None:
            detail = f"{name} is {amount} without a currency: add 'currency', e.g. 'EUR'"
            raise EventError(detail, pointer=f"/{name}", code="currency_missing")
    for name in ("item_id", "title", "category", "brand"):
        plain(getattr(wire, name) or "", f"/{name}")
    item = CatalogItem(item_id=wire.item_id)
    for name in ("title", "category", "brand", "stock", "hidden", "url", "image_url", "description"):
        if (value := getattr(wire, name)) is not None:
            setattr(item, name, value)
    if wire.currency is not None:
        item.currency = wire.currency.upper()
    if wire.price is not None:
        item.price_micros = round(wire.price * MICROS)
    if wire.list_price is not None:
        item.list_price_micros = round(wire.list_price * MICROS)
    if wire.attributes is not None:
        item.attributes = {
            k: v if isinstance(v, str) else msgspec.json.encode(v).decode() for k, v in wire.attributes.items()
        }
    return item


def catalog_events(
    items: Sequence[CatalogItem], partitions: int, now_ms: int, *, size: int = ITEMS_AN_EVENT
) -> Iterator[tuple[Event, list[int]]]:
    """Yield ``catalog_updated`` events of at most `size` items, all of one partition, and the indexes of those items.

    Each names the item of its first entry as its owner, so `records_of` sends it to the items' partition.
    """
    by_partition: defaultdict[int, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        by_partition[partition_of(item.item_id, partitions)].append(index)
    for indexes in by_partition.values():
        for start in range(0, len(indexes), size):
            part = indexes[start : start + size]
            event = Event(
                event=CATALOG_UPDATED,
                event_id=clock.new_id(now_ms),
                at_ms=now_ms,
                received_ms=now_ms,
                catalog=[items[i] for i in part],
            )
            yield event, part
