"""What a shop may say of its items."""

from __future__ import annotations

import msgspec
import pytest

from events.errors import EventError
from events.schema import CatalogItem, decode_event, partition_of, records_of
from events.wire_catalog import catalog_events, decode_item, split_items


def test_a_field_that_is_absent_or_null_leaves_what_was_known() -> None:
    item = decode_item(
        b'{"item_id": "i1", "price": 9.5, "currency": "eur", "title": null, "stock": 0, "hidden": false}'
    )
    assert item == CatalogItem(item_id="i1", price_micros=9_500_000, currency="EUR", stock=0, hidden=False)
    assert item.title is msgspec.UNSET


def test_attributes_become_strings() -> None:
    item = decode_item(b'{"item_id": "i1", "attributes": {"color": "red", "wide": true, "weight": 1.5}}')
    assert item.attributes == {"color": "red", "wide": "true", "weight": "1.5"}


@pytest.mark.parametrize(
    ("raw", "pointer", "code"),
    [
        (b"{}", "/item_id", "field_missing"),
        (b'{"item_id": ""}', "/item_id", "invalid_value"),
        (b'{"item_id": "a", "price": 3}', "/price", "currency_missing"),
        (b'{"item_id": "a", "stock": -1}', "/stock", "invalid_value"),
        (b'{"item_id": "a\\n"}', "/item_id", "control_characters"),
        (b'{"item_id": "a", "brand": "\\u0085"}', "/brand", "control_characters"),
        (b'{"item_id": "a", "description": "' + b"x" * 40_000 + b'"}', "", "item_too_large"),
    ],
)
def test_an_item_is_refused_by_itself(raw: bytes, pointer: str, code: str) -> None:
    with pytest.raises(EventError) as caught:
        decode_item(raw)
    assert (caught.value.pointer, caught.value.code) == (pointer, code)


def test_a_list_of_items_is_split_within_limits() -> None:
    assert [bytes(r) for r in split_items(b'{"items": [{"item_id": "a"}, 5]}')] == [b'{"item_id": "a"}', b"5"]
    for body in (b'{"items": []}', b"{}", b"[]", b'{"items": [' + b"1," * 1_000 + b"1]}"):
        with pytest.raises(EventError):
            split_items(body)


def test_catalogue_events_hold_items_of_one_partition_and_each_item_once() -> None:
    items = [CatalogItem(item_id=f"i{n}") for n in range(333)]
    pairs = list(catalog_events(items, 4, 1_000, size=50))
    assert sorted(i for _, indexes in pairs for i in indexes) == list(range(333))
    records = records_of([event for event, _ in pairs], 4)
    for (event, indexes), (partition, payload) in zip(pairs, records, strict=True):
        assert len(event.catalog) == len(indexes) <= 50
        assert {partition_of(c.item_id, 4) for c in event.catalog} == {partition}
        assert decode_event(payload) == event
