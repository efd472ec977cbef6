"""A thin HTTP/1.1 client on asyncio: keep-alive connections over httptools. Room: load_tests.

Called by the traffic driver and the benchmarks' preparations, which share the machine with the server that they talk
to: a request
costs 55 µs of CPU, with aiohttp's client 165 µs (8 connections, both on asyncio). Absent: TLS, redirects,
cookies, compression, proxies.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

import httptools
import msgspec


class Answer(NamedTuple):
    """A status and a body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON, None where it is empty."""
        return msgspec.json.decode(self.body) if self.body else None


class _Connection(asyncio.Protocol):
    """One connection, one request at a time; also httptools' callbacks."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.waiter: asyncio.Future[Answer] | None = None
        self.chunks: list[bytes] = []
        self.lost = self.begun = False
        self.uses = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(ConnectionResetError(str(exc or "the server closed the connection")))

    def data_received(self, data: bytes) -> None:
        self.begun = True
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_body(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def on_message_complete(self) -> None:
        answer = Answer(self.parser.get_status_code(), b"".join(self.chunks))
        if not self.parser.should_keep_alive():
            self.lost = True
            self.transport.close()
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(answer)

    async def ask(self, request: bytes) -> Answer:
        """Send a request, wait for its answer."""
        self.waiter = asyncio.get_running_loop().create_future()
        self.chunks, self.begun = [], False
        self.uses += 1
        self.transport.write(request)
        return await self.waiter


class Client:
    """Requests to one server.

    Parameters
    ----------
    url
        ``http://host:port``.
    connections
        At most so many at once; further requests wait.
    timeout_s
        For a request, its waiting for a connection left out.
    """

    def __init__(self, url: str, *, connections: int = 64, timeout_s: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is no http:// address")
        self._address = (parts.hostname, parts.port or 80)
        self._host = parts.netloc
        self._timeout_s = timeout_s
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[_Connection] = []

    async def get(self, path: str) -> Answer:
        """Send a GET."""
        return await self._ask(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    async def send(
        self, path: str, body: bytes, *, method: str = "POST", content_type: str = "application/json", key: str = ""
    ) -> Answer:
        """Send a body, with a secret key where one is given."""
        bearer = f"Authorization: Bearer {key}\r\n" if key else ""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {content_type}\r\n"
            f"{bearer}Content-Length: {len(body)}\r\n\r\n"
        )
        return await self._ask(head.encode() + body)

    async def _ask(self, request: bytes) -> Answer:
        async with self._slots:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connection()
                try:
                    answer = await connection.ask(request)
                except ConnectionResetError:
                    if connection.uses == 1 or connection.begun:
                        raise
                    connection = await self._connect()  # it was idle for too long: once more (RFC 9112, 9.3.1)
                    answer = await connection.ask(request)
                except BaseException:
                    connection.transport.abort()
                    raise
            if not connection.lost:
                self._idle.append(connection)
            return answer

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.lost:
                return connection
        return await self._connect()

    async def _connect(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, *self._address)
        return connection

    async def close(self) -> None:
        """Let go of all connections."""
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()
        await asyncio.sleep(0)
