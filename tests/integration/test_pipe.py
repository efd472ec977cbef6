"""The shared connection to the store: order, errors, callers that leave, a server that stops and one that dies."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from events.errors import StoreError, StoreTimeout
from feature_store.pipe import Pipe, pack
from feature_store.reader import StateReader
from tests.servers import Valkey


def test_replies_come_to_those_who_asked(valkey: Valkey) -> None:
    async def scenario() -> None:
        pipe = await Pipe.open({"path": str(valkey.socket)})
        await pipe.ask([pack(["SET", f"k{n}", "x" * n]) for n in range(200)])
        asked = [pipe.ask([pack(["GET", f"k{n}"]), pack(["STRLEN", f"k{n}"])]) for n in range(200)]
        assert await asyncio.gather(*asked) == [[b"x" * n, n] for n in range(200)]
        error, none = await pipe.ask([pack(["LPUSH", "k1", "y"]), pack(["GET", "nothing"])])
        assert "WRONGTYPE" in str(error)
        assert none is None
        pipe.close()

    asyncio.run(scenario())


def test_over_tcp_with_a_database_of_its_own(valkey: Valkey) -> None:
    async def scenario() -> None:
        pipe = await Pipe.open({"host": "127.0.0.1", "port": valkey.port, "db": 3})
        assert await pipe.ask([pack(["SET", "a", 1])]) == [b"OK"]
        pipe.close()
        with pytest.raises(ConnectionError, match="out of range"):
            await Pipe.open({"host": "127.0.0.1", "port": valkey.port, "db": 300})
        with pytest.raises(OSError, match="AUTH"):
            await Pipe.open({"path": str(valkey.socket), "password": "wrong"})

    asyncio.run(scenario())


def test_a_late_reply_never_meets_the_next_caller(own_valkey: Valkey) -> None:
    async def scenario() -> None:
        reader = await StateReader.open(own_valkey.url, 4, timeout_ms=60)
        assert await reader.heads() == {}
        os.kill(own_valkey.pid, signal.SIGSTOP)
        for name in ("a", "b"):
            with pytest.raises(StoreTimeout, match=r"did not answer in 0\.06 s"):
                await reader.read(name)
        os.kill(own_valkey.pid, signal.SIGCONT)
        for _ in range(20):
            assert await reader.popular_version() == 0, "and not a reply to the readings"
        await reader.close()

    try:
        asyncio.run(scenario())
    finally:
        os.kill(own_valkey.pid, signal.SIGCONT)


def test_a_server_that_died_and_is_back_is_found_again(own_valkey: Valkey) -> None:
    async def scenario() -> None:
        reader = await StateReader.open(own_valkey.url, 4, timeout_ms=500)
        assert await reader.heads() == {}
        own_valkey.kill()
        for _ in range(3):
            with pytest.raises(StoreError, match="cannot serve"):
                await reader.heads()
        own_valkey.start()
        found = await asyncio.gather(*[reader.heads() for _ in range(20)])
        assert found == [{}] * 20
        await reader.close()

    asyncio.run(scenario())
