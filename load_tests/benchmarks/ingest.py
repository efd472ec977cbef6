"""`kairos bench ingest`: events a second through log, dataflow and Redis. Room: load_tests.

A drain: the flows are up and warm, then stopped (SIGSTOP) while a backlog is appended; the clock runs from SIGCONT to
the commit of the last event. Every drain has a store and a log of its own. The floor is `load_tests.floors.ingest`,
with the same number of processes. Then a sustained run, whose events arrive at a rate below the drain's.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from load_tests.benchmarks.facts import Verdict, facts
from load_tests.benchmarks.processes import (
    BenchmarkError,
    Child,
    CoresUsed,
    StoreCommand,
    kairos,
    module,
    scratch,
    wait_until,
)
from load_tests.floors import backlog
from load_tests.histogram import Latencies

PARTITIONS: Final = 4
DEFAULT: Final = {"heavy_tailed": 300_000, "uniform": 160_000, "cold": 200_000}
FULL: Final = {"heavy_tailed": 1_000_000, "uniform": 1_000_000, "cold": 600_000}
PROCESSES: Final = (1, 2)
SUSTAINED_SHARE: Final = 0.5  # of the rate drained by two flows

Say = Callable[[str], None]


class Drain(NamedTuple):
    """What one drain showed."""

    events_per_s: float
    cpu_us: float  # an event, store included
    customers: int
    cores: dict[str, float]
    wrong: str  # "" if every event was applied


def measure(store_command: StoreCommand, *, full: bool, say: Say) -> dict[str, Any]:
    """Run the benchmark; return its JSON object.

    Raises
    ------
    BenchmarkError
        A process ended or did not come up.
    """
    verdict = Verdict()
    workloads: dict[str, dict[str, Any]] = {}
    cores: dict[str, dict[str, float]] = {}
    rounds = 3 if full else 1
    for workload, count in (FULL if full else DEFAULT).items():
        records = backlog.make(workload, count, partitions=PARTITIONS, seed=1, end_ms=int(1000 * time.time()))
        runs = []
        for processes in PROCESSES:
            floors, flows = [], []
            for _ in range(rounds):
                say(f"{workload}: bare loop, {processes} process(es)")
                floors.append(_drained(store_command, records, processes, verdict, bare=True))
                say(f"{workload}: bytewax flow, {processes} process(es)")
                flows.append(_drained(store_command, records, processes, verdict, bare=False))
            cores[f"{workload}, {processes} flow(s)"] = flows[-1].cores
            runs.append(_run(processes, flows, floors))
            verdict.check_customers(flows[-1].customers)
        workloads[workload] = {"customers": backlog.CUSTOMERS[workload], "events": count, "runs": runs}
    one, main = workloads["heavy_tailed"]["runs"]
    say("sustained rate")
    sustained = _sustained(store_command, SUSTAINED_SHARE * main["events_per_s"], 60.0 if full else 10.0, verdict)
    settings = {
        "partitions": PARTITIONS, "rounds": rounds, "reported": "worst round", "pinned": False, "full": full,
        "appendfsync": "everysec", "backlog": "of the last hour",
        "floor": "load_tests/floors/ingest.py, as many processes as flows",
    }  # fmt: skip
    figures = {
        **main,
        "floor_events_per_s_one_process": one["floor_events_per_s"],
        "workloads": workloads,
        "sustained": sustained,
    }
    context = facts(settings, {})
    context["cores_used"] = cores
    return verdict.report("ingest", figures, context)


def _run(processes: int, flows: list[Drain], floors: list[Drain]) -> dict[str, Any]:
    rate, floor = min(d.events_per_s for d in flows), min(d.events_per_s for d in floors)
    return {
        "events_per_s": round(rate),
        "floor_events_per_s": round(floor),
        "ratio": round(rate / floor, 3),
        "processes": processes,
        "cpu_us_per_event": round(min(d.cpu_us for d in flows), 1),
        "floor_cpu_us_per_event": round(min(d.cpu_us for d in floors), 1),
    }


def _drained(
    store_command: StoreCommand, records: backlog.Records, processes: int, verdict: Verdict, *, bare: bool
) -> Drain:
    with _flows(store_command, processes, bare=bare) as (progress, children):
        drain = _drain(progress, children, records)
    what = f"{'bare loop' if bare else 'flow'}, {processes} process(es)"
    verdict.refuse_if(bool(drain.wrong), f"{what}: {drain.wrong}")
    return drain


@contextmanager
def _flows(
    store_command: StoreCommand, processes: int, *, bare: bool
) -> Iterator[tuple[backlog.Progress, list[Child]]]:
    """Start a store and flows (or bare loops) that share the partitions, warm; stop them."""
    with scratch() as path:
        (path / "data").mkdir()
        socket = path / "store.sock"
        store = Child("store", store_command(path / "data", socket), path / "store.log")
        children = [store]
        try:
            wait_until(socket.exists, seconds=10, what="the store's socket", children=children)
            progress = _opened(f"unix://{socket}", store)
            for index in range(processes):
                owned = list(range(PARTITIONS))[index::processes]
                children.append(_flow(f"flow-{index}", f"unix://{socket}", owned, path, bare=bare))
            backlog.append(progress.log, backlog.sentinels(PARTITIONS))
            wait_until(
                lambda: progress.entries() == PARTITIONS, seconds=60, what="the flows' first commits", children=children
            )
            yield progress, children
            progress.close()
        finally:
            for child in reversed(children):
                child.stop()


def _opened(url: str, store: Child) -> backlog.Progress:
    for _ in range(100):
        try:
            return backlog.Progress(url, url, PARTITIONS)
        except Exception as err:  # noqa: BLE001 - of whichever client: it is not up yet, or never will be
            store.check()
            problem = err
            time.sleep(0.05)
    raise BenchmarkError(f"the store does not answer: {problem}")


def _flow(name: str, url: str, owned: list[int], path: Path, *, bare: bool) -> Child:
    partitions = ",".join(map(str, owned))
    if bare:
        return Child(name, module("load_tests.floors.ingest", url, url, partitions), path / f"{name}.log")
    command = kairos("dataflow", "features", "--log", url, "--store", url, "--partitions", partitions)
    return Child(name, command, path / f"{name}.log")


def _drain(progress: backlog.Progress, children: list[Child], records: backlog.Records) -> Drain:
    flows = children[1:]
    for flow in flows:
        flow.send_signal(signal.SIGSTOP)
    backlog.append(progress.log, records)
    due = PARTITIONS + len(records)
    used = CoresUsed({child.name: child.pid for child in children})
    began = time.monotonic()
    for flow in flows:
        flow.send_signal(signal.SIGCONT)
    wait_until(lambda: progress.entries() >= due, seconds=180, what="the drain", children=children)
    took = time.monotonic() - began
    cpu_us = 1e6 * sum(used.seconds().values()) / len(records)
    heads = progress.heads()
    applied = sum(head.applied for head in heads)
    wrong = "" if applied == due else f"{applied:,} of {due:,} events were applied"
    return Drain(len(records) / took, cpu_us, sum(head.customers for head in heads), used.cores(), wrong)


def _sustained(store_command: StoreCommand, rate: float, seconds: float, verdict: Verdict) -> dict[str, Any]:
    """Append at a steady rate; see every 10 ms how old the newest event in the state is."""
    with _flows(store_command, PROCESSES[-1], bare=False) as (progress, children), scratch() as path:
        url = progress.log_url
        command = module("load_tests.floors.backlog", url, f"{rate:.0f}", str(seconds), "7")
        source = Child("appender", command, path / "appender.log", piped=True)
        lags, began = Latencies(), time.monotonic()
        try:
            while source.popen.poll() is None:
                behind_ms = progress.behind_ms()
                if behind_ms < backlog.SPAN_MS / 2:  # every partition has begun
                    lags.record_ns(1_000_000 * max(behind_ms, 0))
                time.sleep(0.01)
            sent = msgspec.json.decode(source.result(30))
        finally:
            source.stop()
        due = PARTITIONS + sent["events"]
        wait_until(lambda: progress.entries() >= due, seconds=60, what="the last events", children=children)
        took = time.monotonic() - began
    verdict.refuse_if(sent["late_ms"] > 500, f"sustained: the appender was {sent['late_ms']:.0f} ms late")
    return {"rate": round(rate), "events_per_s": round(sent["events"] / took), "lag_ms": lags.summary()}
