"""The demo's own stack: `kairos up` and `kairos train` as child processes that cannot outlive it. Room: cli."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from cli.parts import describe_exit, dies_with, environment
from cli.stack import kairos
from events.errors import KairosError

_GRACE_S: Final = 30.0
#: The demo brings its own store and log, whatever the shell says.
_OWN: Final = {"KAIROS_STORE_URL": "", "KAIROS_LOG_URL": "", "KAIROS_PARTITIONS": "", "PYTHONUNBUFFERED": "1"}


class DemoError(KairosError):
    """The demo's stack or training failed; the message holds its last words."""


class TrainedModel(msgspec.Struct):
    """What `kairos train --json` says that the demo shows."""

    name: str
    version: str
    items: int
    sessions: int
    seconds: float


class UpProcess:
    """`kairos up` as a child: its ready line, its other lines, its clean stop."""

    def __init__(self, process: asyncio.subprocess.Process, say: Callable[[str], None]) -> None:
        self._process = process
        self._say = say
        self._last = ""
        self.ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        """Read its lines until it ends."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        while line := (await self._process.stdout.readline()).decode().strip():
            self._last = line.removeprefix("kairos: ")
            if found := re.match(r"kairos is ready at (\S+)", line):
                self.ready.set_result(found[1])
            else:
                self._say(self._last)
        code = await self._process.wait()
        if not self.ready.done():
            self.ready.set_exception(DemoError(f"the stack did not start ({describe_exit(code)}): {self._last}"))

    async def stop(self) -> None:
        """Stop it and all its parts."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), _GRACE_S)
        except TimeoutError:
            os.killpg(self._process.pid, signal.SIGKILL)  # its parts die with it
            await self._process.wait()
        await asyncio.gather(self.ended, return_exceptions=True)
        self.ready.cancel()


@contextlib.asynccontextmanager
async def running(options: Sequence[str], say: Callable[[str], None]) -> AsyncIterator[UpProcess]:
    """Start `kairos up`; at the end it is stopped, however we end."""
    process = await _start(kairos("up", *options), signal.SIGTERM, asyncio.subprocess.STDOUT)
    up = UpProcess(process, say)
    try:
        yield up
    finally:
        await up.stop()


async def train(tables: Sequence[Path], data_dir: Path, *, budget: str) -> TrainedModel:
    """Train and activate a model with `kairos train`.

    Raises
    ------
    DemoError
        It failed; the message holds its last words.
    """
    sources = [word for table in tables for word in ("--from", str(table))]
    command = kairos("train", *sources, "--data-dir", str(data_dir), "--activate", "--budget", budget, "--json")
    process = await _start(command, signal.SIGKILL, asyncio.subprocess.PIPE)
    try:
        answer, words = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode:
        last = (words.decode(errors="replace").strip().splitlines() or [""])[-1]
        raise DemoError(f"training failed ({describe_exit(process.returncode)}): {last}")
    return msgspec.json.decode(answer, type=TrainedModel)


async def _start(command: Sequence[str], death_signal: signal.Signals, stderr: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        env=environment({**_OWN, "OMP_WAIT_POLICY": "PASSIVE"}),
        process_group=0,  # Ctrl-C is ours to hand on
        preexec_fn=dies_with(os.getpid(), death_signal),
    )
