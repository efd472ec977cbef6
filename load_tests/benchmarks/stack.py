"""The stack that is measured: `kairos up` on a scratch directory, filled, and taken down. Room: load_tests.

Only the network and the command line: what runs is read from `stack.json` and from `kairos status`.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from load_tests.benchmarks.processes import BenchmarkError, Child, kairos, module, wait_until
from load_tests.http_client import Client
from load_tests.prepare import load_catalogue, send_events
from load_tests.simulator.wire import encode_json
from load_tests.simulator.world import World

#: Runs a command without the caller's own settings: what is measured is stated by the benchmark alone.
UNSET: Final = ("env", *(f"--unset=KAIROS_{name}" for name in (
    "SECRET_KEY", "STORE_URL", "LOG_URL", "HOST", "API_WORKERS", "FLOW_PROCESSES", "PARTITIONS",
)))  # fmt: skip

Say = Callable[[str], None]


class Stack:
    """A running stack."""

    def __init__(self, directory: Path, up: Child, say: Say) -> None:
        self.directory, self.up, self.say = directory, up, say
        found = self._file()
        self.url: str = found["url"]
        self.store_url: str = found["store_url"]
        self.log_url: str = found["log_url"]
        self.key = (directory / "secret.key").read_text().strip()

    def _file(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.json.decode((self.directory / "stack.json").read_bytes())
        return found

    def pids(self) -> dict[str, int]:
        """Return the process of each part."""
        return {part["name"]: part["pid"] for part in self._file()["parts"] if part["pid"]}

    def last_words(self) -> dict[str, str]:
        """Return the end of each part's log, for a run that went wrong."""
        logs = sorted((self.directory / "logs").glob("*.log"))
        return {log.stem: log.read_text(errors="replace")[-600:] for log in logs}

    def status(self) -> dict[str, Any]:
        """Return what `kairos status` says."""
        command = kairos("status", "--data-dir", str(self.directory), "--json")
        answer = subprocess.run(command, capture_output=True, timeout=60, check=False)
        if answer.returncode:
            raise BenchmarkError(f"kairos status: {answer.stderr.decode()[-500:]}")
        found: dict[str, Any] = msgspec.json.decode(answer.stdout)
        return found

    def wait_for_flows(self, seconds: float = 120.0) -> dict[str, Any]:
        """Wait until all that is in the log is in the state; return the account."""
        end = time.monotonic() + seconds
        while any((found := self.status())["lag"].values()):
            self.up.check()
            if time.monotonic() > end:
                raise BenchmarkError(f"the flows are still behind after {seconds:.0f} s: {found['lag']}")
        account: dict[str, Any] = found["account"]
        return account

    def wait_for_model(self, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until answers name a model; return it."""
        ask = encode_json({"placement": "home", "customer_id": "c0000000"})
        model: dict[str, Any] = {}

        def named() -> bool:
            answer = asyncio.run(_once(self.url, ask)).json()
            model.update(answer.get("model") or {})
            return bool(model)

        wait_until(named, seconds=seconds, what="a model in the answers", children=[self.up])
        return model


async def _once(url: str, ask: bytes) -> Any:
    client = Client(url)
    try:
        return await client.send("/v1/recommendations", ask)
    finally:
        await client.close()


@contextmanager
def running(directory: Path, say: Say, *, flows: int = 1) -> Iterator[Stack]:
    """Start a stack on a directory, and stop it."""
    say("starting the stack")
    command = kairos("up", "--data-dir", str(directory), "--port", "0", "--flow-processes", str(flows))
    up = Child("kairos up", [*UNSET, *command], directory.parent / "up.log")
    try:
        wait_until(lambda: b"kairos is ready" in up.output.read_bytes(), seconds=90, what="the stack", children=[up])
        yield Stack(directory, up, say)
    finally:
        up.stop(signal.SIGTERM, timeout_s=30)


class Shop(NamedTuple):
    """A stack with a catalogue and a model of a world."""

    stack: Stack
    world: World
    path: Path  # for scratch files
    trained: dict[str, Any]  # what `kairos train` reports
    model: dict[str, Any]  # what answers name


def opened(stack: Stack, path: Path, *, items: int, customers: int, sessions: int, budget: str) -> Shop:
    """Train on the past of a world and load its catalogue."""
    world = World(items=items, customers=customers, seed=1)
    trained = train(stack, world, path, sessions=sessions, budget=budget)
    fill(stack, world)
    stack.wait_for_flows()
    return Shop(stack, world, path, trained, stack.wait_for_model())


def train(stack: Stack, world: World, path: Path, *, sessions: int, budget: str) -> dict[str, Any]:
    """Make a past of so many sessions, train on it, activate the model; return the training's report."""
    stack.say(f"a past of {sessions:,} sessions")
    size = (str(world.catalogue.items), str(world.customers.count), str(world.seed))
    makers, tables = [], []
    for half in (1, 2):
        tables.append(path / f"past-{half}.parquet")
        arguments = (str(tables[-1]), *size, str(half), str(sessions // 20), str(int(half == 1)))
        makers.append(Child("past", module("load_tests.simulator.history", *arguments), path / "past.log", piped=True))
    for maker in makers:
        maker.result(600)
    stack.say("training")
    sources = [word for table in tables for word in ("--from", str(table))]
    command = kairos("train", *sources, "--data-dir", str(stack.directory), "--activate", "--budget", budget, "--json")
    trainer = Child("kairos train", command, path / "train.log", piped=True)
    report: dict[str, Any] = msgspec.json.decode(trainer.result(900))
    return report


def fill(stack: Stack, world: World) -> None:
    """Load the world's catalogue."""
    stack.say(f"a catalogue of {world.catalogue.items:,} items")
    asyncio.run(load_catalogue(stack.url, world.catalogue, key=stack.key))


def bring_customers(stack: Stack, world: World, *, customers: int, views: int = 3) -> None:
    """Give the first customers of the world a session of the last ten minutes."""
    stack.say(f"{customers:,} customers with a live session")
    now_ms = int(1000 * time.time())

    def events() -> Iterator[dict[str, Any]]:
        from load_tests.simulator.dice import Dice
        from load_tests.simulator.shopping import Plan, shop
        from load_tests.simulator.wire import stamp

        for row in range(customers):
            dice = Dice(world.seed, 41, row)
            at_ms = now_ms - 600_000 + dice.below(400_000)
            for step, _ in zip(shop(world, Plan(row, row, "shopper", False), dice), range(views), strict=False):
                at_ms += int(min(30.0, step.pause_s) * 1000)
                yield stamp(step.event, at_ms, dice)

    asyncio.run(send_events(stack.url, events()))
