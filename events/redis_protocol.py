"""What `events.redis_log` says to the server, byte by byte, and how its positions look. Room: events.

Commands are packed here and replies come as hiredis made them: redis-py's own packing and its dictionaries of entries
would cost more than the transition does. Connections, passwords and TLS are redis-py's.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff

from events.errors import LogError, LogTimeout, SettingsError
from events.log import START

SEQ_BITS: Final = 20
_SEQ_MASK: Final = (1 << SEQ_BITS) - 1


def stream_key(partition: int) -> str:
    """Return the key of a partition's stream, in the partition's own hash slot."""
    return f"{{p{partition}}}log"


def position_of(entry_id: bytes) -> int:
    """Return the position of a stream id.

    Raises
    ------
    LogError
        More than 2^20 entries in one millisecond: the server's clock stands in the past of its own stream.

    Examples
    --------
    >>> position_of(b"3-5")
    3145733
    """
    ms, _, seq = entry_id.partition(b"-")
    number = int(seq)
    if number > _SEQ_MASK:
        raise LogError(
            f"stream id {entry_id.decode()} has more than {SEQ_BITS} bits of sequence: the server's clock went back; "
            "set it right and wait until it has passed the id's millisecond"
        )
    return int(ms) << SEQ_BITS | number


def entry_id_of(position: int) -> str:
    """Return the stream id of a position; `START` gives ``0-0``, which precedes every entry.

    Examples
    --------
    >>> entry_id_of(3145733)
    '3-5'
    """
    return f"{position >> SEQ_BITS}-{position & _SEQ_MASK}" if position > START else "0-0"


class Wire:
    """A connection kept for packed commands: a pool's lending would cost as much as the read itself."""

    def __init__(self, client: redis.Redis) -> None:
        pool: Any = client.connection_pool
        self._connection = pool.make_connection()
        self._turn = threading.Lock()
        self._ahead = b""  # a question that was sent before it was asked

    def ask(self, packed: bytes, replies: int) -> list[Any]:
        """Send and return as many replies, refusals among them; connects again after a failure."""
        connection = self._connection
        with self._turn, translated():
            try:
                connection.send_packed_command([packed])
                return [_reply(connection) for _ in range(replies)]
            except BaseException:
                connection.disconnect()  # a late reply must not meet the next command
                raise

    def ask_ahead(self, packed: bytes, plan: Callable[[Any], bytes]) -> Any:
        """As `ask` for one reply, and send at once the question that will probably be asked next.

        `plan(reply)` packs that question (``b""``: none), so that the server works on it while the caller works on this
        reply. Asked something else next, its reply is thrown away.
        """
        connection = self._connection
        with self._turn, translated():
            try:
                ahead, self._ahead = self._ahead, b""
                reply = _reply(connection) if ahead else None
                if ahead != packed or not reply:
                    connection.send_packed_command([packed])
                    reply = _reply(connection)
                if following := plan(reply):
                    connection.send_packed_command([following])
                    self._ahead = following
                return reply
            except BaseException:
                self._ahead = b""
                connection.disconnect()
                raise

    def close(self) -> None:
        self._connection.disconnect()


def connection_settings(retry: Any, timeout_s: float) -> dict[str, Any]:
    """No retries of redis-py's own (they take seconds), both timeouts, RESP2 so that entries come as plain lists."""
    return {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "socket_read_size": 1 << 18,
        "retry": retry(NoBackoff(), 0),
        "retry_on_error": [],
    }


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


def xadd_head(partition: int) -> bytes:
    return b"*5\r\n$4\r\nXADD\r\n" + bulk(stream_key(partition).encode()) + b"$1\r\n*\r\n$1\r\ne\r\n$"


def pack_records(heads: list[bytes], records: Sequence[tuple[int, bytes]]) -> bytes:
    return b"".join([b"%b%d\r\n%b\r\n" % (heads[p], len(payload), payload) for p, payload in records])


def _reply(connection: Any) -> Any:
    """Return the reply; an error of one command is its reply, so that the others of the pipeline are still read."""
    try:
        return connection.read_response()
    except redis.ResponseError as err:
        return err


async def async_reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except redis.ResponseError as err:
        return err


def positions_of(replies: list[Any]) -> list[int]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise LogError(f"the log refused an event: {reply}") from reply
    return [position_of(reply) for reply in replies]


def shown(url: str) -> str:
    """Return the URL as messages may show it: without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def unusable(url: str) -> SettingsError:
    return SettingsError(
        f"{shown(url)!r} is no log address: use redis://host:port, unix:///path or kafka://host:port/topic"
    )


@contextlib.contextmanager
def translated(url: str = "") -> Iterator[None]:
    """Turn the client's exceptions into the house's."""
    where = f" at {shown(url)}" if url else ""
    try:
        yield
    except (redis.TimeoutError, TimeoutError) as err:
        raise LogTimeout(f"the log{where} did not answer in time") from err
    except redis.ConnectionError as err:
        raise LogError(f"no log server{where}: {err}; start one, or look at its log") from err
    except redis.RedisError as err:
        raise LogError(f"the log{where} refused: {err}") from err
