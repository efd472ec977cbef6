"""The shop's items as arrays: category, brand, price, stock, Zipf popularity. Room: load_tests, simulator.

Rows are ordered by category, and inside a category by series (about ten items that replace each other), so that a
category and a series are slices, and one cumulated popularity array draws from any slice. Titles and addresses are
made on demand. 100,000 items take about 5 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from load_tests.simulator.dice import Dice

TASTES: Final = 8  # dimensions of the latent space of categories, brands and customers
SERIES: Final = 10  # items in a series
CURRENCY: Final = "EUR"

_DEPARTMENTS: Final = (
    "home", "garden", "fashion", "sports", "toys", "books", "beauty", "electronics", "food", "pets", "baby", "tools",
)  # fmt: skip
_SECTIONS: Final = ("basics", "outdoor", "premium", "travel", "seasonal", "classic")
_KINDS: Final = (
    "lamps", "chairs", "bottles", "bags", "shoes", "games", "mugs", "jackets", "covers", "kits", "sets", "brushes",
)  # fmt: skip
_ADJECTIVES: Final = ("Light", "Bold", "Quiet", "Solid", "Soft", "Bright", "Plain", "Swift", "Warm", "Clear")
_SYLLABLES: Final = ("al", "bor", "cen", "da", "el", "fjo", "gan", "hel", "iva", "jun", "kor", "lum", "mar", "nov")


class Slice(NamedTuple):
    """Rows `start` up to `end`: a category or a series."""

    start: int
    end: int


class Catalogue:
    """Columnar items; row *r* is item ``i%06d`` of *r*.

    Attributes
    ----------
    category, brand
        int16 ``(n,)``, indexes into `category_paths` and `brand_names`.
    price_cents, list_price_cents
        int32 ``(n,)``; the list price is the higher one where the item is reduced.
    price_z
        float32 ``(n,)``: log price, standardised within the category.
    quality
        float32 ``(n,)``, mean 0: what everybody likes about it.
    stock
        int32 ``(n,)`` units; 2 % are out of stock.
    category_tastes, brand_tastes
        float32 ``(categories, TASTES)``, ``(brands, TASTES)``, unit length.
    """

    def __init__(self, items: int, seed: int) -> None:
        if items < 10:
            raise ValueError(f"a catalogue needs at least 10 items, got {items}")
        rng = np.random.default_rng([seed, 1])
        self.items = items
        self._categories(rng)
        self._brands(rng)
        self._prices(rng)
        self.quality = (0.6 * rng.standard_normal(items)).astype(np.float32)
        self.stock = np.where(rng.random(items) < 0.02, 0, 1 + rng.poisson(50, items)).astype(np.int32)
        weights = 1.0 / (1.0 + rng.permutation(items))  # Zipf, exponent 1
        #: float64 ``(n + 1,)``: popularity of the rows before each row.
        self.cumulated = np.concatenate(([0.0], np.cumsum(weights / weights.sum())))

    def _categories(self, rng: np.random.Generator) -> None:
        count = int(np.clip(self.items // 250, 4, 400))
        shares = rng.lognormal(0.0, 0.6, count)
        sizes = 1 + rng.multinomial(self.items - count, shares / shares.sum())
        self.offsets = np.concatenate(([0], np.cumsum(sizes))).astype(np.int32)
        self.category = np.repeat(np.arange(count, dtype=np.int16), sizes)
        self.category_tastes = _unit(rng.standard_normal((count, TASTES)))
        self.category_shares = (sizes / self.items).astype(np.float64)
        self.complement = rng.integers(0, count, count).astype(np.int16)
        self.category_paths = tuple(_path(i) for i in range(count))

    def _brands(self, rng: np.random.Generator) -> None:
        count = int(np.clip(self.items // 60, 12, 2000))
        self.brand_names = tuple(_brand(i) for i in range(count))
        self.brand_tastes = _unit(rng.standard_normal((count, TASTES)))
        houses = rng.integers(0, count, (len(self.category_paths), 12))  # the twelve brands of each category
        choice = np.minimum(rng.geometric(0.25, self.items) - 1, 11)
        self.brand = houses[self.category, choice].astype(np.int16)

    def _prices(self, rng: np.random.Generator) -> None:
        base = rng.lognormal(3.0, 0.8, len(self.category_paths))
        z = rng.standard_normal(self.items)
        self.price_z = z.astype(np.float32)
        self.price_cents = np.maximum(49, np.rint(100 * base[self.category] * np.exp(0.4 * z))).astype(np.int32)
        reduced = np.where(rng.random(self.items) < 0.2, rng.uniform(0.05, 0.4, self.items), 0.0)
        self.list_price_cents = np.rint(self.price_cents / (1.0 - reduced)).astype(np.int32)

    def item_id(self, row: int) -> str:
        """Return the id of a row."""
        return f"i{row:06d}"

    def row_of(self, item_id: str) -> int:
        """Return the row of an id, -1 if it is none of ours."""
        if item_id[:1] != "i" or not item_id[1:].isdecimal():
            return -1
        row = int(item_id[1:])
        return row if row < self.items else -1

    def category_of(self, row: int) -> Slice:
        """Return the rows of the item's category."""
        category = int(self.category[row])
        return Slice(int(self.offsets[category]), int(self.offsets[category + 1]))

    def series_of(self, row: int) -> Slice:
        """Return the rows of the item's series, its closest substitutes."""
        start, end = self.category_of(row)
        first = start + (row - start) // SERIES * SERIES
        return Slice(first, min(first + SERIES, end))

    def pick(self, dice: Dice, rows: Slice) -> int:
        """Draw a row of a slice by popularity."""
        low, high = self.cumulated[rows.start], self.cumulated[rows.end]
        row = int(np.searchsorted(self.cumulated, low + (high - low) * dice.uniform(), side="right")) - 1
        return min(max(row, rows.start), rows.end - 1)

    def price(self, row: int) -> float:
        """Return the price in the shop's currency."""
        return int(self.price_cents[row]) / 100

    def title(self, row: int) -> str:
        """Return a readable name."""
        kind = self.category_paths[self.category[row]].rsplit("/", 1)[1].rstrip("s")
        return f"{self.brand_names[self.brand[row]]} {_ADJECTIVES[row % 10]} {kind} {row}"

    def query(self, row: int) -> str:
        """Return what somebody who looks for this item would type."""
        _, section, _ = self.category_paths[self.category[row]].split("/")
        return f"{section} {self.title(row).split()[2]}"

    def record(self, row: int) -> dict[str, Any]:
        """Return the item as `PUT /v1/catalog/items` takes it."""
        item_id = self.item_id(row)
        return {
            "item_id": item_id,
            "title": self.title(row),
            "category": self.category_paths[self.category[row]],
            "brand": self.brand_names[self.brand[row]],
            "price": self.price(row),
            "list_price": int(self.list_price_cents[row]) / 100,
            "currency": CURRENCY,
            "stock": int(self.stock[row]),
            "url": f"https://shop.example/items/{item_id}",
            "image_url": f"https://shop.example/images/{item_id}.jpg",
        }

    def records(self) -> Iterator[dict[str, Any]]:
        """Return all items as `PUT /v1/catalog/items` takes them, in row order."""
        return map(self.record, range(self.items))


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _path(index: int) -> str:
    department = _DEPARTMENTS[index % 12]
    section = _SECTIONS[index // 12 % 6]
    return f"{department}/{section}/{_KINDS[(index * 5 + index // 72) % 12]}"


def _brand(index: int) -> str:
    first, second, third = index % 14, index // 14 % 14, index // 196
    return (_SYLLABLES[first] + _SYLLABLES[second] + (_SYLLABLES[third - 1] if third else "")).capitalize()
