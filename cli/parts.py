"""Processes of the local stack: what a part is, how it is started so that it cannot outlive us, how it is recognised.

Room: cli. The supervisor and `kairos status` call. Linux: start times and memory come from /proc, and every child asks
the kernel to be killed when the thread that started it dies (so children are started from the main thread only).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)
_LOG_BYTES: Final = 16 * 2**20  # a part's log is set aside once when it is longer than this at a start


@dataclass(frozen=True)
class Part:
    """How one process of the stack is started."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    pass_fds: tuple[int, ...] = ()
    stage: int = 0  # started in this order, stopped in the reverse
    ready: Callable[[], Awaitable[bool]] | None = None  # None: ready when it runs


class Identity(msgspec.Struct, frozen=True):
    """A process that cannot be confused with a later one of the same number."""

    pid: int
    birth: int  # start time in clock ticks since boot


def dies_with(parent: int, death_signal: int = signal.SIGKILL) -> Callable[[], None]:
    """Return what a child runs before its program: it ends when `parent` does, however that ends."""

    def prepare() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, death_signal)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return prepare


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return our own environment with more in it, for a child."""
    return {**os.environ, **more}


async def start(part: Part, log: Path) -> asyncio.subprocess.Process:
    """Start a part in a process group of its own, its output appended to `log`."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *part.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=environment(part.environment),
            pass_fds=part.pass_fds,
            process_group=0,
            preexec_fn=dies_with(os.getpid()),
        )


def identity(pid: int) -> Identity | None:
    """Return who runs under this number, None if nobody does (a zombie is nobody)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] in "ZX" else Identity(pid, int(fields[19]))


def is_alive(process: Identity) -> bool:
    """Tell whether this very process still runs."""
    return identity(process.pid) == process


def rss_bytes(pid: int) -> int:
    """Return resident memory, 0 if the process is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def kill_stale(processes: list[Identity]) -> list[int]:
    """Kill what an earlier supervisor left behind; return the numbers of those that still ran."""
    stale = [process for process in processes if is_alive(process)]
    for process in stale:
        os.kill(process.pid, signal.SIGKILL)
    return [process.pid for process in stale]


def describe_exit(code: int) -> str:
    """Return an exit code as people say it."""
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def last_line(log: Path) -> str:
    """Return the last words of a part, short enough for one line."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1].strip()[:300] if lines else ""
