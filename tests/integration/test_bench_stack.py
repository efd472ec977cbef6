"""The freshness and serving benchmarks on one small stack: all keys are there, and a small run gives no figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from load_tests.benchmarks import freshness, serving
from load_tests.benchmarks import stack as stacks
from load_tests.benchmarks.processes import scratch


@pytest.fixture(scope="module")
def shop() -> Iterator[stacks.Shop]:
    with scratch() as path, stacks.running(path / "data", lambda line: None) as stack:
        yield stacks.opened(stack, path, items=500, customers=1_000, sessions=300, budget="1s")


def test_freshness_is_measured_on_both_ways(shop: stacks.Shop) -> None:
    size = freshness.Size(items=500, rate=200.0, probes=20.0, warmup_s=0.5, seconds=2.0)
    report = freshness.measured(shop, size, full=False)
    assert report["figure"] is None  # for want of customers at least
    assert any("distinct customers" in reason for reason in report["why"])
    assert not any("error" in reason or "not applied" in reason for reason in report["why"])
    seen = report["seen"]
    assert seen["append_to_redis_ms"]["count"] == seen["event_to_answer_ms"]["count"] == 40
    assert seen["changed_share"] > 0.5
    assert seen["stale"] == 0
    assert {"store", "flow-0", "api-0"} <= set(report["cores_used"])


def test_serving_is_measured_beside_its_floor(shop: stacks.Shop, tmp_path: Path) -> None:
    size = serving.Size(
        items=500, customers=200, rate=50.0, floor_rate=20.0, background=100.0, warmup_s=0.5, seconds=2.0,
        saturation_s=1.0, step_s=0.5,
    )  # fmt: skip
    report = serving.measured(shop, size, full=False, keep=tmp_path)
    assert report["figure"] is None
    assert not any("error" in reason for reason in report["why"])
    seen = report["seen"]
    assert {"items", "saturation_rps", "open_loop", "cpu_ms_per_answer", "floor_cpu_ms", "ratio_p50"} <= set(seen)
    assert {"rate", "p50_ms", "p99_ms", "p999_ms", "errors", "degraded_share"} <= set(seen["open_loop"])
    assert seen["open_loop"]["errors"] == 0
    assert seen["model_items"] == 500
    assert seen["floor_parts"]["get"]["p50_ms"] > 0
    assert len(seen["curve"]) == 6
    assert (tmp_path / "serving-0.hgrm").is_file()
