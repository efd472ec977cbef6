"""A storefront's probe: click, then ask for the slate that the click changes. Room: load_tests.

    python -m load_tests.benchmarks.clicks URL ITEMS RATE SECONDS

On a fixed schedule a customer's view of an item is sent to `POST /v1/events`, then a slate is asked for with the token
of that event; latency from the planned time until the answer that reflects it. Prints `Clicks` as JSON. Called by
`load_tests.benchmarks.freshness`.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import time
from typing import Final

import msgspec

from load_tests import priority
from load_tests.histogram import Latencies
from load_tests.http_client import Client
from load_tests.simulator.dice import Dice
from load_tests.simulator.wire import encode_json, stamp

WAIT_MS: Final = 1_000  # how long an answer may wait for its click
CLICKS: Final = 8  # of each customer


class Clicks(msgspec.Struct):
    """What the probe saw."""

    latency_ms: dict[str, float]
    lag_ms: dict[str, float]
    answers: int
    stale: int
    degraded: int
    compared: int  # with the same customer's slate before
    changed: int  # of these
    errors: dict[str, int]


class _Clicker:
    """Clicks of a few hundred customers, in turn."""

    def __init__(self, client: Client, items: int, customers: int) -> None:
        self._client, self._items, self._customers = client, items, customers
        self._dice = Dice(51, time.time_ns() % (1 << 40))
        self._slates: dict[str, list[str]] = {}
        self.latencies, self.lag = Latencies(), Latencies()
        self.answers = self.stale = self.degraded = self.compared = self.changed = 0
        self.errors: dict[str, int] = {}

    async def click(self, number: int, planned: float) -> None:
        """View an item, ask with the token, compare with the slate before."""
        customer_id = f"clicker-{number % self._customers}"
        item = {"item_id": f"i{self._dice.below(self._items):06d}"}
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
        before, self._slates[customer_id] = self._slates.get(customer_id), items
        if before is not None:
            self.compared += 1
            self.changed += items != before
        return None

    def _fail(self, kind: str) -> None:
        self.errors[kind] = self.errors.get(kind, 0) + 1


async def run(url: str, items: int, rate: float, seconds: float) -> Clicks:
    """Click and ask on a schedule."""
    client = Client(url, connections=64)
    probe = _Clicker(client, items, max(1, int(rate * seconds) // CLICKS))
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
    return Clicks(
        latency_ms=probe.latencies.summary(),
        lag_ms=probe.lag.summary(),
        answers=probe.answers,
        stale=probe.stale,
        degraded=probe.degraded,
        compared=probe.compared,
        changed=probe.changed,
        errors=probe.errors,
    )


def main(url: str, items: int, rate: float, seconds: float) -> None:
    """Probe for so long."""
    priority.take()
    # On `select`, whose timers are exact to microseconds; epoll's are to milliseconds.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        clicks = runner.run(run(url, items, rate, seconds))
    sys.stdout.buffer.write(msgspec.json.encode(clicks) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4]))
