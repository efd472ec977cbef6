"""The state store as serving uses it: asynchronous, read only, one round trip. Room: feature_store.

Connections are kept open and shared; a call that runs into its timeout drops its connection, so that a late reply never
meets the next caller. No retries here: the caller has a fallback and a deadline.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from events.errors import SettingsError, StoreError, StoreTimeout
from events.schema import partition_of
from feature_store import keys
from feature_store.codec import decode_customer, decode_item
from feature_store.customer import Customer
from feature_store.head import Head, decode_head
from feature_store.item import ItemState
from feature_store.pipe import Pipe, pack
from feature_store.popular import Popular, decode_popular
from feature_store.store import redacted


class Reading(NamedTuple):
    """What one round trip brought: values and heads of a known id and of an anonymous one, None where there is none."""

    customer: Customer | None
    anonymous: Customer | None
    head_c: Head | None
    head_a: Head | None


NOTHING = Reading(None, None, None, None)


class StateReader:
    """Reads customers, heads, items and the materialised lists."""

    def __init__(self, client: Any, url: str, partitions: int, timeout_ms: int) -> None:
        self._client = client
        self._url = url
        self._pool: list[Any] = []
        self._pipe: Pipe | None = None
        self._connecting = asyncio.Lock()
        self._pipeable = client.connection_pool.connection_class in (
            redis.asyncio.Connection, redis.asyncio.UnixDomainSocketConnection,
        )  # fmt: skip
        self.partitions = partitions
        self.timeout_s = timeout_ms / 1000
        self._heads = [keys.position(p) for p in range(partitions)]

    @classmethod
    async def open(cls, url: str, partitions: int, *, timeout_ms: int = 50) -> StateReader:
        """Prepare a reader; connections are made on demand, so a store that is down now may come later.

        Raises
        ------
        SettingsError
            `url` is not a Redis URL.
        """
        try:
            client: Any = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=max(timeout_ms / 1000, 1.0),
                socket_connect_timeout=max(timeout_ms / 1000, 0.1),
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        except ValueError as err:
            raise SettingsError(f"store {redacted(url)!r}: {err}") from err
        return cls(client, url, partitions, timeout_ms)

    async def read(self, customer_id: str = "", anonymous_id: str = "") -> Reading:
        """Return what is known of up to two ids, in one round trip.

        Raises
        ------
        StoreTimeout, StoreError
            No answer within the reader's timeout, or none at all.
        """
        wanted: list[str] = []
        if customer_id:
            p = partition_of(customer_id, self.partitions)
            wanted += (keys.customer(p, customer_id), self._heads[p])
        if anonymous_id:
            p = partition_of(anonymous_id, self.partitions)
            wanted += (keys.anonymous(p, anonymous_id), self._heads[p])
        if not wanted:
            return NOTHING
        found = await self._ask([("GET", key) for key in wanted])
        at = 2 if customer_id else 0
        return Reading(
            decode_customer(found[0]) if customer_id and found[0] else None,
            decode_customer(found[at]) if anonymous_id and found[at] else None,
            decode_head(found[1]) if customer_id and found[1] else None,
            decode_head(found[at + 1]) if anonymous_id and found[at + 1] else None,
        )

    async def heads(self) -> dict[int, Head]:
        """Return the head of each partition that has one."""
        found = await self._ask([("GET", key) for key in self._heads])
        return {p: decode_head(value) for p, value in enumerate(found) if value}

    async def items(self, item_ids: list[str]) -> dict[str, ItemState]:
        """Return the stored state of those items that exist."""
        commands = [("HGET", keys.items(partition_of(i, self.partitions)), i) for i in item_ids]
        found = await self._ask(commands)
        return {i: decode_item(value) for i, value in zip(item_ids, found, strict=True) if value}

    async def all_items(self, partition: int, cursor: int = 0, count: int = 1000) -> tuple[int, dict[str, bytes]]:
        """Return the next cursor (0 at the end) and about `count` encoded items (`codec.decode_item`)."""
        (reply,) = await self._ask([("HSCAN", keys.items(partition), cursor, "COUNT", count)], patience_s=5.0)
        flat = reply[1]
        return int(reply[0]), {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    async def last_changes(self) -> dict[int, str]:
        """Return the id of the newest catalogue change of each partition, to follow from."""
        found = await self._ask(
            [("XREVRANGE", keys.changes(p), "+", "-", "COUNT", 1) for p in range(self.partitions)], patience_s=1.0
        )
        return {p: entries[0][0].decode() if entries else "0-0" for p, entries in enumerate(found)}

    async def changes(
        self, after: Mapping[int, str], count: int = 500
    ) -> dict[int, list[tuple[str, dict[str, bytes]]]]:
        """Return catalogue changes after the given ids: by partition, change id with encoded items by item id."""
        found = await self._ask(
            [("XRANGE", keys.changes(p), f"({at}", "+", "COUNT", count) for p, at in after.items()], patience_s=1.0
        )
        return {
            p: [
                (entry_id.decode(), {fields[i].decode(): fields[i + 1] for i in range(0, len(fields), 2)})
                for entry_id, fields in entries
            ]
            for p, entries in zip(after, found, strict=True)
            if entries
        }

    async def oldest_changes(self) -> dict[int, str]:
        """Return the id of the oldest change still kept by partition; who stands before it has missed some."""
        found = await self._ask(
            [("XRANGE", keys.changes(p), "-", "+", "COUNT", 1) for p in range(self.partitions)], patience_s=1.0
        )
        return {p: entries[0][0].decode() for p, entries in enumerate(found) if entries}

    async def popular_version(self) -> int:
        """Return the version of the materialised lists, 0 where there are none."""
        (value,) = await self._ask([("GETRANGE", keys.POPULAR, 0, 7)])
        return int.from_bytes(value, "big") if len(value) == 8 else 0

    async def popular(self) -> Popular | None:
        """Return the materialised lists."""
        (value,) = await self._ask([("GET", keys.POPULAR)], patience_s=1.0)
        return decode_popular(value) if value else None

    async def memory_used(self) -> tuple[int, int]:
        """Return used and allowed bytes of the server, 0 allowed for no limit."""
        (info,) = await self._ask([("INFO", "memory")], patience_s=1.0)
        fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
        return int(fields["used_memory"]), int(fields["maxmemory"])

    async def close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        for connection in self._pool:
            with suppress(redis.RedisError, OSError):
                await connection.disconnect(nowait=True)
        self._pool.clear()
        await self._client.aclose()

    async def _ask(self, commands: list[tuple[Any, ...]], *, patience_s: float | None = None) -> list[Any]:
        """Send commands in one write and read their replies, within the timeout: on the shared pipe, or patiently on a
        connection of their own (a long reply must not hold up the short ones)."""
        if patience_s is None and self._pipeable:
            return await self._ask_pipe([pack(command) for command in commands])
        return await self._ask_connection(commands, patience_s or self.timeout_s)

    async def _ask_pipe(self, packed: list[bytes]) -> list[Any]:
        try:
            pipe = self._pipe
            if pipe is None or not pipe.is_open:
                pipe = await self._connected()
            replies = await _within(pipe.ask(packed), self.timeout_s)
        except TimeoutError as err:
            raise StoreTimeout(f"the store at {redacted(self._url)} did not answer in {self.timeout_s:g} s") from err
        except OSError as err:
            raise StoreError(f"the store at {redacted(self._url)} cannot serve: {err}") from err
        for reply in replies:
            if isinstance(reply, Exception):
                raise StoreError(f"the store at {redacted(self._url)} refused: {reply}") from reply
        return replies

    async def _connected(self) -> Pipe:
        """Return an open pipe; callers that come while it is made wait for the same one."""
        async with asyncio.timeout(self.timeout_s):
            async with self._connecting:
                if self._pipe is None or not self._pipe.is_open:
                    self._pipe = await Pipe.open(self._client.connection_pool.connection_kwargs)
                return self._pipe

    async def _ask_connection(self, commands: list[tuple[Any, ...]], timeout_s: float) -> list[Any]:
        connection = self._pool.pop() if self._pool else self._client.connection_pool.make_connection()
        try:
            async with asyncio.timeout(timeout_s):
                await connection.connect()
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                replies = [await connection.read_response() for _ in commands]
        except (TimeoutError, redis.TimeoutError) as err:
            await self._drop(connection)
            raise StoreTimeout(f"the store at {redacted(self._url)} did not answer in {timeout_s:g} s") from err
        except (redis.RedisError, OSError) as err:
            await self._drop(connection)
            raise StoreError(f"the store at {redacted(self._url)} cannot serve: {err}") from err
        except BaseException:
            await self._drop(connection)
            raise
        self._pool.append(connection)
        return replies

    async def _drop(self, connection: Any) -> None:
        with suppress(redis.RedisError, OSError):
            await connection.disconnect(nowait=True)


async def _within(asked: asyncio.Future[list[Any]], timeout_s: float) -> list[Any]:
    """Wait for a future; as `asyncio.timeout`, at a third of its cost. A late reply finds nobody and is thrown away."""
    timer = asyncio.get_running_loop().call_later(timeout_s, _expire, asked)
    try:
        return await asked
    finally:
        timer.cancel()


def _expire(asked: asyncio.Future[list[Any]]) -> None:
    if not asked.done():
        asked.set_exception(TimeoutError())
