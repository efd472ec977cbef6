"""A server on a thread, for the load generator's own tests: real sockets, nothing of the engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

Respond = Callable[[int, bytes, bytes, asyncio.StreamWriter], Awaitable[None]]


@contextmanager
def server(respond: Respond) -> Iterator[str]:
    """A server on a thread; `respond` gets the number of the request, its head, its body and the writer."""
    started, stop = threading.Event(), threading.Event()
    state: dict[str, Any] = {"count": 0, "tasks": set()}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state["tasks"].add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(h[15:]) for h in head.split(b"\r\n") if h.lower()[:15] == b"content-length:"), 0)
                body = await reader.readexactly(length)
                number, state["count"] = state["count"], state["count"] + 1
                await respond(number, head, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    async def serve() -> None:
        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        state["port"] = listening.sockets[0].getsockname()[1]
        started.set()
        while not stop.is_set():
            await asyncio.sleep(0.02)
        listening.close()
        for task in state["tasks"]:
            task.cancel()
        await asyncio.gather(*state["tasks"], return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    started.wait(10)
    try:
        yield f"http://127.0.0.1:{state['port']}"
    finally:
        stop.set()
        thread.join(10)


@pytest.fixture(scope="session")
def serving() -> Callable[[Respond], Any]:
    """The context manager that serves; gives the address."""
    return server
