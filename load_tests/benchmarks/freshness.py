"""`kairos bench freshness`: how long a click takes to the state, and to the next answer, under load. Room: load_tests.

Two probes at a fixed rate while events of many customers are appended: one appends an event and polls Redis until its
partition's commit holds it (`load_tests.floors.probe`); one does what a storefront does: POST the click, then ask for a
slate with the token of that click, and counts until the answer reflects it, and whether the slate changed.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from load_tests.benchmarks import stack as stacks
from load_tests.benchmarks.facts import Verdict, facts
from load_tests.benchmarks.generator import background
from load_tests.benchmarks.processes import Child, CoresUsed, module, scratch
from load_tests.histogram import Latencies
from load_tests.http_client import Client
from load_tests.simulator.dice import Dice
from load_tests.simulator.wire import encode_json, stamp
from load_tests.simulator.world import World

WAIT_MS: Final = 1_000  # how long an answer may wait for its click
CUSTOMERS: Final = 60_000  # of the background
PROBED: Final = 500  # customers that click

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


class Clicks(NamedTuple):
    """What the storefront's probe saw."""

    latencies: Latencies
    lag: Latencies
    answers: int
    stale: int
    degraded: int
    changed: int
    errors: dict[str, int]


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
        return measured(shop, size, full=full)


def measured(shop: stacks.Shop, size: Size, *, full: bool) -> dict[str, Any]:
    """Measure on a stack that is ready; return the report."""
    verdict = Verdict()
    shop.stack.say(f"probing for {size.seconds:.0f} s beside {size.rate:.0f} events/s")
    clicks, state, cores = _probe(shop.stack, shop.world, size, shop.path)
    account = shop.stack.wait_for_flows()
    _judge(verdict, clicks, state, account)
    figures = {
        "rate": size.rate,
        "append_to_redis_ms": state["append_to_redis_ms"],
        "event_to_answer_ms": clicks.latencies.summary(),
        "answers": clicks.answers,
        "changed_share": clicks.changed / max(clicks.answers, 1),
        "stale": clicks.stale,
        "lag_p99_ms": {"state": state["lag_ms"]["p99"], "answers": clicks.lag.ms(99)},
    }
    settings = {
        **size._asdict(), "wait_ms": WAIT_MS, "customers": account["customers"], "model": shop.model, "pinned": False,
        "training": shop.trained["metrics"], "background": "appended to the log", "full": full,
    }  # fmt: skip
    return verdict.report("freshness", figures, facts(settings, cores))


def _judge(verdict: Verdict, clicks: Clicks, state: dict[str, Any], account: dict[str, Any]) -> None:
    verdict.check_answers("clicks", clicks.answers, clicks.errors, clicks.degraded)
    verdict.check_customers(account["customers"])
    verdict.check_lag(state["lag_ms"]["p99"])
    verdict.check_lag(clicks.lag.ms(99))
    verdict.refuse_if(bool(clicks.stale), f"{clicks.stale} answers did not reflect their click within {WAIT_MS} ms")
    lost = {name: account[name] for name in ("dead_lettered", "duplicates") if account[name]}
    verdict.refuse_if(bool(lost), f"events were not applied: {lost}")


def _probe(
    stack: stacks.Stack, world: World, size: Size, path: Path
) -> tuple[Clicks, dict[str, Any], dict[str, float]]:
    seconds = size.warmup_s + size.seconds
    writing = background(stack.log_url, path, rate=size.rate, seconds=seconds + 1, customers=CUSTOMERS)
    children = [writing]
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -15)  # the probes' own waiting for a core is not freshness
    try:
        with asyncio.Runner(loop_factory=_precise_loop) as runner:
            runner.run(_click(stack.url, world, size.probes, size.warmup_s))  # connections, caches: not counted
            used = CoresUsed({**stack.pids(), "background": writing.pid})
            arguments = (stack.log_url, stack.store_url, str(size.probes), str(size.seconds))
            probe = Child("probe", module("load_tests.floors.probe", *arguments), path / "probe.log", piped=True)
            children.append(probe)
            clicks = runner.run(_click(stack.url, world, size.probes, size.seconds))
            cores = used.cores()
        state = msgspec.json.decode(probe.result(60))
        writing.result(60)
    finally:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
        for child in children:
            child.stop()
    return clicks, state, cores


def _precise_loop() -> asyncio.AbstractEventLoop:
    """Return a loop on `select`, whose timers are exact to microseconds; epoll's are to milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _click(url: str, world: World, rate: float, seconds: float) -> Clicks:
    """Click and ask on a schedule."""
    client = Client(url, connections=64)
    probe = _Clicker(client, world)
    tasks = []
    start = time.monotonic() + 0.01
    try:
        for number in range(int(rate * seconds)):
            planned = start + number / rate
            await asyncio.sleep(max(0.0, planned - time.monotonic()))
            probe.lag.record_ns(int(1e9 * max(0.0, time.monotonic() - planned)))
            tasks.append(asyncio.create_task(probe.click(number, planned)))
        await asyncio.gather(*tasks)
    finally:
        await client.close()
    return Clicks(probe.latencies, probe.lag, probe.answers, probe.stale, probe.degraded, probe.changed, probe.errors)


class _Clicker:
    """Clicks of a few hundred customers, in turn."""

    def __init__(self, client: Client, world: World) -> None:
        self._client, self._world = client, world
        self._dice = Dice(world.seed, 51, time.time_ns() % (1 << 40))
        self._slates: dict[str, list[str]] = {}
        self.latencies, self.lag = Latencies(), Latencies()
        self.answers = self.stale = self.degraded = self.changed = 0
        self.errors: dict[str, int] = {}

    async def click(self, number: int, planned: float) -> None:
        """View an item, ask with the token, compare with the slate before."""
        customer_id = f"clicker-{number % PROBED}"
        row = self._dice.below(self._world.catalogue.items)
        item = {"item_id": self._world.catalogue.item_id(row)}
        event = {"event": "view_item", "customer_id": customer_id, "items": [item]}
        try:
            sent = await self._client.send("/v1/events", encode_json(stamp(event, int(1000 * time.time()), self._dice)))
            if sent.status != 202:
                return self._fail(str(sent.status))
            after = sent.json()["accepted"][0]["after"]
            ask = {"placement": "home", "customer_id": customer_id, "limit": 12, "after": after, "wait_ms": WAIT_MS}
            answer = await self._client.send("/v1/recommendations", encode_json(ask))
        except OSError as err:
            return self._fail(type(err).__name__)
        ended = time.monotonic()
        if answer.status != 200:
            return self._fail(str(answer.status))
        slate = answer.json()
        self.answers += 1
        self.degraded += slate.get("degraded") is not None
        if slate.get("consistency") == "stale":
            self.stale += 1
        else:
            self.latencies.record_ns(int(1e9 * (ended - planned)))
        items = [item["item_id"] for item in slate["items"]]
        self.changed += items != self._slates.get(customer_id)
        self._slates[customer_id] = items
        return None

    def _fail(self, kind: str) -> None:
        self.errors[kind] = self.errors.get(kind, 0) + 1
