"""The rules that span fields, as JSON Schema for the OpenAPI document. Room: serving. Enforced by `events.wire`.

Only what a schema can say stands here; that an event's currencies agree, or that its lines come to a bounded sum, it
cannot say.
"""

from __future__ import annotations

from typing import Any, Final

from events.names import CUSTOM_NAME
from events.schema import EVENT_NAMES
from events.wire import NEEDS_ITEMS, NEEDS_ITEMS_OR_VALUE, NEEDS_ORDER_OR_ITEMS

Json = dict[str, Any]


def _has(name: str, schema: Json) -> Json:
    """The field stands there, and is like this."""
    return {"required": [name], "properties": {name: schema}}


def _lacks(*names: str) -> Json:
    """None of the fields says anything."""
    return {"properties": {name: {"type": "null"} for name in names}}


def _named(names: frozenset[str] | set[str]) -> Json:
    return {"properties": {"event": {"enum": sorted(names)}}}


_TEXT: Final = {"type": "string", "minLength": 1}
_SOME_ITEMS: Final = {"type": "array", "minItems": 1}
_ITEMS: Final[list[Json]] = [_has("items", _SOME_ITEMS), _has("item_id", _TEXT)]
_NO_PRICE: Final = {"type": ["array", "null"], "items": _lacks("price")}
_PLAIN: Final = EVENT_NAMES - NEEDS_ITEMS - NEEDS_ITEMS_OR_VALUE - NEEDS_ORDER_OR_ITEMS - {"search"}

EVENT: Final[list[Json]] = [
    {
        "description": "whose event it is",
        "anyOf": [_has("customer_id", _TEXT), _has("anonymous_id", _TEXT)],
    },
    {
        "description": "money has a currency",
        "anyOf": [
            _has("currency", {"type": "string"}),
            {
                "properties": {
                    **_lacks("value", "price")["properties"],
                    "items": _NO_PRICE,
                    "properties": {"properties": {**_lacks("value", "price")["properties"], "items": _NO_PRICE}},
                }
            },
        ],
    },
    {
        "description": "what the name promises",
        "anyOf": [
            _named(_PLAIN),
            {"properties": {"event": {"pattern": f"^{CUSTOM_NAME.pattern[:-2]}$"}}},
            *[{"allOf": [_named(NEEDS_ITEMS), having]} for having in _ITEMS],
            *[
                {"allOf": [_named(NEEDS_ITEMS_OR_VALUE), having]}
                for having in [*_ITEMS, _has("value", {"type": "number"})]
            ],
            *[{"allOf": [_named(NEEDS_ORDER_OR_ITEMS), having]} for having in [*_ITEMS, _has("order_id", _TEXT)]],
            {"allOf": [_named({"search"}), _has("query", {"type": "string", "pattern": "[0-9A-Za-z]"})]},
        ],
    },
]

CATALOG_ITEM: Final[list[Json]] = [
    {
        "description": "money has a currency",
        "anyOf": [_has("currency", {"type": "string"}), _lacks("price", "list_price")],
    }
]
