"""The features flow as real processes on a real store: whatever happens to them, state = a fold of the log."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from events.log import open_log
from events.redis_log import RedisLog
from events.schema import CatalogItem, Event, encode_event
from tests.builders import NOW_MS
from tests.flows import ROOT, Flow, drained, heads, parity, traffic
from tests.servers import Kafka, Valkey

FLOWS: list[Flow] = []


@pytest.fixture(autouse=True)
def _no_stray_flows() -> Iterator[None]:
    yield
    while FLOWS:
        FLOWS.pop().kill()


def _start(server: Valkey, partitions: tuple[int, ...] = (0, 1, 2, 3), *, prelude: str = "", log: str = "") -> Flow:
    FLOWS.append(Flow(log or server.url, server.url, partitions, prelude=prelude))
    return FLOWS[-1]


def _log(server: Valkey) -> RedisLog:
    return RedisLog.open(server.url, partitions=4)


def test_two_independent_flows_drain_a_backlog_and_account_for_every_entry(valkey: Valkey) -> None:
    log = _log(valkey)
    log.append(traffic(6_000))
    flows = [_start(valkey, (0, 1)), _start(valkey, (2, 3))]
    found = drained(log, valkey.url)
    assert sum(head.entries for head in found.values()) == 6_000
    assert sum(head.dead_lettered for head in found.values()) == 61
    assert sum(head.duplicates for head in found.values()) > 50
    assert [flow.stop() for flow in flows] == [0, 0]
    report = parity(valkey.url, valkey.url)
    assert (report.mismatches, report.events_folded) == (0, 6_000)
    assert report.by_kind["customer"]["compared"] == 300
    assert log.consumers()["features"] == {p: head.position for p, head in found.items()}


def test_sigkill_at_random_points_loses_and_doubles_nothing(valkey: Valkey) -> None:
    seed = int(os.environ.get("SEED", random.randrange(10**6)))
    chance, log = random.Random(seed), _log(valkey)
    flow = _start(valkey)
    for kill in range(10):
        log.append(traffic(3_000, first=kill * 3_000))
        time.sleep(chance.uniform(0.0, 0.6))
        flow.kill()
        flow = _start(valkey)
    found = drained(log, valkey.url)
    assert sum(head.entries for head in found.values()) == 30_000, f"SEED={seed}"
    assert flow.stop() == 0
    report = parity(valkey.url, valkey.url)
    assert report.mismatches == 0, f"SEED={seed}: {report.examples}"


def test_an_owner_stopped_in_the_middle_of_a_batch_is_fenced_when_it_wakes(valkey: Valkey) -> None:
    log = _log(valkey)
    zombie = _start(valkey)
    log.append(traffic(500))
    drained(log, valkey.url)
    log.append(traffic(20_000, first=500))
    while sum(head.entries for head in heads(valkey.url, 4).values()) < 2_000:
        time.sleep(0.001)
    zombie.send(signal.SIGSTOP)
    heir = _start(valkey)
    drained(log, valkey.url)
    zombie.send(signal.SIGCONT)
    log.append(traffic(500, first=20_500))
    code, output = zombie.wait()
    assert code != 0
    assert "committed by somebody else" in output
    drained(log, valkey.url)
    assert heir.stop() == 0
    assert parity(valkey.url, valkey.url).mismatches == 0


def test_a_killed_server_comes_back_with_all_and_the_flow_goes_on(own_valkey: Valkey) -> None:
    flow = _start(own_valkey)
    for part in range(4):
        _log(own_valkey).append(traffic(2_000, first=part * 2_000))
        while not heads(own_valkey.url, 4):
            time.sleep(0.01)
        own_valkey.kill()
        own_valkey.start()
        if flow.process.poll() is not None:  # its log read failed: the supervisor would start it again
            flow = _start(own_valkey)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if flow.process.poll() is not None:
            flow = _start(own_valkey)
        if sum(head.entries for head in heads(own_valkey.url, 4).values()) == 8_000:
            break
        time.sleep(0.05)
    assert flow.stop() == 0
    report = parity(own_valkey.url, own_valkey.url)
    assert (report.mismatches, report.events_folded) == (0, 8_000)


@pytest.mark.parametrize("part", range(3))
def test_the_append_only_file_cut_anywhere_leaves_the_fold_of_the_remaining_log(own_valkey: Valkey, part: int) -> None:
    log = _log(own_valkey)
    flow = _start(own_valkey)
    log.append(traffic(2_500))
    drained(log, own_valkey.url)
    flow.stop()
    own_valkey.kill()
    size = own_valkey.appendonly.stat().st_size
    cut = random.Random(part).randrange(size // 4, size)
    os.truncate(own_valkey.appendonly, cut)
    own_valkey.start()
    report = parity(own_valkey.url, own_valkey.url)
    assert report.mismatches == 0, f"cut at {cut} of {size}: {report.examples}"
    flow = _start(own_valkey)
    drained(_log(own_valkey), own_valkey.url)
    assert flow.stop() == 0
    assert parity(own_valkey.url, own_valkey.url).mismatches == 0


def test_a_transition_that_raises_costs_its_event_alone(valkey: Valkey) -> None:
    prelude = (
        "import feature_store.fold as f; real = f.apply\n"
        "def apply(customer, event):\n"
        "    if event.event_id in ('t100', 't2001'): raise RuntimeError('bug in a feature')\n"
        "    real(customer, event)\n"
        "f.apply = apply\n"
    )
    log = _log(valkey)
    flow = _start(valkey, prelude=prelude)
    log.append(traffic(3_000))
    found = drained(log, valkey.url)
    assert flow.stop() == 0
    assert sum(head.entries for head in found.values()) == 3_000
    client = valkey.client()
    letters = [e[1][b"d"] for p in range(4) for e in client.xrange(f"{{p{p}}}dead")]
    raised = [letter for letter in letters if b"RuntimeError: bug in a feature" in letter]
    assert len(raised) == 2
    assert all(b"Traceback" in letter for letter in raised)


def test_a_big_catalogue_is_cut_into_commits_that_the_server_bears(valkey: Valkey) -> None:
    log = _log(valkey)
    told = [CatalogItem(item_id=f"i{n}", title=f"Item {n}", price_micros=n * 10_000) for n in range(20_000)]
    events = [
        Event(event="catalog_updated", event_id=f"k{n}", at_ms=NOW_MS, received_ms=NOW_MS, catalog=told[n : n + 50])
        for n in range(0, len(told), 50)
    ]
    log.append([(0, encode_event(event)) for event in events] + traffic(500))
    flow = _start(valkey)
    found = drained(log, valkey.url)
    assert flow.stop() == 0
    assert sum(head.catalog for head in found.values()) == 400
    assert valkey.client().hlen("{p0}items") == 20_000
    assert parity(valkey.url, valkey.url).mismatches == 0


def _refusal(valkey: Valkey) -> str:
    code, output = _start(valkey).wait()
    assert code != 0
    return output


@pytest.fixture
def committed(valkey: Valkey) -> Valkey:
    log = _log(valkey)
    flow = _start(valkey)
    log.append(traffic(200))
    drained(log, valkey.url)
    flow.stop()
    return valkey


def test_a_log_made_anew_is_refused(committed: Valkey) -> None:
    committed.client().hset("log:meta", "id", "another")
    output = _refusal(committed)
    assert "made anew" in output
    assert "--log" in output


def test_another_partition_count_is_refused(committed: Valkey) -> None:
    committed.client().hset("log:meta", "partitions", "8")
    assert "partitions" in _refusal(committed)


def test_a_position_beyond_the_end_is_refused(committed: Valkey) -> None:
    committed.client().delete(*[f"{{p{p}}}log" for p in range(4)])
    assert "lost its tail" in _refusal(committed)


def test_a_log_trimmed_past_the_position_is_refused(committed: Valkey) -> None:
    log = _log(committed)
    log.append(traffic(400, first=200))
    log.forget("features")
    for partition in range(4):
        log.trim(partition, log.end(partition))
    output = _refusal(committed)
    assert "trimmed" in output
    assert "rebuild" in output


def test_the_flow_runs_under_bytewax_run_with_two_workers(valkey: Valkey) -> None:
    log = _log(valkey)
    log.append(traffic(2_000))
    process = subprocess.Popen(
        [sys.executable, "-m", "bytewax.run", "dataflows.features", "-w", "2"], cwd=ROOT,
        env={**os.environ, "KAIROS_LOG_URL": valkey.url, "KAIROS_STORE_URL": valkey.url},
    )  # fmt: skip
    try:
        drained(log, valkey.url)
    finally:
        process.kill()
        process.wait()
    assert parity(valkey.url, valkey.url).mismatches == 0


def test_the_flow_reads_kafka(valkey: Valkey, kafka: Kafka) -> None:
    url = kafka.topic_url()
    log = open_log(url, partitions=4)
    log.append(traffic(2_000))
    flow = _start(valkey, log=url)
    deadline = time.monotonic() + 30
    while sum(head.entries for head in heads(valkey.url, 4).values()) < 2_000 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert flow.stop() == 0
    report = parity(url, valkey.url)
    assert (report.mismatches, report.events_folded) == (0, 2_000)
