"""One connection to the store that many callers share: commands go out as they come, replies come back in order.

Room: feature_store, called by `reader`. Two GETs cost 35 microseconds of CPU, with redis-py's asyncio client 110: no
stream objects, no lending of connections, and what is asked in one turn of the loop shares its system calls. A caller
that stops waiting leaves its reply to be thrown away when it comes, so it never meets the next one. Absent: TLS (the
reader then uses redis-py), retries, Cluster.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import hiredis


class _Asked:
    __slots__ = ("done", "replies", "wanted")

    def __init__(self, wanted: int, done: asyncio.Future[list[Any]]) -> None:
        self.wanted = wanted
        self.done = done
        self.replies: list[Any] = []


class Pipe(asyncio.Protocol):
    """A connection; `ask` may be called by any number of tasks of one loop."""

    def __init__(self) -> None:
        self._parser = hiredis.Reader()
        self._asked: deque[_Asked] = deque()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, settings: dict[str, Any]) -> Pipe:
        """Connect by redis-py's `connection_kwargs` (host and port, or path; username, password, db).

        Raises
        ------
        OSError
            Nobody listens, or the server refuses the password or the database.
        """
        loop = asyncio.get_running_loop()
        if path := settings.get("path"):
            _, pipe = await loop.create_unix_connection(cls, path)
        else:
            _, pipe = await loop.create_connection(cls, settings.get("host", "localhost"), settings.get("port", 6379))
        greeting: list[list[Any]] = []
        if password := settings.get("password"):
            name = settings.get("username")
            greeting.append(["AUTH", name, password] if name else ["AUTH", password])
        if db := settings.get("db"):
            greeting.append(["SELECT", db])
        for reply in await pipe.ask([pack(words) for words in greeting]) if greeting else ():
            if isinstance(reply, Exception):
                pipe.close()
                raise ConnectionError(str(reply))
        return pipe

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, packed: Sequence[bytes]) -> asyncio.Future[list[Any]]:
        """Send commands; the future holds their replies, errors of the server among them as exceptions."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionError("the connection to the store is closed")
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(len(packed), done))
        self._transport.write(b"".join(packed))
        return done

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        parser, asked = self._parser, self._asked
        parser.feed(data)
        while (reply := parser.gets()) is not False:
            first = asked[0]
            first.replies.append(reply)
            if len(first.replies) == first.wanted:
                asked.popleft()
                if not first.done.done():
                    first.done.set_result(first.replies)

    def connection_lost(self, error: Exception | None) -> None:
        while self._asked:
            done = self._asked.popleft().done
            if not done.done():
                done.set_exception(ConnectionError(f"the connection to the store was lost: {error or 'closed'}"))


def pack(words: Sequence[Any]) -> bytes:
    """Return a command in the Redis protocol.

    >>> pack(["GET", "a"])
    b'*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\na\\r\\n'
    """
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)
