"""What we know of an item: the catalogue's word, with price history. Room: feature_store, pure core."""

from __future__ import annotations

from typing import Final

import msgspec

from events.log import START
from events.schema import CatalogItem

KEEP_PRICES: Final = 8


class ItemState(msgspec.Struct, array_like=True):
    """An item's stored value. Fields are appended, never moved."""

    item_id: str
    position: int = START
    first_ms: int = 0
    updated_ms: int = 0
    title: str = ""
    category: str = ""
    brand: str = ""
    price_micros: int = -1  # -1: unknown
    list_price_micros: int = -1
    currency: str = ""
    stock: int = -1  # units; -1: not told, taken as in stock
    hidden: bool = False
    url: str = ""
    image_url: str = ""
    description: str = ""
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    prices: list[tuple[int, int]] = msgspec.field(default_factory=list)  # (at_ms, price_micros), newest last

    @property
    def in_stock(self) -> bool:
        return self.stock != 0


_FACTS: Final = (
    "title", "category", "brand", "price_micros", "list_price_micros", "currency", "stock", "hidden", "url",
    "image_url", "description", "attributes",
)  # fmt: skip


def update(item: ItemState, told: CatalogItem, at_ms: int) -> None:
    """Take over what the catalogue says, in place; a field that is not set stays. The newest statement wins."""
    if not item.first_ms:
        item.first_ms = at_ms
    if at_ms < item.updated_ms:  # an older statement, arriving late
        return
    price = item.price_micros
    item.updated_ms = at_ms
    for fact in _FACTS:
        value = getattr(told, fact)
        if value is not msgspec.UNSET:
            setattr(item, fact, value)
    if item.price_micros != price and item.price_micros >= 0:
        item.prices.append((at_ms, item.price_micros))
        if len(item.prices) > KEEP_PRICES:
            del item.prices[0]
