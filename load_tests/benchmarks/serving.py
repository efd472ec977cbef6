"""`kairos bench serving`: the full path of an answer, in an open loop and at saturation. Room: load_tests.

100,000 items, a model trained on the simulator's past, customers with live state, events written all the time. The API
(and the floor) has a core of its own; generator, store and flow share the other. The floor is
`load_tests.floors.serving`, whose requests are interleaved with the API's in one schedule.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from load_tests.asks import EXPONENT, PLACEMENTS, UNKNOWN, write_asks
from load_tests.benchmarks import stack as stacks
from load_tests.benchmarks.facts import Verdict, facts
from load_tests.benchmarks.generator import background, figures, generate, keep_histogram
from load_tests.benchmarks.processes import BenchmarkError, Child, CoresUsed, module, pin, scratch
from load_tests.http_client import Client
from load_tests.open_loop import Report, Spec, Target, TargetReport

LIMIT: Final = 20
DEGRADED: Final = {"degraded": '"degraded":{', "cold": '"source":"cold_start"'}
_CORES: Final = sorted(os.sched_getaffinity(0))
OTHER_CORE, API_CORE = _CORES[0], _CORES[-1]

Say = Callable[[str], None]


class Size(NamedTuple):
    """How much of it."""

    items: int = 100_000
    customers: int = 20_000
    sessions: int = 40_000
    rate: float = 400.0
    floor_rate: float = 50.0
    background: float = 1_000.0  # events a second
    warmup_s: float = 3.0
    seconds: float = 50.0
    saturation_s: float = 10.0
    rounds: int = 1
    step_s: float = 0.0  # of the curve of latency over rate; 0: no curve
    budget: str = "10s"  # of training; the ranker costs the same however well it learned


FULL: Final = Size(
    sessions=400_000, background=4_000.0, warmup_s=30.0, seconds=600.0, saturation_s=30.0, rounds=3, step_s=30.0,
    budget="10m",
)  # fmt: skip


def measure(*, full: bool, say: Say, size: Size | None = None, keep: Path | None = None) -> dict[str, Any]:
    """Run the benchmark; return its JSON object.

    Parameters
    ----------
    full
        The long protocol.
    size
        Another size, for tests.
    keep
        Directory for the raw histograms.

    Raises
    ------
    BenchmarkError
        A process ended or did not come up.
    """
    size = size or (FULL if full else Size())
    customers = max(200_000, size.customers)
    with scratch() as path, stacks.running(path / "data", say) as stack:
        shop = stacks.opened(
            stack, path, items=size.items, customers=customers, sessions=size.sessions, budget=size.budget
        )
        return measured(shop, size, full=full, keep=keep)


def measured(shop: stacks.Shop, size: Size, *, full: bool, keep: Path | None = None) -> dict[str, Any]:
    """Measure on a stack that is ready; return the report."""
    verdict, rounds = Verdict(), []
    stacks.bring_customers(shop.stack, shop.world, customers=size.customers)
    account = shop.stack.wait_for_flows()
    asks = shop.path / "asks.ndjson"
    who = write_asks(asks, shop.world, customers=size.customers, count=200_000, limit=LIMIT, seed=1)
    floor = _start_floor(shop, size)
    try:
        _pin(shop.stack, floor)
        for number in range(size.rounds):
            found, answers = _round(shop, floor, asks, who, size, verdict, number)
            rounds.append(found)
            if keep is not None:
                keep_histogram(answers, keep / f"serving-{number}")
        worst = max(rounds, key=lambda figures: figures["open_loop"]["p99_ms"])
        if size.step_s:
            worst["curve"] = _curve(shop, asks, size.step_s, worst["saturation_rps"])
    finally:
        floor.child.stop()
    worst["items"] = size.items
    worst["model_items"] = shop.trained["items"]
    settings = {
        **size._asdict(), "limit": LIMIT, "placements": PLACEMENTS, "unknown_share": UNKNOWN, "zipf": EXPONENT,
        "arrivals": "poisson", "cores": {"api, floor": API_CORE, "generator, store, flow": OTHER_CORE},
        "model": shop.model, "training": shop.trained["metrics"], "customers_with_state": account["customers"],
        "full": full, "slate_cache": False,
    }  # fmt: skip
    context = facts(settings, worst.pop("cores"))
    if verdict.reasons:
        context["logs"] = shop.stack.last_words()
    return verdict.report("serving", worst, context)


class _Floor(NamedTuple):
    """The floor's process."""

    child: Child
    url: str


async def _parts(floor: _Floor) -> dict[str, Any]:
    """Return what each part of the floor took."""
    client = Client(floor.url)
    try:
        found: dict[str, Any] = (await client.get("/report")).json()["parts"]
        return found
    finally:
        await client.close()


def _start_floor(shop: stacks.Shop, size: Size) -> _Floor:
    partitions = str(len(shop.stack.status()["positions"]))
    arguments = (shop.stack.store_url, partitions, str(size.customers), shop.trained["path"])
    child = Child("floor", module("load_tests.floors.serving", *arguments), shop.path / "floor.log", piped=True)
    output = child.popen.stdout
    assert output is not None  # noqa: S101 - it is piped
    port = int(output.readline() or 0)
    if not port:
        child.stop()
        raise BenchmarkError(f"the floor's server did not come up: {child.tail()}")
    return _Floor(child, f"http://127.0.0.1:{port}")


def _pin(stack: stacks.Stack, floor: _Floor) -> None:
    for name, pid in stack.pids().items():
        pin(pid, {API_CORE} if name.startswith("api") else {OTHER_CORE})
    pin(floor.child.pid, {API_CORE})


def _round(
    shop: stacks.Shop, floor: _Floor, asks: Path, who: list[str], size: Size, verdict: Verdict, number: int
) -> tuple[dict[str, Any], TargetReport]:  # fmt: skip
    """Measure once: the open loop with the floor in it, then saturation."""
    stack, path, say = shop.stack, shop.path, shop.stack.say
    api = {name: pid for name, pid in stack.pids().items() if name.startswith("api")}
    answers = Target("answers", f"{stack.url}/v1/recommendations", str(asks), size.rate, DEGRADED)
    bare = Target("floor", f"{floor.url}/", "", size.floor_rate)
    generate(_spec([answers, bare], size.warmup_s, 0.0, number), path)
    say(f"open loop, {size.rate:.0f} answers/s for {size.seconds:.0f} s")
    writing = background(
        stack.log_url, path, rate=size.background, seconds=size.seconds + 2, customers=size.customers, seed=number + 1
    )
    pin(writing.pid, {OTHER_CORE})
    try:
        used = CoresUsed({**stack.pids(), "floor": floor.child.pid, "background": writing.pid})
        report = generate(_spec([answers, bare], size.seconds, 0.0, number), path)
        cpu, cores = used.seconds(), used.cores()
        verdict.check_background(size.background, writing.result(60))
    finally:
        writing.stop()
    cores["generator"] = report.cpu_s / report.seconds
    cores["others"] -= cores["generator"]
    say(f"saturation for {size.saturation_s:.0f} s")
    full_speed = generate(_spec([answers], size.saturation_s, 1.0, number, closed=True), path)
    _judge(verdict, report, full_speed, who)
    parts = asyncio.run(_parts(floor))
    return _figures(report, full_speed, parts, cpu, cores, list(api), size), report.targets["answers"]


def _curve(shop: stacks.Shop, asks: Path, seconds: float, saturation_rps: float) -> list[dict[str, float]]:
    """Latency over rate, up to saturation and a step past it, where shedding is to be seen, not refused."""
    curve = []
    for share in (0.25, 0.5, 0.7, 0.85, 1.0, 1.15):
        rate = round(share * saturation_rps)
        shop.stack.say(f"curve: {rate} answers/s")
        target = Target("answers", f"{shop.stack.url}/v1/recommendations", str(asks), rate, DEGRADED)
        report = generate(_spec([target], seconds, 1.0, rate), shop.path)
        answers = report.targets["answers"]
        errors, degraded = sum(answers.errors.values()), answers.marks["degraded"] / max(answers.answered, 1)
        curve.append({"rate": rate, **figures(answers), "errors": errors, "degraded_share": degraded})
    return curve


def _spec(targets: list[Target], seconds: float, warmup_s: float, seed: int, *, closed: bool = False) -> Spec:
    return Spec(
        targets=targets, seconds=seconds, warmup_s=warmup_s, closed=closed, connections=8, cpu=OTHER_CORE, seed=seed
    )


def _judge(verdict: Verdict, report: Report, full_speed: Report, who: list[str]) -> None:
    verdict.check_lag(report.lag_ms["p99"])
    for what, run in (("open loop", report), ("saturation", full_speed)):
        answers = run.targets["answers"]
        verdict.check_answers(what, answers.answered, answers.errors, answers.marks["degraded"])
    floor = report.targets["floor"]
    verdict.check_answers("floor", floor.answered, floor.errors, 0)
    verdict.check_customers(len(set(who[: report.targets["answers"].planned])))


def _figures(
    report: Report, full_speed: Report, parts: dict[str, Any], cpu: dict[str, float], cores: dict[str, float],
    api: list[str], size: Size,
) -> dict[str, Any]:  # fmt: skip
    answers, floor = report.targets["answers"], report.targets["floor"]
    quick = full_speed.targets["answers"]
    answered = max(answers.answered, 1)
    cpu_ms = 1000 * sum(cpu[name] for name in api) / answered
    floor_cpu_ms = 1000 * cpu["floor"] / max(floor.answered, 1)
    return {
        "saturation_rps": round(quick.answered / full_speed.seconds, 1),
        "open_loop": {
            "rate": size.rate,
            "achieved_rate": round(answers.answered / report.seconds, 1),
            **figures(answers),
            "samples": answers.answered,
            "errors": sum(answers.errors.values()),
            "degraded_share": answers.marks["degraded"] / answered,
            "lag_p99_ms": report.lag_ms["p99"],
            "seconds_p99_ms": answers.seconds_p99_ms,
        },
        "cpu_ms_per_answer": round(cpu_ms, 3),
        "floor_cpu_ms": round(floor_cpu_ms, 3),
        "ratio_cpu": round(cpu_ms / floor_cpu_ms, 3),
        "floor_p50_ms": floor.latency_ms["p50"],
        "floor_p99_ms": floor.latency_ms["p99"],
        "ratio_p50": round(answers.latency_ms["p50"] / max(floor.latency_ms["p50"], 1e-3), 3),
        "floor_parts": parts,
        "cores": cores,
    }
