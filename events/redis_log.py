"""The event log on Redis Streams: one stream a partition, persisted by the server. Room: events.

Called by intake (`RedisAppender`), flows and tools (`RedisLog`). Absent: consumer groups (the flow's own commit holds
the position), Redis Cluster for the log (one XREAD serves all partitions), and the bytes (`events.redis_protocol`).

Keys: `{pN}log` (stream, field ``e``), `log:meta` (id, partitions), `{log}floor`, `{log}consumers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.retry import Retry

from events.errors import LogError, SettingsError
from events.log import START, Batch
from events.redis_protocol import (
    SEQ_BITS,
    Wire,
    async_reply,
    bulk,
    connection_settings,
    entry_id_of,
    pack_records,
    position_of,
    positions_of,
    shown,
    stream_key,
    translated,
    unusable,
    xadd_head,
)

META: Final = "log:meta"
FLOOR: Final = "{log}floor"
CONSUMERS: Final = "{log}consumers"

_ABSENT: Final = "no such key"
_COALESCED: Final = 1_000  # records that the appender puts into one write

_MAKE: Final = """
if ARGV[2] ~= '' and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'id', ARGV[1], 'partitions', ARGV[2])
end
return redis.call('HMGET', KEYS[1], 'id', 'partitions')
"""

# Positions exceed the 53 bits of a Lua number, so they are compared as decimal strings; -1 is the only negative one.
_RAISE_FLOOR: Final = """
local function less(a, b)
  if a == '-1' then return b ~= '-1' end
  if b == '-1' then return false end
  if #a ~= #b then return #a < #b end
  return a < b
end
local to = ARGV[2]
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  if string.match(all[i], ':(%d+)$') == ARGV[1] and less(all[i + 1], to) then to = all[i + 1] end
end
local floor = redis.call('HGET', KEYS[1], ARGV[1]) or '-1'
if less(floor, to) then
  redis.call('HSET', KEYS[1], ARGV[1], to)
  floor = to
end
return floor
"""


class RedisLog:
    """A log in Redis Streams, blocking; safe to share between threads. See `events.log.EventLog` for the promises."""

    def __init__(self, client: redis.Redis, log_id: str, partitions: int) -> None:
        self.log_id = log_id
        self.partitions = partitions
        self._client = client
        self._heads = [xadd_head(p) for p in range(partitions)]
        self._keys = [bulk(stream_key(p).encode()) for p in range(partitions)]
        self._numbers = {stream_key(p).encode(): p for p in range(partitions)}
        self._reading = Wire(client)  # two, so that a waiting reader never blocks an append
        self._writing = Wire(client)
        self._longest_wait_ms = int(client.connection_pool.connection_kwargs["socket_timeout"] * 500)

    @classmethod
    def open(cls, url: str, *, partitions: int | None = None, timeout_s: float = 5.0) -> RedisLog:
        """Open the log at `url`, making it with `partitions` where there is none; raises as `events.log.open_log`."""
        _check_count(partitions)
        try:
            client = redis.Redis.from_url(url, **connection_settings(Retry, timeout_s))
        except ValueError as err:
            raise unusable(url) from err
        try:
            with translated(url):
                found = client.eval(_MAKE, 1, META, str(uuid.uuid4()), "" if partitions is None else str(partitions))
            log_id, count = _meta(url, found, partitions)
        except BaseException:
            client.close()
            raise
        return cls(client, log_id, count)

    def append(self, records: Sequence[tuple[int, bytes]]) -> list[int]:
        """Append in one write and one read, without a transaction."""
        if not records:
            return []
        return positions_of(self._writing.ask(pack_records(self._heads, records), len(records)))

    def read(self, after: Mapping[int, int], *, limit: int, wait_ms: int = 0) -> list[Batch]:
        """Read all partitions in one XREAD; a wait is cut to half the socket timeout.

        Where a partition gave as much as was asked for, the server already reads on while this batch is worked on.
        """

        def further(reply: Any) -> bytes:
            if not isinstance(reply, list) or all(len(entries) < limit for _, entries in reply):
                return b""
            ends = {self._numbers[key]: position_of(entries[-1][0]) for key, entries in reply}
            return self._pack_read({p: ends.get(p, at) for p, at in after.items()}, limit, 0)

        reply = self._reading.ask_ahead(self._pack_read(after, limit, min(wait_ms, self._longest_wait_ms)), further)
        if isinstance(reply, redis.ResponseError):
            raise LogError(f"the log refused to be read: {reply}") from reply
        return [self._batch(key, entries) for key, entries in reply or ()]

    def end(self, partition: int) -> int:
        """Return the last generated id, which outlives trimming."""
        with translated():
            try:
                info: Any = self._client.xinfo_stream(stream_key(partition))
            except redis.ResponseError as err:
                if _ABSENT in str(err):
                    return START
                raise
        last: bytes = (
            info["last-generated-id"] if isinstance(info, dict) else info[info.index(b"last-generated-id") + 1]
        )
        return START if last == b"0-0" else position_of(last)

    def floor(self, partition: int) -> int:
        """Return the recorded floor."""
        with translated():
            found: Any = self._client.hget(FLOOR, str(partition))
        return START if found is None else int(found)

    def trim(self, partition: int, upto: int) -> int:
        """Raise the floor atomically against registrations, then remove what lies at and below it."""
        target = min(upto, self.end(partition))
        if target <= START:
            return self.floor(partition)
        with translated():
            floor = int(self._client.eval(_RAISE_FLOOR, 2, FLOOR, CONSUMERS, str(partition), str(target)))
            if floor > START:
                self._client.xtrim(stream_key(partition), minid=entry_id_of(floor + 1), approximate=False)
        return floor

    def trim_before(self, at_ms: int) -> dict[int, int]:
        """Trim all partitions of what was appended before a time (server clock); return the floors."""
        return {p: self.trim(p, (at_ms << SEQ_BITS) - 1) for p in range(self.partitions)}

    def register(self, consumer: str, positions: Mapping[int, int]) -> None:
        """Record the consumer's positions, one field a partition."""
        if positions:
            with translated():
                self._client.hset(CONSUMERS, mapping={f"{consumer}:{p}": str(at) for p, at in positions.items()})

    def forget(self, consumer: str) -> None:
        """Drop a consumer that will not come back, so that trimming no longer waits for it."""
        fields = [f"{consumer}:{p}" for p in range(self.partitions)]
        with translated():
            self._client.hdel(CONSUMERS, *fields)

    def consumers(self) -> dict[str, dict[int, int]]:
        """Return the recorded positions by consumer."""
        with translated():
            found: Any = self._client.hgetall(CONSUMERS)
        positions: dict[str, dict[int, int]] = {}
        for field, at in found.items():
            name, _, partition = field.decode().rpartition(":")
            positions.setdefault(name, {})[int(partition)] = int(at)
        return positions

    def close(self) -> None:
        """Close the connections."""
        self._reading.close()
        self._writing.close()
        self._client.close()

    def _pack_read(self, after: Mapping[int, int], limit: int, wait_ms: int) -> bytes:
        parts = [b"*%d\r\n$5\r\nXREAD\r\n$5\r\nCOUNT\r\n" % (4 + 2 * len(after) + (2 if wait_ms else 0))]
        parts.append(bulk(b"%d" % limit))
        if wait_ms:
            parts.append(b"$5\r\nBLOCK\r\n" + bulk(b"%d" % wait_ms))
        parts.append(b"$7\r\nSTREAMS\r\n")
        parts += [self._keys[p] for p in after]
        parts += [bulk(entry_id_of(at).encode()) for at in after.values()]
        return b"".join(parts)

    def _batch(self, key: bytes, entries: list[Any]) -> Batch:
        positions = [int(ms) << SEQ_BITS | int(seq) for ms, _, seq in [e[0].partition(b"-") for e in entries]]
        position_of(entries[-1][0])  # the last has the highest sequence of a millisecond that overflows
        return Batch(self._numbers[key], positions, [e[1][1] for e in entries])


class RedisAppender:
    """The intake's side: appends of all requests of the moment share one write on one connection (group commit)."""

    def __init__(self, connection: Any, log_id: str, partitions: int, timeout_s: float) -> None:
        self.log_id = log_id
        self.partitions = partitions
        self._connection = connection
        self._timeout_s = timeout_s
        self._heads = [xadd_head(p) for p in range(partitions)]
        self._waiting: list[_Waiting] = []
        self._news = asyncio.Event()
        self._closed = False
        self._writer = asyncio.create_task(self._write(), name="redis-appender")

    @classmethod
    async def open(cls, url: str, *, timeout_s: float = 2.0) -> RedisAppender:
        """Open the appender of an existing log; raises as `events.log.open_log`."""
        try:
            settings = connection_settings(AsyncRetry, timeout_s) | {"socket_timeout": None}  # ours covers it, cheaper
            pool: Any = redis.asyncio.ConnectionPool.from_url(url, **settings)
        except ValueError as err:
            raise unusable(url) from err
        connection = pool.make_connection()
        try:
            with translated(url):
                async with asyncio.timeout(timeout_s):
                    await connection.connect()
                    await connection.send_command("HMGET", META, "id", "partitions")
                    found = await connection.read_response()
            log_id, count = _meta(url, found, None)
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cls(connection, log_id, count, timeout_s)

    async def append(self, records: Sequence[tuple[int, bytes]]) -> list[int]:
        """Append with whatever else is waiting; cancelling the caller does not take the records back."""
        if self._closed:
            raise LogError("the log's appender is closed")
        if not records:
            return []
        done: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(done, len(records), pack_records(self._heads, records)))
        self._news.set()
        return await done

    async def close(self) -> None:
        """Write what is waiting, then let go of the connection."""
        self._closed = True
        self._news.set()
        await self._writer
        with contextlib.suppress(redis.RedisError, OSError):
            await self._connection.disconnect()

    async def _write(self) -> None:
        while True:
            await self._news.wait()
            while self._waiting:
                await self._write_together(self._take())
            self._news.clear()
            if self._closed:
                return

    def _take(self) -> list[_Waiting]:
        count, taken = 0, 0
        for waiting in self._waiting:
            count += waiting.replies
            if taken and count > _COALESCED:
                break
            taken += 1
        together, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return together

    async def _write_together(self, together: list[_Waiting]) -> None:
        connection = self._connection
        try:
            with translated():
                async with asyncio.timeout(self._timeout_s):
                    await connection.send_packed_command([b"".join([w.packed for w in together])])
                    for waiting in together:
                        waiting.settle([await async_reply(connection) for _ in range(waiting.replies)])
        except LogError as err:
            with contextlib.suppress(redis.RedisError, OSError):
                await connection.disconnect(nowait=True)
            for waiting in together:
                waiting.fail(err)


class _Waiting(NamedTuple):
    """One caller's records, packed, and the future that it awaits."""

    done: asyncio.Future[list[int]]
    replies: int
    packed: bytes

    def settle(self, replies: list[Any]) -> None:
        if self.done.done():
            return
        try:
            self.done.set_result(positions_of(replies))
        except LogError as err:
            self.done.set_exception(err)

    def fail(self, err: LogError) -> None:
        if not self.done.done():
            again = type(err)(*err.args)  # one exception each: raising a shared one would grow its traceback
            again.__cause__ = err.__cause__
            self.done.set_exception(again)


def _check_count(partitions: int | None) -> None:
    if partitions is not None and not 1 <= partitions <= 4096:
        raise SettingsError(f"a log has 1 to 4096 partitions, not {partitions}")


def _meta(url: str, found: Any, partitions: int | None) -> tuple[str, int]:
    log_id, count = found
    if log_id is None or count is None:
        raise LogError(f"no log at {shown(url)}: start `kairos up`, or open it with a partition count to make one")
    if partitions is not None and int(count) != partitions:
        raise SettingsError(
            f"the log at {shown(url)} has {int(count)} partitions, not {partitions}: the count is fixed for its life; "
            f"start with --partitions {int(count)}, or with another log"
        )
    return log_id.decode(), int(count)
