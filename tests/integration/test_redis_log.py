"""What the Redis Streams log does when its server is slow, full, killed or set to another time."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from events.errors import LogError, LogTimeout
from events.log import START
from events.redis_log import RedisAppender, RedisLog
from events.redis_protocol import entry_id_of, position_of
from tests.servers import Valkey


def test_what_was_acknowledged_survives_a_killed_server(own_valkey: Valkey) -> None:
    log = RedisLog.open(own_valkey.url, partitions=2)
    positions = log.append([(n % 2, b"%d" % n) for n in range(2_000)])
    own_valkey.kill()
    with pytest.raises(LogError, match="no log server"):
        log.append([(0, b"nobody there")])
    own_valkey.start()
    assert (log.end(0), log.end(1)) == (positions[-2], positions[-1])
    [batch] = log.read({0: START}, limit=5_000)
    assert batch.payloads == [b"%d" % n for n in range(0, 2_000, 2)]
    assert RedisLog.open(own_valkey.url).log_id == log.log_id
    assert len(log.append([(0, b"again")])) == 1
    log.close()


def test_a_server_that_does_not_answer_is_a_timeout_and_its_late_reply_is_not_mixed_up(own_valkey: Valkey) -> None:
    log = RedisLog.open(own_valkey.url, partitions=2, timeout_s=0.2)
    log.append([(0, b"a")])
    os.kill(own_valkey.pid, signal.SIGSTOP)
    try:
        with pytest.raises(LogTimeout, match="did not answer in time"):
            log.append([(0, b"b")])
        with pytest.raises(LogTimeout):
            log.read({0: START}, limit=10)
    finally:
        os.kill(own_valkey.pid, signal.SIGCONT)
    [position] = log.append([(1, b"c")])
    assert log.end(1) == position
    [batch] = log.read({1: START}, limit=10)
    assert batch.payloads == [b"c"]
    log.close()


def test_the_appender_fails_in_time_and_then_works_again(own_valkey: Valkey) -> None:
    RedisLog.open(own_valkey.url, partitions=2).close()

    async def run() -> list[int]:
        appender = await RedisAppender.open(own_valkey.url, timeout_s=0.3)
        os.kill(own_valkey.pid, signal.SIGSTOP)
        outcomes = await asyncio.gather(*[appender.append([(0, b"x")]) for _ in range(3)], return_exceptions=True)
        os.kill(own_valkey.pid, signal.SIGCONT)
        assert [type(outcome) for outcome in outcomes] == [LogTimeout] * 3
        own_valkey.kill()
        with pytest.raises(LogError, match="no log server"):
            await appender.append([(0, b"y")])
        own_valkey.start()
        positions = await appender.append([(1, b"z")])
        await appender.close()
        return positions

    assert len(asyncio.run(run())) == 1


def test_a_full_server_refuses_loudly(own_valkey: Valkey) -> None:
    log = RedisLog.open(own_valkey.url, partitions=2)
    client = own_valkey.client()
    client.config_set("maxmemory", "1mb")
    with pytest.raises(LogError, match=r"refused an event.*maxmemory"):
        log.append([(0, b"x" * 30_000)] * 200)
    client.config_set("maxmemory", "0")
    assert len(log.append([(0, b"y")])) == 1
    client.close()
    log.close()


def test_trimming_by_age_keeps_what_is_younger(valkey: Valkey) -> None:
    log = RedisLog.open(valkey.url, partitions=2)
    with valkey.client() as client:
        for ms in (1_000, 2_000, 3_000):
            client.xadd("{p0}log", {"e": b"%d" % ms}, id=f"{ms}-0")
    assert log.trim_before(2_000) == {0: (2_000 << 20) - 1, 1: START}
    [batch] = log.read({0: log.floor(0)}, limit=10)
    assert batch.payloads == [b"2000", b"3000"]
    log.close()


def test_a_clock_far_in_the_past_is_named_before_positions_would_collide(valkey: Valkey) -> None:
    log = RedisLog.open(valkey.url, partitions=1)
    with valkey.client() as client:
        client.xadd("{p0}log", {"e": b"x"}, id="99999999999999-1048576")
    with pytest.raises(LogError, match="clock went back"):
        log.read({0: START}, limit=10)
    with pytest.raises(LogError, match="clock went back"):
        log.append([(0, b"y")])
    log.close()


@pytest.mark.parametrize(("entry_id", "position"), [(b"0-1", 1), (b"1795312345678-7", 1795312345678 * 2**20 + 7)])
def test_a_position_is_the_stream_id_in_64_bits(entry_id: bytes, position: int) -> None:
    assert position_of(entry_id) == position
    assert entry_id_of(position).encode() == entry_id
