"""The items file beside the events: what the catalogue is told, and what events are stamped with. Room: cli.

Columns: item_id; title | movie_title | name; brand | brand_id; price, list_price, currency, stock, url, image_url,
description; category, or category_id, or the path department / product_category / product_type; all others become
attributes. A ``/`` inside a category's name becomes ``-``, because it separates the steps of a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from cli.replaying.columns import NO_CURRENCY
from cli.replaying.rows import Facts
from events.errors import SettingsError

_BATCH: Final = 5_000
_PATH: Final = ("department", "product_category", "product_type")
_TEXT: Final = {
    "title": ("title", "movie_title", "name"),
    "brand": ("brand", "brand_id"),
    "category": ("category", "category_id", "class"),
    "currency": ("currency",),
    "url": ("url",),
    "image_url": ("image_url",),
    "description": ("description",),
}
_LIMITS: Final = {"url": 2_048, "image_url": 2_048, "description": 10_000}
_NUMBERS: Final = ("price", "list_price")


class Items:
    """One items file."""

    def __init__(self, path: Path, currency: str) -> None:
        self.path = path
        self._currency = currency or NO_CURRENCY
        try:
            self._table = pq.read_table(path) if path.suffix in (".parquet", ".pq") else pyarrow.csv.read_csv(path)
        except (OSError, pa.ArrowException) as err:
            raise SettingsError(f"--items {path} cannot be read: {str(err).splitlines()[0]}") from err
        self._header: list[str] = self._table.column_names
        if "item_id" not in self._header:
            raise SettingsError(f"--items {path} has no column item_id, but {', '.join(self._header)}")

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def catalogue(self) -> Iterator[dict[str, Any]]:
        """Yield the items as ``PUT /v1/catalog/items`` takes them."""
        used = {"item_id", "stock", *_NUMBERS, *_PATH, *(name for names in _TEXT.values() for name in names)}
        others = [name for name in self._header if name not in used]
        for row in self._rows():
            item = self._item(row)
            attributes = {name: _text(row[name]) for name in others if row[name] is not None}
            if attributes:
                item["attributes"] = attributes
            yield item

    def facts(self) -> dict[str, Facts]:
        """Return what events are stamped with; equal words are one object, so 100,000 items take some 20 MB."""
        words: dict[str, str] = {}
        facts: dict[str, Facts] = {}
        for row in self._rows():
            item = self._item(row)
            category, brand = item.get("category", ""), item.get("brand", "")
            facts[item["item_id"]] = Facts(
                words.setdefault(category, category), words.setdefault(brand, brand), item.get("price")
            )
        return facts

    def _rows(self) -> Iterator[dict[str, Any]]:
        for batch in self._table.to_batches(max_chunksize=_BATCH):
            yield from batch.to_pylist()

    def _item(self, row: dict[str, Any]) -> dict[str, Any]:
        item: dict[str, Any] = {"item_id": _text(row["item_id"])}
        for field, names in _TEXT.items():
            value = next((row[name] for name in names if row.get(name) is not None), None)
            if value is not None and (text := _text(value)[: _LIMITS.get(field, 512)]):
                item[field] = text
        path = [_text(row[name]).replace("/", "-") for name in _PATH if row.get(name) is not None]
        if path and "category" not in item:
            item["category"] = "/".join(path)[:512]
        for name in _NUMBERS:
            if (amount := row.get(name)) is not None and float(amount) >= 0:
                item[name] = float(amount)
                item.setdefault("currency", self._currency)
        if row.get("stock") is not None:
            item["stock"] = int(row["stock"])
        return item


def beside(paths: Sequence[Path]) -> Path | None:
    """Return the items file in the directory of the events, if there is one."""
    for directory in dict.fromkeys(path.resolve().parent for path in paths):
        for name in ("items.parquet", "items.csv"):
            if (directory / name).is_file() and directory / name not in [path.resolve() for path in paths]:
                return directory / name
    return None


def bodies(items: Iterator[dict[str, Any]], *, most: int = 500, limit: int = 400_000) -> Iterator[tuple[int, bytes]]:
    """Yield ``(number of items, body)`` of requests within the API's limits."""
    part: list[bytes] = []
    size = 0
    for item in items:
        encoded = msgspec.json.encode(item)
        if part and (len(part) == most or size + len(encoded) > limit):
            yield len(part), b'{"items":[' + b",".join(part) + b"]}"
            part, size = [], 0
        part.append(encoded)
        size += len(encoded) + 1
    if part:
        yield len(part), b'{"items":[' + b",".join(part) + b"]}"


def _text(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(str(value).split())
