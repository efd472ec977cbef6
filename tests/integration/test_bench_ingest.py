"""The ingest benchmark on a small backlog: flow and bare loop both apply every event, with a real store."""

from __future__ import annotations

import time

import pytest

from cli.bench import _store
from load_tests.benchmarks import ingest
from load_tests.benchmarks.facts import Verdict
from load_tests.floors import backlog


@pytest.mark.parametrize("bare", [True, False], ids=["bare-loop", "flow"])
def test_a_backlog_is_drained_whole(bare: bool) -> None:
    records = backlog.make("heavy_tailed", 5_000, partitions=4, seed=1, end_ms=int(1000 * time.time()))
    verdict = Verdict()
    drain = ingest._drained(_store, records, 2, verdict, bare=bare)
    assert verdict.reasons == []
    assert drain.events_per_s > 0
    assert set(drain.cores) == {"store", "flow-0", "flow-1", "others"}


def test_a_sustained_rate_is_kept_up_with() -> None:
    verdict = Verdict()
    found = ingest._sustained(_store, 500.0, 1.5, verdict)
    assert found["rate"] == 500
    assert found["lag_ms"]["count"] > 0
    assert not any("applied" in reason for reason in verdict.reasons)
