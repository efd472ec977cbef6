"""`kairos bench freshness`: how long a click takes to the state, and to the next answer, under load. Room: load_tests.

Two probes at a fixed rate while events of many customers are appended: one appends an event and polls Redis until its
partition's commit holds it (`load_tests.floors.probe`); one does what a storefront does: POST the click, then ask for a
slate with the token of that click, and counts until the answer reflects it, and whether the slate changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from load_tests.benchmarks import stack as stacks
from load_tests.benchmarks.clicks import WAIT_MS, Clicks
from load_tests.benchmarks.facts import Verdict, facts
from load_tests.benchmarks.generator import background
from load_tests.benchmarks.processes import Child, CoresUsed, module, scratch
from load_tests.simulator.world import World

CUSTOMERS: Final = 60_000  # of the background

Say = Callable[[str], None]


class Size(NamedTuple):
    """How much of it."""

    items: int = 10_000
    sessions: int = 8_000
    rate: float = 5_000.0  # events a second in the background
    probes: float = 50.0  # a second, of each kind
    warmup_s: float = 5.0
    seconds: float = 60.0
    budget: str = "5s"  # of training


FULL: Final = Size(items=100_000, sessions=400_000, probes=170.0, warmup_s=30.0, seconds=600.0, budget="10m")


def measure(*, full: bool, say: Say, size: Size | None = None) -> dict[str, Any]:
    """Run the benchmark; return its JSON object.

    Raises
    ------
    BenchmarkError
        A process ended or did not come up.
    """
    size = size or (FULL if full else Size())
    with scratch() as path, stacks.running(path / "data", say) as stack:
        shop = stacks.opened(
            stack, path, items=size.items, customers=50_000, sessions=size.sessions, budget=size.budget
        )
        report = measured(shop, size, full=full)
        if only_late(report):
            say("again: " + report["why"][0])
            report = {**measured(shop, size, full=full), "attempts": 2}
        return report


def only_late(report: dict[str, Any]) -> bool:
    """Tell whether a run gave no figure for no other reason than a generator that the machine kept waiting."""
    reasons = report.get("why", ())
    return bool(reasons) and all("scheduling lag" in reason for reason in reasons)


def measured(shop: stacks.Shop, size: Size, *, full: bool) -> dict[str, Any]:
    """Measure on a stack that is ready; return the report."""
    verdict = Verdict()
    shop.stack.say(f"probing for {size.seconds:.0f} s beside {size.rate:.0f} events/s")
    clicks, state, cores = _probe(shop.stack, shop.world, size, shop.path, verdict)
    account = shop.stack.wait_for_flows()
    _judge(verdict, clicks, state, account)
    figures = {
        "rate": size.rate,
        "append_to_redis_ms": state["append_to_redis_ms"],
        "event_to_answer_ms": clicks.latency_ms,
        "answers": clicks.answers,
        "changed_share": clicks.changed / max(clicks.compared, 1),
        "stale": clicks.stale,
        "lag_p99_ms": {"state": state["lag_ms"]["p99"], "answers": clicks.lag_ms["p99"]},
    }
    settings = {
        **size._asdict(), "wait_ms": WAIT_MS, "customers": account["customers"], "model": shop.model, "pinned": False,
        "training": shop.trained["metrics"], "background": "appended to the log", "full": full,
    }  # fmt: skip
    context = facts(settings, cores)
    if verdict.reasons:
        context["logs"] = shop.stack.last_words()
    return verdict.report("freshness", figures, context)


def _judge(verdict: Verdict, clicks: Clicks, state: dict[str, Any], account: dict[str, Any]) -> None:
    verdict.check_answers("clicks", clicks.answers, clicks.errors, clicks.degraded)
    verdict.check_customers(account["customers"])
    verdict.check_lag(state["lag_ms"]["p99"])
    verdict.check_lag(clicks.lag_ms["p99"])
    verdict.refuse_if(bool(clicks.stale), f"{clicks.stale} answers did not reflect their click within {WAIT_MS} ms")
    lost = {name: account[name] for name in ("dead_lettered", "duplicates") if account[name]}
    verdict.refuse_if(bool(lost), f"events were not applied: {lost}")


def _probe(
    stack: stacks.Stack, world: World, size: Size, path: Path, verdict: Verdict
) -> tuple[Clicks, dict[str, Any], dict[str, float]]:
    """Run both probes beside the background."""
    children = [
        background(stack.log_url, path, rate=size.rate, seconds=size.warmup_s + size.seconds + 5, customers=CUSTOMERS)
    ]

    def start(name: str, *arguments: str) -> Child:
        children.append(Child(name, module(name, *arguments), path / f"{name}.log", piped=True))
        return children[-1]

    def click(seconds: float) -> Child:
        arguments = (stack.url, str(world.catalogue.items), str(size.probes), str(seconds))
        return start("load_tests.benchmarks.clicks", *arguments)

    try:
        click(size.warmup_s).result(60 + size.warmup_s)  # connections, caches: not counted
        used = CoresUsed({**stack.pids(), "background": children[0].pid})
        clicking = click(size.seconds)
        arguments = (stack.log_url, stack.store_url, str(size.probes), str(size.seconds))
        polling = start("load_tests.floors.probe", *arguments)
        clicks = msgspec.json.decode(clicking.result(size.seconds + 90), type=Clicks)
        state = msgspec.json.decode(polling.result(size.seconds + 90))
        cores = used.cores()
        verdict.check_background(size.rate, children[0].result(60))
    finally:
        for child in children:
            child.stop()
    return clicks, state, cores
