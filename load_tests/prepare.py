"""Fill a running API before a load: a catalogue, and customers with live state. Room: load_tests.

Called by the demo and the benchmarks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from load_tests.http_client import Client
from load_tests.simulator.catalogue import Catalogue
from load_tests.simulator.wire import encode_json

T = TypeVar("T")


class RefusedError(Exception):
    """The API did not take what it was sent."""


async def load_catalogue(
    url: str, catalogue: Catalogue, *, key: str = "", on_progress: Callable[[int], None] | None = None
) -> int:
    """Send all items to `PUT /v1/catalog/items`; return their number.

    Raises
    ------
    RefusedError
        An answer other than 200 or 202; the message holds it.
    """
    client, done = Client(url, connections=4, timeout_s=60.0), 0

    async def send(records: list[dict[str, Any]]) -> None:
        nonlocal done
        answer = await client.send("/v1/catalog/items", encode_json({"items": records}), method="PUT", key=key)
        if answer.status not in {200, 202}:
            raise RefusedError(f"PUT /v1/catalog/items answered {answer.status}: {answer.body[:500].decode()}")
        done += len(records)
        if on_progress is not None:
            on_progress(done)

    try:
        for four in chunked(chunked(catalogue.records(), 500), 4):
            await asyncio.gather(*map(send, four))
    finally:
        await client.close()
    return done


async def send_events(url: str, events: Iterable[dict[str, Any]], *, size: int = 250, key: str = "") -> int:
    """Send events in batches, four at a time; return how many were accepted.

    Raises
    ------
    RefusedError
        An answer other than 202.
    """
    client, accepted = Client(url, connections=4, timeout_s=60.0), 0

    async def send(batch: list[dict[str, Any]]) -> int:
        answer = await client.send("/v1/events", encode_json({"events": batch}), key=key)
        if answer.status != 202:
            raise RefusedError(f"POST /v1/events answered {answer.status}: {answer.body[:500].decode()}")
        return len(answer.json()["accepted"])

    try:
        for four in chunked(chunked(events, size), 4):
            accepted += sum(await asyncio.gather(*map(send, four)))
    finally:
        await client.close()
    return accepted


def chunked(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of at most `size` values.

    >>> list(chunked(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk
