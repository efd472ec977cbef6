"""Whole-partition tables, blocking: what the materialiser and operators' tools read. Room: feature_store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import redis

from events.errors import SettingsError
from events.schema import partition_of
from feature_store import keys
from feature_store.codec import decode_item
from feature_store.head import Head, decode_head
from feature_store.store import connection_settings, redacted, translated

_CHUNK = 500


class StateTables:
    """Reads by partition; writes only the materialised lists."""

    def __init__(self, client: redis.Redis, url: str, partitions: int) -> None:
        self._client = client
        self._url = url
        self.partitions = partitions

    @classmethod
    def open(cls, url: str, partitions: int, *, timeout_s: float = 5.0) -> StateTables:
        """Prepare the tables; raises `SettingsError` for what is not a Redis URL."""
        try:
            client = redis.Redis.from_url(url, **connection_settings(timeout_s))
        except ValueError as err:
            raise SettingsError(f"store {redacted(url)!r}: {err}") from err
        return cls(client, url, partitions)

    def heads(self) -> dict[int, Head]:
        """Return the head of each partition that has one; raises `StoreError`."""
        found = self._ask([("GET", keys.position(p)) for p in range(self.partitions)])
        return {p: decode_head(value) for p, value in enumerate(found) if value}

    def popularity(self, partition: int, bucket: int) -> dict[str, int]:
        """Return a bucket's counts by field; raises `StoreError`."""
        counts: dict[str, int] = {}
        cursor = 0
        while True:  # in steps, so that the server never stops for long
            reply = self._ask([("HSCAN", keys.popularity(partition, bucket), cursor, "COUNT", 2_000)])[0]
            cursor, flat = int(reply[0]), reply[1]
            counts.update((flat[i].decode(), int(flat[i + 1])) for i in range(0, len(flat), 2))
            if not cursor:
                return counts

    def categories(self, item_ids: Sequence[str]) -> dict[str, str]:
        """Return the category path of each item, ``""`` where none is known; raises `StoreError`."""
        by_partition: dict[int, list[str]] = {}
        for item_id in item_ids:
            by_partition.setdefault(partition_of(item_id, self.partitions), []).append(item_id)
        categories: dict[str, str] = {}
        for partition, ids in by_partition.items():
            for at in range(0, len(ids), _CHUNK):
                some = ids[at : at + _CHUNK]
                found = self._ask([("HMGET", keys.items(partition), *some)])[0]
                for item_id, value in zip(some, found, strict=True):
                    categories[item_id] = decode_item(value).category if value else ""
        return categories

    def keys(self, partition: int) -> Iterator[tuple[str, str]]:
        """Walk all state keys of a partition with their type, the log's own left out; raises `StoreError`."""
        log_key = f"{keys.tag(partition)}log"
        cursor = 0
        while True:
            reply = self._ask([("SCAN", cursor, "MATCH", f"{keys.tag(partition)}*", "COUNT", 1_000)])[0]
            cursor = int(reply[0])
            names = [name.decode() for name in reply[1] if name.decode() != log_key]
            for name, kind in zip(names, self._ask([("TYPE", name) for name in names]) if names else (), strict=True):
                yield name, kind.decode() if isinstance(kind, bytes) else str(kind)
            if not cursor:
                return

    def ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send read commands of a tool (verify, status) and return the raw replies; raises `StoreError`."""
        return self._ask(commands)

    def snapshot(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send read commands of one slot in one transaction: all replies are of one moment; raises `StoreError`."""
        replies: list[Any] = self._ask([("MULTI",), *commands, ("EXEC",)])[-1]
        return replies

    def publish(self, value: bytes) -> None:
        """Replace the materialised lists; raises `StoreError`."""
        self._ask([("SET", keys.POPULAR, value)])

    def close(self) -> None:
        self._client.close()

    def _ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        pool: Any = self._client.connection_pool
        with translated(self._url):
            connection = pool.get_connection()
            try:
                connection.send_packed_command(connection.pack_commands(commands))
                return [connection.read_response() for _ in commands]
            except BaseException:
                connection.disconnect()
                raise
            finally:
                pool.release(connection)
