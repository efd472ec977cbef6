"""What every event log promises, asked of each backend on a real server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from events.errors import LogError, PositionLost, SettingsError
from events.log import START, EventLog, open_appender, open_log
from events.positions import check_position
from tests.servers import Kafka, Valkey


@pytest.fixture(params=["streams", "kafka"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "kafka":
        broker: Kafka = request.getfixturevalue("kafka")
        return broker.topic_url()
    server: Valkey = request.getfixturevalue("valkey")
    return server.url


@pytest.fixture
def log(url: str) -> Iterator[EventLog]:
    opened = open_log(url, partitions=4)
    yield opened
    opened.close()


def everything(log: EventLog, after: dict[int, int] | None = None, *, limit: int = 100) -> dict[int, list[bytes]]:
    """Read on until each partition's end."""
    at = dict.fromkeys(range(log.partitions), START) if after is None else dict(after)
    ends = {p: log.end(p) for p in at}
    payloads: dict[int, list[bytes]] = {}
    while any(at[p] < ends[p] for p in at):
        for batch in log.read(at, limit=limit, wait_ms=500):
            assert len(batch.positions) == len(batch.payloads) <= limit
            assert batch.positions == sorted(set(batch.positions))
            assert batch.positions[0] > at[batch.partition]
            at[batch.partition] = batch.positions[-1]
            payloads.setdefault(batch.partition, []).extend(batch.payloads)
    return payloads


def trim(log: Any, partition: int, upto: int) -> int:
    """Trim; Tansu cannot delete records, which `KafkaLog` reports after it has raised the floor."""
    with contextlib.suppress(LogError):
        return int(log.trim(partition, upto))
    return int(log.floor(partition))


def test_what_is_appended_is_read_in_order_by_partition(log: EventLog) -> None:
    positions = log.append([(0, b"a"), (3, b"b"), (0, b"c"), (0, b"d")])
    assert positions[0] < positions[2] < positions[3]
    assert everything(log) == {0: [b"a", b"c", b"d"], 3: [b"b"]}


def test_a_read_returns_the_positions_that_append_returned(log: EventLog) -> None:
    positions = log.append([(1, b"x"), (1, b"y")])
    [batch] = log.read({1: START}, limit=10, wait_ms=5_000)
    while len(batch.positions) < 2:
        batch = log.read({1: START}, limit=10, wait_ms=5_000)[0]
    assert (batch.partition, batch.positions, batch.payloads) == (1, positions, [b"x", b"y"])


def test_a_read_begins_after_its_position_and_may_go_back(log: EventLog) -> None:
    positions = log.append([(2, b"%d" % n) for n in range(6)])
    assert everything(log, {2: positions[3]}) == {2: [b"4", b"5"]}
    assert everything(log, {2: positions[0]}) == {2: [b"1", b"2", b"3", b"4", b"5"]}


def test_payloads_of_any_bytes_come_back(log: EventLog) -> None:
    payloads = [b"", b"\r\n$3\r\n", bytes(range(256)), b"\x00" * 32_768]
    log.append([(0, payload) for payload in payloads])
    assert everything(log) == {0: payloads}


def test_a_large_append_is_read_in_batches_within_the_limit(log: EventLog) -> None:
    log.append([(n % 4, b"%d" % n) for n in range(3_000)])
    read = everything(log, limit=64)
    assert {p: len(found) for p, found in read.items()} == {0: 750, 1: 750, 2: 750, 3: 750}
    assert read[3] == [b"%d" % n for n in range(3, 3_000, 4)]


def test_an_empty_log_ends_at_its_start(log: EventLog) -> None:
    assert [log.end(p) for p in range(4)] == [START] * 4
    assert [log.floor(p) for p in range(4)] == [START] * 4
    assert log.read({0: START, 1: START}, limit=10) == []
    assert log.read({0: START}, limit=10, wait_ms=20) == []
    assert log.append([]) == []


def test_the_end_is_the_last_position(log: EventLog) -> None:
    positions = log.append([(0, b"a"), (0, b"b"), (1, b"c")])
    assert (log.end(0), log.end(1), log.end(2)) == (positions[1], positions[2], START)
    [later] = log.append([(0, b"d")])
    assert log.end(0) == later


def test_a_waiting_read_sees_what_another_client_appends(log: EventLog, url: str) -> None:
    log.append([(0, b"old")])
    at = {p: log.end(p) for p in range(4)}
    other = open_log(url)
    late = threading.Timer(0.05, lambda: other.append([(2, b"new")]))
    late.start()
    found: list[Any] = []
    while not found:
        found = log.read(at, limit=10, wait_ms=2_000)
    late.join()
    other.close()
    assert [(batch.partition, batch.payloads) for batch in found] == [(2, [b"new"])]


def test_an_existing_log_keeps_its_id_and_its_partition_count(log: EventLog, url: str) -> None:
    again = open_log(url)
    assert (again.log_id, again.partitions) == (log.log_id, 4)
    again.close()
    with pytest.raises(SettingsError, match=r"has 4 partitions, not 8.*start with --partitions 4"):
        open_log(url, partitions=8)


def test_a_log_that_is_not_there_is_not_made_by_accident(url: str) -> None:
    with pytest.raises(LogError, match="no log at"):
        open_log(url)
    with pytest.raises(LogError, match="no log at"):
        asyncio.run(open_appender(url))


def test_two_that_make_the_log_at_once_agree_on_its_id(url: str) -> None:
    ids: list[str] = []

    def make() -> None:
        made = open_log(url, partitions=4)
        ids.append(made.log_id)
        made.close()

    makers = [threading.Thread(target=make) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(ids) == 4
    assert len(set(ids)) == 1


def test_consumers_are_listed_with_their_positions(log: EventLog) -> None:
    positions = log.append([(0, b"a"), (0, b"b"), (1, b"c")])
    log.register("features", {0: positions[0], 1: START})
    log.register("archive:eu", {1: positions[2]})
    log.register("features", {0: positions[1]})
    assert log.consumers() == {"features": {0: positions[1], 1: START}, "archive:eu": {1: positions[2]}}


def test_trimming_stays_behind_the_slowest_consumer(log: EventLog) -> None:
    positions = log.append([(0, b"%d" % n) for n in range(10)])
    log.register("fast", {0: positions[8]})
    log.register("slow", {0: positions[4]})
    assert trim(log, 0, positions[9]) == positions[4]
    assert log.floor(0) == positions[4]
    assert everything(log, {0: positions[4]}) == {0: [b"5", b"6", b"7", b"8", b"9"]}
    log.register("slow", {0: START})
    assert trim(log, 0, positions[9]) == positions[4], "the floor never sinks"


def test_a_consumer_of_another_partition_holds_nothing_back(log: EventLog) -> None:
    positions = log.append([(0, b"a"), (0, b"b")])
    log.register("other", {1: START})
    assert trim(log, 0, positions[0]) == positions[0]
    assert (log.floor(0), log.floor(1)) == (positions[0], START)


def test_a_forgotten_consumer_holds_nothing_back(log: Any) -> None:
    positions = log.append([(0, b"a"), (0, b"b")])
    log.register("gone", {0: START})
    assert trim(log, 0, positions[0]) == START
    log.forget("gone")
    assert log.consumers() == {}
    assert trim(log, 0, positions[0]) == positions[0]


def test_trimming_past_the_end_stops_at_the_end(log: EventLog) -> None:
    positions = log.append([(0, b"a"), (0, b"b")])
    assert trim(log, 0, positions[1] + 1_000_000) == positions[1]
    assert log.end(0) == positions[1], "the end outlives its entries"
    [later] = log.append([(0, b"c")])
    assert everything(log, {0: positions[1]}) == {0: [b"c"]}
    assert later > positions[1]


def test_trimming_an_empty_partition_leaves_the_start(log: EventLog) -> None:
    assert trim(log, 3, 10_000) == START
    assert log.floor(3) == START


def test_a_good_position_passes_the_check(log: EventLog) -> None:
    positions = log.append([(0, b"a"), (0, b"b")])
    trim(log, 0, positions[0])
    check_position(log, 0, positions[0], log.log_id, partitions=4)
    check_position(log, 0, positions[1], log.log_id)
    check_position(log, 1, START, "")


def test_a_position_of_another_log_is_refused_with_the_way_out(log: EventLog) -> None:
    with pytest.raises(PositionLost, match=r"made anew.*point --log to the log.*empty store"):
        check_position(log, 0, START, "another")


def test_another_partition_count_is_refused_with_the_way_out(log: EventLog) -> None:
    with pytest.raises(LogError, match=r"built with 8 partitions.*has 4.*point --log"):
        check_position(log, 0, START, log.log_id, partitions=8)
    with pytest.raises(LogError, match=r"partition 4 is not in log.*0 to 3.*--partitions"):
        check_position(log, 4, START, log.log_id)


def test_a_position_beyond_the_end_is_refused_with_the_way_out(log: EventLog) -> None:
    [position] = log.append([(0, b"a")])
    with pytest.raises(PositionLost, match=r"ends at .*lost its tail; restore it"):
        check_position(log, 0, position + 1, log.log_id)


def test_a_position_before_the_floor_is_refused_with_the_way_out(log: EventLog) -> None:
    positions = log.append([(0, b"a"), (0, b"b")])
    trim(log, 0, positions[1])
    with pytest.raises(PositionLost, match=r"trimmed up to .*restore a store that is at or past"):
        check_position(log, 0, positions[0], log.log_id)
    with pytest.raises(PositionLost, match=r"committed up to its start"):
        check_position(log, 0, START, "")


def test_the_appender_returns_positions_that_the_log_reads(log: EventLog, url: str) -> None:
    async def run() -> list[int]:
        appender = await open_appender(url)
        assert (appender.log_id, appender.partitions) == (log.log_id, 4)
        first = await appender.append([(0, b"a"), (1, b"b")])
        assert await appender.append([]) == []
        together = await asyncio.gather(*[appender.append([(0, b"%d" % n)]) for n in range(50)])
        await appender.close()
        with pytest.raises(LogError, match="closed"):
            await appender.append([(0, b"late")])
        return first + [position for [position] in together]

    positions = asyncio.run(run())
    read = everything(log)
    assert read == {0: [b"a", *(b"%d" % n for n in range(50))], 1: [b"b"]}
    assert log.end(0) == positions[-1]


def test_closing_the_appender_waits_for_what_is_on_its_way(log: EventLog, url: str) -> None:
    async def run() -> None:
        appender = await open_appender(url)
        waiting = asyncio.gather(*[appender.append([(n % 4, b"x")]) for n in range(200)])
        await asyncio.sleep(0)
        await appender.close()
        assert len(await waiting) == 200

    asyncio.run(run())
    assert sum(map(len, everything(log).values())) == 200


def test_a_cancelled_append_does_not_disturb_the_others(log: EventLog, url: str) -> None:
    async def run() -> None:
        appender = await open_appender(url)
        impatient = asyncio.create_task(appender.append([(0, b"impatient")]))
        patient = asyncio.create_task(appender.append([(0, b"patient")]))
        await asyncio.sleep(0)
        impatient.cancel()
        assert len(await patient) == 1
        await appender.close()

    asyncio.run(run())
    assert everything(log)[0][-1] == b"patient"


@pytest.mark.parametrize("address", ["redis://user:secret@127.0.0.1:1", "kafka://user:secret@127.0.0.1:1/t"])
def test_an_unreachable_server_is_named_without_its_password(address: str) -> None:
    module = __import__("events.kafka_log" if address.startswith("kafka") else "events.redis_log", fromlist=["x"])
    backend: Any = module.KafkaLog if address.startswith("kafka") else module.RedisLog
    with pytest.raises(LogError, match=r"127\.0\.0\.1:1") as caught:
        backend.open(address, partitions=4, timeout_s=1.0)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["http://x", "kafka://host-without-topic", "nothing"])
def test_an_address_of_no_log_is_a_settings_error(address: str) -> None:
    with pytest.raises(SettingsError, match="no log address"):
        open_log(address, partitions=4)
