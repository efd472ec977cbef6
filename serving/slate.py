"""The slate: what was chosen, in order, with source and reason. Room: serving, pure.

`STEPS` is the order of fallbacks of each placement, in one place. A slate holds no item twice and only what is allowed.
Scores compare within one source only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from serving.ask import Ask
from serving.catalog import Catalog, Rows
from serving.popular import PopularLists, Ranked
from serving.view import View


class SlateItem(Struct):
    """One place of a slate."""

    item_id: str
    rank: int
    score: float
    source: str
    reasons: list[str]


#: What each source of the model says for itself.
REASONS: Final = {
    "session_knn": ["chosen next in sessions like this one"],
    "co_occurrence": ["often looked at after the same items"],
    "embedding": ["similar to what was looked at"],
    "session_memory": ["looked at earlier in this session"],
    "search": ["matches the search"],
    "popular": ["popular now"],
    "catalog": ["in the catalogue"],
}

FALLBACK_SOURCES: Final = frozenset({"popular", "popular_in_category", "catalog"})

Step = Callable[["Fallbacks"], Iterator[tuple[Ranked, str, list[str]]]]


class Fallbacks:
    """What fills a slate when the model has said all it can: lists, a source and a reason each."""

    def __init__(self, catalog: Catalog, popular: PopularLists, ask: Ask, view: View) -> None:
        self._catalog = catalog
        self._popular = popular
        self._ask = ask
        self._view = view

    def like_the_anchor(self) -> Iterator[tuple[Ranked, str, list[str]]]:
        """Popular in the category of the page's item, or of the cart's."""
        yield from self._categories(self._catalog.category_of(i) for i in reversed(self._ask.item_ids))

    def like_the_cart(self) -> Iterator[tuple[Ranked, str, list[str]]]:
        yield from self._categories(self._catalog.category_of(i) for i in reversed(self._view.cart))

    def liked(self) -> Iterator[tuple[Ranked, str, list[str]]]:
        """Popular in the categories that the customer likes best."""
        yield from self._categories(iter(self._view.categories))

    def popular(self) -> Iterator[tuple[Ranked, str, list[str]]]:
        yield self._popular.overall, "popular", REASONS["popular"]

    def anything(self) -> Iterator[tuple[Ranked, str, list[str]]]:
        """The catalogue, newest first: a shop on its first day has nothing else."""
        n = len(self._catalog)
        rows = np.arange(n - 1, -1, -1, dtype=np.int32)
        yield (rows, np.zeros(n, dtype=np.float32)), "catalog", REASONS["catalog"]

    def _categories(self, categories: Iterator[str]) -> Iterator[tuple[Ranked, str, list[str]]]:
        for category in dict.fromkeys(categories):
            ranked = self._popular.in_category(category)
            if len(ranked[0]):
                yield ranked, "popular_in_category", [f"popular in {category}"]


STEPS: Final[dict[str, tuple[Step, ...]]] = {
    "home": (Fallbacks.liked, Fallbacks.popular, Fallbacks.anything),
    "item": (Fallbacks.like_the_anchor, Fallbacks.liked, Fallbacks.popular, Fallbacks.anything),
    "cart": (Fallbacks.like_the_anchor, Fallbacks.like_the_cart, Fallbacks.popular, Fallbacks.anything),
    "search": (Fallbacks.liked, Fallbacks.popular, Fallbacks.anything),  # only where nothing matches
}


class Slate:
    """Grows up to `limit` items."""

    def __init__(self, catalog: Catalog, forbidden: Rows, limit: int) -> None:
        self._catalog = catalog
        self._taken = set(forbidden.tolist())
        self._limit = limit
        self.items: list[SlateItem] = []

    @property
    def is_full(self) -> bool:
        return len(self.items) >= self._limit

    def add(self, row: int, score: float, source: str, reasons: list[str]) -> None:
        """Put an item on the next place; the caller knows that it is allowed and new."""
        self._taken.add(row)
        self.items.append(SlateItem(self._catalog.ids[row], len(self.items), round(score, 6), source, reasons))

    def fill(self, steps: tuple[Step, ...], fallbacks: Fallbacks) -> None:
        """Fill what is left from the fallbacks, in their order."""
        for step in steps:
            for (rows, scores), source, reasons in step(fallbacks):
                if self.is_full:
                    return
                self._extend(rows, scores, source, reasons)

    def _extend(self, rows: Rows, scores: npt.NDArray[np.float32], source: str, reasons: list[str]) -> None:
        allowed, taken = self._catalog.allowed, self._taken
        wanted = self._limit - len(self.items)
        for start in range(0, len(rows), 1_000):  # in bites: the first nearly always is enough
            part = rows[start : start + 1_000]
            places = np.flatnonzero(allowed[part])
            for place in places.tolist():
                row = int(part[place])
                if row not in taken:
                    self.add(row, float(scores[start + place]), source, reasons)
                    wanted -= 1
                    if not wanted:
                        return
