"""The pieces of the benchmarks that need no stack: workloads, requests, processes, and when there is no figure."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from events.schema import decode_event, partition_of
from load_tests.asks import write_asks
from load_tests.benchmarks.facts import Verdict, commit, facts
from load_tests.benchmarks.processes import BenchmarkError, Child, CoresUsed, cpu_s, pin, scratch, wait_until
from load_tests.floors import backlog
from load_tests.histogram import Latencies
from load_tests.simulator import World

NOW_MS = 1_790_000_000_000


def test_a_clean_run_gives_its_figures() -> None:
    verdict = Verdict()
    verdict.check_customers(10_000)
    verdict.check_lag(1.0)
    verdict.check_answers("answers", 10_000, {"503": 0}, 10)
    assert verdict.report("x", {"p99_ms": 3.0}, {"commit": "c"}) == {"benchmark": "x", "p99_ms": 3.0, "commit": "c"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda v: v.check_customers(9_999), "9,999 distinct customers"),
        (lambda v: v.check_lag(1.2), "scheduling lag p99 was 1.2 ms"),
        (lambda v: v.check_answers("answers", 100, {"503": 2}, 0), "answers: errors {'503': 2}"),
        (lambda v: v.check_answers("answers", 0, {}, 0), "answers: no answer"),
        (lambda v: v.check_answers("answers", 1_000, {}, 2), "answers: 0.20% degraded answers"),
    ],
)
def test_a_spoilt_run_gives_no_figure_but_says_why(spoil: Any, reason: str) -> None:
    verdict = Verdict()
    spoil(verdict)
    report = verdict.report("x", {"p99_ms": 3.0}, {})
    assert report["figure"] is None
    assert reason in report["why"][0]
    assert "p99_ms" not in report


def test_a_report_carries_what_it_was_made_on() -> None:
    found = facts({"rate": 400}, {"api-0": 0.51234})
    assert set(found) == {"machine", "versions", "commit", "cores_used", "settings"}
    assert found["cores_used"] == {"api-0": 0.512}
    assert found["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["machine"]["cores"] == os.cpu_count()
    assert commit() == found["commit"]


@pytest.mark.parametrize("workload", ["heavy_tailed", "uniform", "cold"])
def test_a_backlog_is_deterministic_and_in_its_partitions(workload: str) -> None:
    records = backlog.make(workload, 2_000, partitions=4, seed=1, end_ms=NOW_MS)
    assert records == backlog.make(workload, 2_000, partitions=4, seed=1, end_ms=NOW_MS)
    events = [decode_event(payload) for _, payload in records]
    assert [partition for partition, _ in records] == [partition_of(e.customer_id, 4) for e in events]
    assert len({e.event_id for e in events}) == 2_000
    assert [e.at_ms for e in events] == sorted(e.at_ms for e in events)
    assert all(NOW_MS - backlog.SPAN_MS <= e.at_ms < NOW_MS for e in events)


def test_workloads_differ_as_they_say() -> None:
    rng = np.random.default_rng(1)
    heavy, uniform, cold = (
        Counter(backlog.customers_of(workload, 100_000, rng, backlog.CUSTOMERS[workload]).tolist())
        for workload in ("heavy_tailed", "uniform", "cold")
    )
    assert heavy.most_common(1)[0][1] > 1_000
    assert max(uniform.values()) < 30
    assert set(cold.values()) == {1}


def test_sentinels_reach_every_partition_once() -> None:
    assert sorted(partition for partition, _ in backlog.sentinels(8)) == list(range(8))


def test_asks_are_of_many_customers_and_some_strangers(tmp_path: Path) -> None:
    world = World(items=500, customers=20_000, seed=1)
    who = write_asks(tmp_path / "asks", world, customers=20_000, count=20_000, limit=20, seed=1)
    asks = [msgspec.json.decode(line) for line in (tmp_path / "asks").read_bytes().splitlines()]
    assert [ask["customer_id"] for ask in asks] == who
    assert len(set(who)) >= 10_000
    assert 0.05 < sum(w.startswith("stranger") for w in who) / len(who) < 0.2
    assert {ask["placement"] for ask in asks} == {"home", "item", "cart"}
    assert all(("item_ids" in ask) == (ask["placement"] != "home") for ask in asks)


def test_a_child_is_waited_for_pinned_and_stopped() -> None:
    with scratch() as path:
        child = Child("idle", [sys.executable, "-c", "import time; time.sleep(60)"], path / "log")
        pin(child.pid, {0})
        used = CoresUsed({"idle": child.pid})
        assert os.sched_getaffinity(child.pid) == {0}
        assert cpu_s(child.pid) >= 0
        assert set(used.cores()) == {"idle", "others"}
        child.stop()
        assert child.popen.returncode == -15


def test_a_child_that_ends_is_reported_with_its_last_words() -> None:
    with scratch() as path:
        child = Child("failing", [sys.executable, "-c", "raise SystemExit('out of luck')"], path / "log")
        with pytest.raises(BenchmarkError, match=r"failing ended with 1: .*out of luck"):
            wait_until(lambda: False, seconds=20, what="nothing", children=[child])
        child.stop()


def test_what_a_child_prints_is_its_result() -> None:
    with scratch() as path:
        child = Child("printing", [sys.executable, "-c", "print(42)"], path / "log", piped=True)
        assert child.result(20) == b"42\n"


def test_latencies_survive_their_interchange_format() -> None:
    latencies = Latencies()
    for ms in range(1, 1_001):
        latencies.record_ns(ms * 1_000_000)
    again = Latencies(latencies.encode())
    assert again.summary() == latencies.summary()
    assert again.ms(99) == pytest.approx(990, rel=0.001)
    assert "0.990" in latencies.report()
    again.add(latencies)
    assert again.count == 2_000
