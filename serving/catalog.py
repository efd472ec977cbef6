"""The items as answers need them: columns in memory, one row an item. Room: serving.

Filled at start from the store, kept current from the change streams (`serving.follow`), read by everything on the hot
path without waiting. Rows are never given back, so a row number stays true; ids that only a model or a popularity list
knows get a row too (allowed: nothing forbids them). All of it happens on the event loop, so nobody sees half an update.
Memory: about 100 bytes an item beside its id and title.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from events.schema import Event
from feature_store.item import ItemState
from serving.search import SearchIndex

Rows = npt.NDArray[np.int32]

_START: Final = 1_024
_Scalar = TypeVar("_Scalar", bound=np.generic)


class Words:
    """Strings as small numbers; 0 is the empty string."""

    def __init__(self) -> None:
        self.words: list[str] = [""]
        self._code: dict[str, int] = {"": 0}

    def code(self, word: str) -> int:
        """Return the number of a word, giving it one."""
        code = self._code.get(word)
        if code is None:
            code = self._code[word] = len(self.words)
            self.words.append(word)
        return code


class Catalog:
    """Columns over all known items.

    Attributes
    ----------
    allowed
        May be shown: in stock (or stock unknown) and not hidden; bool, indexed by row.
    price_micros
        int64, -1 where unknown, in `currency`.
    category, brand, currency
        int32 codes into `categories`, `brands`, `currencies`.
    told
        The catalogue speaks of this item; bool.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.row_of: dict[str, int] = {}
        self.categories, self.brands, self.currencies = Words(), Words(), Words()
        self.search = SearchIndex()
        self.told_count = 0
        self.loaded = False
        self.allowed = np.ones(_START, dtype=np.bool_)
        self.told = np.zeros(_START, dtype=np.bool_)
        self.price_micros = np.full(_START, -1, dtype=np.int64)
        self.category = np.zeros(_START, dtype=np.int32)
        self.brand = np.zeros(_START, dtype=np.int32)
        self.currency = np.zeros(_START, dtype=np.int32)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, item_id: str) -> int:
        """Return the row of an item, giving it one."""
        row = self.row_of.get(item_id)
        if row is None:
            row = self.row_of[item_id] = len(self.ids)
            self.ids.append(item_id)
            if row == len(self.allowed):
                self._grow()
        return row

    def rows(self, item_ids: Sequence[str]) -> Rows:
        """Return the rows of many items, giving rows to the unknown, ``(n,)`` int32."""
        return np.fromiter(map(self.row, item_ids), dtype=np.int32, count=len(item_ids))

    def known_rows(self, item_ids: Iterable[str]) -> list[int]:
        """Return the rows of those items that have one."""
        row_of = self.row_of
        return [row_of[i] for i in item_ids if i in row_of]

    def update(self, items: Iterable[ItemState]) -> None:
        """Take over the states of some items."""
        for item in items:
            row = self.row(item.item_id)
            if not self.told[row]:
                self.told[row] = True
                self.told_count += 1
            self.allowed[row] = item.in_stock and not item.hidden
            self.price_micros[row] = item.price_micros
            self.category[row] = self.categories.code(item.category)
            self.brand[row] = self.brands.code(item.brand)
            self.currency[row] = self.currencies.code(item.currency)
            self.search.put(row, f"{item.title} {item.brand} {item.category}")

    def category_of(self, item_id: str) -> str:
        """Return an item's category path, empty where unknown."""
        row = self.row_of.get(item_id)
        return "" if row is None else self.categories.words[self.category[row]]

    def stamp(self, event: Event) -> None:
        """Write the item facts that the sender left out into an event's lines, in place.

        A price is stamped only in the event's own currency; an event without one takes that of its items.
        """
        for line in event.items:
            row = self.row_of.get(line.item_id)
            if row is None or not self.told[row]:
                continue
            if not line.category:
                line.category = self.categories.words[self.category[row]]
            if not line.brand:
                line.brand = self.brands.words[self.brand[row]]
            if line.price_micros < 0:
                currency = self.currencies.words[self.currency[row]]
                if currency and event.currency in ("", currency):
                    line.price_micros = int(self.price_micros[row])
                    event.currency = currency

    def _grow(self) -> None:
        self.allowed = _doubled(self.allowed, True)
        self.told = _doubled(self.told, False)
        self.price_micros = _doubled(self.price_micros, -1)
        self.category = _doubled(self.category, 0)
        self.brand = _doubled(self.brand, 0)
        self.currency = _doubled(self.currency, 0)


def _doubled(column: npt.NDArray[_Scalar], fill: int) -> npt.NDArray[_Scalar]:
    return np.concatenate([column, np.full(len(column), fill, dtype=column.dtype)])
