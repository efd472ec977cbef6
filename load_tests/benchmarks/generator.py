"""Runs the open-loop generator and the background beside what is measured. Room: load_tests."""

from __future__ import annotations

from pathlib import Path

import msgspec

from load_tests.benchmarks.processes import Child, module
from load_tests.open_loop import Report, Spec, TargetReport


def generate(spec: Spec, path: Path) -> Report:
    """Run the generator in a process of its own, and wait for its report."""
    return collect(launch(spec, path), spec)


def launch(spec: Spec, path: Path) -> Child:
    """Start the generator."""
    file = path / "spec.json"
    file.write_bytes(msgspec.json.encode(spec))
    return Child("generator", module("load_tests.open_loop", str(file)), path / "generator.log", piped=True)


def collect(generator: Child, spec: Spec) -> Report:
    """Wait for the generator's report."""
    patience = spec.warmup_s + spec.seconds + 3 * spec.timeout_s + 30
    return msgspec.json.decode(generator.result(patience), type=Report)


def background(log_url: str, path: Path, *, rate: float, seconds: float, customers: int, seed: int = 5) -> Child:
    """Start a process that appends events of now to the log."""
    arguments = (log_url, str(rate), str(seconds), str(seed), str(customers))
    return Child("background", module("load_tests.floors.backlog", *arguments), path / "background.log", piped=True)


def figures(report: TargetReport) -> dict[str, float]:
    """Return the latencies under the names that reports use."""
    return {f"{name}_ms": report.latency_ms[name] for name in ("p50", "p90", "p99", "p999", "max")}


def keep_histogram(report: TargetReport, path: Path) -> None:
    """Write a target's latencies as percentile distribution (`.hgrm`) and in the interchange format."""
    from load_tests.histogram import Latencies

    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".hgrm").write_text(Latencies(report.histogram).report())
    path.with_suffix(".hdr").write_text(report.histogram + "\n")
