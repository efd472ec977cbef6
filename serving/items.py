"""PUT /v1/catalog/items and GET /v1/catalog/items/{item_id}. Room: serving.

A write becomes ``catalog_updated`` events in the log, each in the partition of its items; state, search and filters see
it when the flow has applied it, within a fraction of a second. A read asks the store.
"""

from __future__ import annotations

import time

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from events.errors import EventError
from events.schema import MICROS, CatalogItem, records_of
from events.shapes import MAX_BODY_BYTES
from events.wire_catalog import catalog_events, decode_item, split_items
from feature_store.item import ItemState
from serving.auth import Access
from serving.backends import Backends
from serving.errors import NotFound, Problem, problem_of, request_id, respond
from serving.http import iso, read_body, refuse_unknown_query, reply
from serving.tokens import After, encode_after, log_hash


class AcceptedItem(Struct):
    """The log has the item's new word."""

    item_id: str
    after: str


class RejectedItem(Struct):
    """This item was refused."""

    index: int
    problem: Problem


class ItemsAccepted(Struct):
    """What became of each item."""

    accepted: list[AcceptedItem]
    rejected: list[RejectedItem]


class ItemsProblem(Problem, kw_only=True):
    """All items were refused."""

    accepted: list[AcceptedItem]
    rejected: list[RejectedItem]


class PriceAt(Struct):
    """A price and when it began."""

    since: str
    price: float


class Item(Struct, omit_defaults=True, kw_only=True):
    """An item as the store knows it; what is not known is left out."""

    item_id: str
    title: str = ""
    category: str = ""
    brand: str = ""
    price: float | None = None
    list_price: float | None = None
    currency: str = ""
    stock: int | None = None
    hidden: bool = False
    url: str = ""
    image_url: str = ""
    description: str = ""
    attributes: dict[str, str] = {}
    updated_at: str = ""
    price_history: list[PriceAt] = []


class Items:
    """The catalogue's routes."""

    def __init__(self, backends: Backends, access: Access) -> None:
        self._backends = backends
        self._access = access

    async def put(self, request: Request) -> Response:
        """Take in what the shop says of up to 1,000 items."""
        self._access.write(request)
        refuse_unknown_query(request)
        raws = split_items(await read_body(request, limit=4 * MAX_BODY_BYTES))
        result = ItemsAccepted([], [])
        items: list[CatalogItem] = []
        for index, raw in enumerate(raws):
            try:
                items.append(decode_item(raw))
            except EventError as err:
                result.rejected.append(RejectedItem(index, problem_of(err)))
        if not items:
            return respond(_refusal(result, request))
        appender = self._backends.appender
        events, members = zip(*catalog_events(items, appender.partitions, time.time_ns() // 1_000_000), strict=True)
        records = records_of(events, appender.partitions)
        positions = await appender.append(records)
        log = log_hash(appender.log_id)
        for (partition, _), position, indexes in zip(records, positions, members, strict=True):
            after = encode_after(After(log, partition, position))
            result.accepted.extend(AcceptedItem(items[i].item_id, after) for i in indexes)
        return reply(result, 202)

    async def get(self, request: Request) -> Response:
        """Return one item."""
        refuse_unknown_query(request)
        item_id = request.path_params["item_id"]
        state = (await self._backends.reader.items([item_id])).get(item_id)
        if state is None:
            raise NotFound(f"item {item_id[:80]!a} is not in the catalogue: PUT /v1/catalog/items puts it there")
        return reply(shown(state))


def shown(state: ItemState) -> Item:
    """Return an item's state in units of money and RFC 3339."""
    return Item(
        item_id=state.item_id,
        title=state.title,
        category=state.category,
        brand=state.brand,
        price=_units(state.price_micros),
        list_price=_units(state.list_price_micros),
        currency=state.currency,
        stock=state.stock if state.stock >= 0 else None,
        hidden=state.hidden,
        url=state.url,
        image_url=state.image_url,
        description=state.description,
        attributes=state.attributes,
        updated_at=iso(state.updated_ms),
        price_history=[PriceAt(iso(at_ms), micros / MICROS) for at_ms, micros in state.prices],
    )


def _units(micros: int) -> float | None:
    return micros / MICROS if micros >= 0 else None


def _refusal(result: ItemsAccepted, request: Request) -> ItemsProblem:
    first = result.rejected[0].problem
    return ItemsProblem(
        type="urn:kairos:problem:items_rejected",
        title="No item was accepted",
        status=422,
        detail=f"all {len(result.rejected)} items were refused; the first: {first.detail}",
        instance=request.url.path,
        code="items_rejected",
        request_id=request_id(request),
        accepted=[],
        rejected=result.rejected,
    )
