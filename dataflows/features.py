"""The features flow: the log's events become customer, session and item state in Redis. Room: dataflows.

Run as ``kairos dataflow features --partitions 0-3``, several independent processes side by side, each with its own
partitions; or under ``python -m bytewax.run dataflows.features`` with the settings below, where bytewax's workers share
the partitions out. Either way the committed heads are the only positions; bytewax's recovery is not used.

A step is called once a round of partition batches, not once an event (ARCHITECTURE §3).
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any, Final

import bytewax.operators as op
import structlog
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition

from dataflows.partitions import Partitions, Work
from events.errors import KairosError
from events.log import Batch, EventLog, open_log
from feature_store.commit import Commit
from feature_store.fold import MAX_EVENTS, grouped
from feature_store.store import StateStore

CONSUMER: Final = "features"
#: Idle polling backs off from 1 to 5 ms; polling every millisecond costs 8-15 % of a core.
_IDLE_MS: Final = (1.0, 1.0, 2.0, 3.0, 5.0)
_REGISTER_EVERY_S: Final = 1.0

log = structlog.get_logger()


class _Stop:
    """Whether this process was asked to end; bytewax skips `close` on SIGTERM, so the source ends instead."""

    asked = False

    @classmethod
    def on_signals(cls) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, cls._ask)

    @classmethod
    def _ask(cls, _number: int, _frame: FrameType | None) -> None:
        cls.asked = True


class _Shared:
    """What the steps of one worker share: its log, its store and its partitions."""

    def __init__(self, log_url: str, store_url: str, owned: Sequence[int] | None) -> None:
        self.log_url, self.store_url, self.owned = log_url, store_url, owned
        self.failure: KairosError | None = None
        self.raises = True  # out of bytewax's steps; it may abort then, so `run` lets the flow end first
        self.by_worker: dict[int, tuple[EventLog, Partitions]] = {}

    def fail(self, err: KairosError) -> None:
        """Remember why the flow ends."""
        if self.raises:
            raise err
        self.failure = self.failure or err

    def open(self, worker: int, workers: int) -> tuple[EventLog, Partitions]:
        if worker not in self.by_worker:
            event_log = open_log(self.log_url)
            owned = list(range(event_log.partitions)) if self.owned is None else list(self.owned)
            partitions = Partitions(event_log, StateStore.open(self.store_url), owned[worker::workers])
            log.info("flow_started", partitions=owned[worker::workers], positions=partitions.positions)
            self.by_worker[worker] = (event_log, partitions)
        return self.by_worker[worker]


class _Rounds(StatelessSourcePartition[tuple[int, Work]]):
    """Polls the log for all partitions of a worker at once, decodes, and asks for the values that are missing.

    While there is a backlog the next round is asked for before this one is folded, so the server works meanwhile.
    """

    def __init__(self, shared: _Shared, worker: int, workers: int) -> None:
        self._shared = shared
        self._worker = worker
        self._log, self._partitions = shared.open(worker, workers)
        self._after = dict(self._partitions.positions)
        self._groups: deque[list[Batch]] = deque()
        self._next: Work | None = None
        self._behind = False
        self._idle = 0
        self._awake: datetime | None = None
        self._registered = 0.0

    def next_batch(self) -> list[tuple[int, Work]]:
        if _Stop.asked or self._shared.failure is not None:
            raise StopIteration
        try:
            work = self._next or self._prepared()
            if work is None:
                self._rest()
                return []
            self._idle, self._awake = 0, None
            self._next = self._prepared() if self._groups or self._behind else None
        except KairosError as err:
            self._shared.fail(err)
            raise StopIteration from err
        return [(self._worker, work)]

    def next_awake(self) -> datetime | None:
        return self._awake

    def close(self) -> None:
        if self._shared.failure is not None:
            return
        self._partitions.settle()
        self._log.register(CONSUMER, self._partitions.positions)
        self._log.close()
        log.info("flow_stopped", positions=self._partitions.positions)

    def _prepared(self) -> Work | None:
        if not self._groups:
            self._poll()
        return self._partitions.prepare(self._groups.popleft()) if self._groups else None

    def _poll(self) -> None:
        batches = self._log.read(self._after, limit=MAX_EVENTS) if self._after else []
        self._behind = any(len(batch.positions) >= MAX_EVENTS for batch in batches)
        for batch in batches:
            self._after[batch.partition] = batch.positions[-1]
        if batches:
            self._groups.extend(grouped(batches))
            self._register(time.monotonic())

    def _rest(self) -> None:
        self._partitions.settle()
        self._register(time.monotonic())
        self._awake = datetime.now(UTC) + timedelta(milliseconds=_IDLE_MS[min(self._idle, len(_IDLE_MS) - 1)])
        self._idle += 1

    def _register(self, now_s: float) -> None:
        """Tell the log now and then how far the commits have come, so that trimming may follow."""
        if now_s - self._registered > _REGISTER_EVERY_S:
            self._registered = now_s
            self._partitions.settle()
            self._log.register(CONSUMER, self._partitions.positions)


class LogSource(DynamicSource[tuple[int, Work]]):
    """Rounds, decoded: ``(worker, work)``."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Rounds:  # noqa: ARG002
        return _Rounds(self._shared, worker_index, worker_count)


class _Committer(StatelessSinkPartition[tuple[int, list[Commit]]]):
    def __init__(self, shared: _Shared, partitions: Partitions) -> None:
        self._shared = shared
        self._partitions = partitions

    def write_batch(self, items: list[tuple[int, list[Commit]]]) -> None:
        for _, commits in items:
            if self._shared.failure is None:
                try:
                    self._partitions.commit(commits)
                except KairosError as err:
                    self._shared.fail(err)


class CommitSink(DynamicSink[tuple[int, list[Commit]]]):
    """Commits each round."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared

    def build(self, step_id: str, worker_index: int, worker_count: int) -> _Committer:  # noqa: ARG002
        return _Committer(self._shared, self._shared.open(worker_index, worker_count)[1])


def build_flow(log_url: str, store_url: str, partitions: Sequence[int] | None = None) -> Dataflow:
    """Return the flow: read, decode and ask → fold → commit. `partitions` defaults to all of the log's."""
    return _flow(_Shared(log_url, store_url, partitions))


def _flow(shared: _Shared) -> Dataflow:
    def advance(prepared: tuple[int, Work]) -> tuple[int, list[Commit]]:
        worker, work = prepared
        if shared.failure is None:
            try:
                return worker, shared.by_worker[worker][1].advance(work)
            except KairosError as err:
                shared.fail(err)
        return worker, []

    flow = Dataflow("features")
    rounds: Any = op.input("log", flow, LogSource(shared))
    commits: Any = op.map("fold", rounds, advance)
    op.output("commit", commits, CommitSink(shared))
    return flow


def run(log_url: str, store_url: str, partitions: Sequence[int] | None = None) -> None:
    """Run the flow in this process until SIGTERM or SIGINT, then settle and return.

    Raises
    ------
    LogError, StoreError
        The log or the store cannot serve, a position is lost, or another owner committed (`Fenced`).
    """
    from bytewax._bytewax import cli_main

    _Stop.on_signals()
    shared = _Shared(log_url, store_url, partitions)
    shared.raises = False
    shared.open(0, 1)  # what is refused is refused before bytewax starts
    flow = _flow(shared)
    os.nice(5)  # on one processor with the store, the store answers first: the API waits for it
    gc.freeze()
    gc.disable()  # state is trees of plain values: nothing here makes cycles
    cli_main(flow)  # type: ignore[no-untyped-call]
    if shared.failure is not None:
        raise shared.failure


def __getattr__(name: str) -> Any:
    """Make `flow` for ``python -m bytewax.run dataflows.features``, from KAIROS_LOG_URL and KAIROS_STORE_URL."""
    if name == "flow":
        return build_flow(os.environ["KAIROS_LOG_URL"], os.environ["KAIROS_STORE_URL"])
    raise AttributeError(name)
