"""The local supervisor: starts parts stage by stage, restarts one that dies, stops all in the reverse order. Room: cli.

`kairos up` calls; asyncio, one task a part. It knows processes only: what the parts are and when the stack as a whole
is ready is said in `cli.up`. Nothing here reads settings or talks to a store.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from cli.parts import Identity, Part, describe_exit, identity, last_line, start
from events.errors import KairosError

_GRACE_S: Final = 10.0  # from SIGTERM to SIGKILL
_STEADY_S: Final = 10.0  # who lived this long starts a new count of failures
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 5.0
_TRIES: Final = 3  # of a part that has never run steadily, while the stack starts


class Row(msgspec.Struct):
    """What is known of a part: the row of `stack.json` and of `kairos status`."""

    name: str
    pid: int = 0
    birth: int = 0
    state: str = "waiting"  # waiting, starting, ready, restarting, stopped
    started: int = 0  # ms since the epoch
    restarts: int = 0


class PartError(KairosError):
    """A part that cannot start; the message holds its last words."""


class Supervisor:
    """Keeps parts running.

    Parameters
    ----------
    logs
        Directory of ``<name>.log``.
    say
        Called with one line when something happened that the operator should know.
    changed
        Called whenever a row changed.
    hurry
        Once set, a stop kills instead of asking.
    """

    def __init__(
        self, logs: Path, say: Callable[[str], None], changed: Callable[[], None], hurry: asyncio.Event | None = None
    ) -> None:
        self.parts: list[Part] = []
        self.rows: dict[str, Row] = {}
        self._logs = logs
        self._say = say
        self._changed = changed
        self._up: dict[str, asyncio.Event] = {}
        self._stop: dict[str, asyncio.Event] = {}
        self._hurry = hurry or asyncio.Event()
        self._settled = False
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def add(self, parts: Sequence[Part]) -> None:
        """Take in parts; those of a later stage wait until all earlier ones are ready, at a restart too."""
        for part in parts:
            self.parts.append(part)
            self.rows[part.name] = Row(part.name)
            self._up[part.name] = asyncio.Event()
            self._stop[part.name] = asyncio.Event()

    async def start(self, stages: range) -> None:
        """Start the parts of these stages and return once each is ready.

        Raises
        ------
        PartError
            One died three times before it was ready.
        """
        chosen = [part for part in self.parts if part.stage in stages]
        for part in chosen:
            self._tasks[part.name] = asyncio.create_task(self._keep(part), name=part.name)
        ready = asyncio.gather(*(self._up[part.name].wait() for part in chosen))
        try:
            await self.until(ready)
        finally:
            ready.cancel()

    async def until(self, wanted: asyncio.Future[Any]) -> None:
        """Wait for something of the start while the parts run; a part that fails for good ends the wait."""
        await asyncio.wait({wanted, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks.values():
            if task.done():
                task.result()
        await wanted

    def settle(self) -> None:
        """Say that the start is over: from now on a part is restarted however often it dies."""
        self._settled = True

    async def stop(self) -> None:
        """Stop all parts, the last stage first; returns when none is left."""
        for stage in sorted({part.stage for part in self.parts}, reverse=True):
            names = [part.name for part in self.parts if part.stage == stage and part.name in self._tasks]
            for name in names:
                self._stop[name].set()
            await asyncio.gather(*(self._tasks[name] for name in names), return_exceptions=True)

    async def _keep(self, part: Part) -> None:
        row, stop, failures = self.rows[part.name], self._stop[part.name], 0
        while not stop.is_set():
            if not await self._or_stop(part, self._earlier_ready(part)):
                break
            began = time.monotonic()
            how = await self._live(part)
            if stop.is_set():
                break
            failures = 0 if time.monotonic() - began > _STEADY_S else failures + 1
            row.restarts += 1
            self._mark(row, state="restarting")
            await self._or_stop(part, asyncio.sleep(self._judge(part, how, failures)))
        self._mark(row, state="stopped")

    async def _live(self, part: Part) -> str:
        """Start a process and see it through its life; return how it ended."""
        try:
            process = await start(part, self._log(part))
        except OSError as err:  # no memory, no descriptors, a full disk: it may pass
            return f"not started: {err.strerror}"
        self._mark(self.rows[part.name], state="starting", process=identity(process.pid) or Identity(process.pid, 0))
        code = await self._run(part, process)
        self._up[part.name].clear()
        words = last_line(self._log(part)) if code > 0 else ""
        return describe_exit(code) + (f": {words}" if words else "")

    async def _run(self, part: Part, process: asyncio.subprocess.Process) -> int:
        """See a process through its life: to its end, or to the stop."""
        ended = asyncio.create_task(process.wait())
        ready = asyncio.create_task(self._announce(part))
        stopped = asyncio.create_task(self._stop[part.name].wait())
        try:
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                await self._end(process, ended)
            return await ended
        finally:
            ready.cancel()
            stopped.cancel()

    async def _announce(self, part: Part) -> None:
        """Mark the part as ready once it is."""
        while part.ready is not None and not await part.ready():
            await asyncio.sleep(0.02)
        self._mark(self.rows[part.name], state="ready")
        self._up[part.name].set()

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        _signal(process.pid, signal.SIGTERM)
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({ended, hurry}, timeout=_GRACE_S, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not ended.done():
            _signal(process.pid, signal.SIGKILL)

    async def _earlier_ready(self, part: Part) -> None:
        for other in self.parts:
            if other.stage < part.stage:
                await self._up[other.name].wait()

    async def _or_stop(self, part: Part, wanted: Awaitable[object]) -> bool:
        """Wait for `wanted` or the stop, whichever comes first; tell whether it was `wanted`."""
        first = asyncio.ensure_future(wanted)
        stopped = asyncio.create_task(self._stop[part.name].wait())
        try:
            await asyncio.wait({first, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return first.done() and not self._stop[part.name].is_set()
        finally:
            first.cancel()
            stopped.cancel()

    def _judge(self, part: Part, how: str, failures: int) -> float:
        """Return after how many seconds to start a part again that ended this way."""
        if not self._settled and failures >= _TRIES:
            raise PartError(f"{part.name} cannot start ({how}); its log is {self._log(part)}")
        delay: float = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** max(0, failures - 1))
        self._say(f"{part.name} ended ({how}); starting it again in {delay:.1f} s")
        return delay

    def _mark(self, row: Row, *, state: str, process: Identity | None = None) -> None:
        row.state = state
        if process is not None:
            row.pid, row.birth, row.started = process.pid, process.birth, time.time_ns() // 1_000_000
        self._changed()

    def _log(self, part: Part) -> Path:
        return self._logs / f"{part.name}.log"


def _signal(pid: int, number: signal.Signals) -> None:
    """Signal a part and what it started; a group that is gone is no error."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
