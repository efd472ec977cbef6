"""The items file: what the catalogue is told, and what events are stamped with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.replaying.items import Items, beside, bodies
from cli.replaying.rows import Facts
from events.errors import SettingsError
from events.wire_catalog import decode_item


def items(tmp_path: Path, columns: dict[str, list[Any]], currency: str = "") -> Items:
    path = tmp_path / "items.parquet"
    pq.write_table(pa.table(columns), path)
    return Items(path, currency)


def test_codes_are_category_and_brand_and_the_rest_attributes(tmp_path: Path) -> None:
    found = items(tmp_path, {"item_id": [11], "brand_id": ["73"], "category_id": ["69"], "shelf_time": ["201512"]})
    assert list(found.catalogue()) == [
        {"item_id": "11", "brand": "73", "category": "69", "attributes": {"shelf_time": "201512"}}
    ]
    assert found.facts() == {"11": Facts("69", "73", None)}


def test_a_department_is_the_first_step_of_the_path(tmp_path: Path) -> None:
    columns = {
        "item_id": [25671, 26081], "department": ["GROCERY", "MISC"], "brand": ["National", "Private"],
        "product_category": ["FRZN ICE", None], "product_type": ["ICE - CRUSHED/CUBED", None],
    }  # fmt: skip
    first, second = items(tmp_path, columns).catalogue()
    assert first["category"] == "GROCERY/FRZN ICE/ICE - CRUSHED-CUBED"
    assert second == {"item_id": "26081", "brand": "Private", "category": "MISC"}


def test_a_price_has_a_currency(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {"item_id": ["a", "b"], "price": [2.5, None], "title": ["Tea\n pot", None]}
    columns["stock"] = [0, None]
    first, second = items(tmp_path, columns, "EUR").catalogue()
    assert first == {"item_id": "a", "title": "Tea pot", "price": 2.5, "currency": "EUR", "stock": 0}
    assert second == {"item_id": "b"}


def test_bodies_stay_within_the_limits_and_hold_every_item(tmp_path: Path) -> None:
    found = items(tmp_path, {"item_id": list(range(1_203)), "title": ["x" * 500] * 1_203})
    requests = list(bodies(found.catalogue(), most=500, limit=100_000))
    assert sum(count for count, _ in requests) == len(found) == 1_203
    assert max(len(body) for _, body in requests) < 101_000
    told = [item for _, body in requests for item in msgspec.json.decode(body)["items"]]
    assert [decode_item(msgspec.json.encode(item)).item_id for item in told] == [str(n) for n in range(1_203)]


def test_items_are_found_beside_the_events_only(tmp_path: Path) -> None:
    events = tmp_path / "events.parquet"
    assert beside([events]) is None
    found = items(tmp_path, {"item_id": [1]})
    assert beside([events]) == found.path
    assert beside([found.path]) is None


def test_a_file_without_items_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="has no column item_id, but sku"):
        items(tmp_path, {"sku": [1]})
