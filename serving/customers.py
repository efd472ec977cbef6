"""GET /v1/customers/{customer_id}: what we know, by feature name. Room: serving."""

from __future__ import annotations

import time
from typing import Any

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from feature_store.profile import as_of, describe
from serving.auth import Access
from serving.backends import Backends
from serving.errors import NotFound
from serving.http import iso, refuse_unknown_query, reply


class Profile(Struct, kw_only=True):
    """A customer's features as of a time: now, or the last event of an import of the past."""

    customer_id: str
    as_of: str
    position: int
    features: dict[str, Any]


class Customers:
    """The profile route."""

    def __init__(self, backends: Backends, access: Access) -> None:
        self._backends = backends
        self._access = access

    async def get(self, request: Request) -> Response:
        """Return one customer; an anonymous id is looked for where no customer has that id."""
        self._access.read(request)
        refuse_unknown_query(request)
        wanted = request.path_params["customer_id"]
        reading = await self._backends.reader.read(wanted, wanted)
        customer = reading.customer or reading.anonymous
        if customer is None:
            raise NotFound(f"customer {wanted[:80]!a} is not known: no event of theirs has been applied yet")
        now_ms = as_of(reading.head_c or reading.head_a, time.time_ns() // 1_000_000)
        features = describe(customer, now_ms)
        return reply(Profile(customer_id=wanted, as_of=iso(now_ms), position=customer.position, features=features))
