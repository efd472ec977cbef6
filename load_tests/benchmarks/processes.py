"""Processes of a benchmark: they cannot outlive it, can be pinned, and their CPU time is read. Room: load_tests."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_libc: Final = ctypes.CDLL(None)

#: Makes the command of a state store from its data directory and its socket.
StoreCommand = Callable[[Path, Path], Sequence[str]]


class BenchmarkError(Exception):
    """A benchmark could not be run; the message says what failed."""


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One process, its output in a file.

    Parameters
    ----------
    name
        Of the part, for messages and `cores_used`.
    command
        Program and arguments.
    output
        File for what it writes to stderr, and to stdout if that is not `piped`.
    """

    def __init__(self, name: str, command: Sequence[str], output: Path, *, piped: bool = False) -> None:
        self.name, self.output = name, output
        with output.open("ab") as sink:
            self.popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else sink,
                stderr=sink,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.pid = self.popen.pid

    def check(self) -> None:
        """Raise if it has ended."""
        if self.popen.poll() is not None:
            raise BenchmarkError(f"{self.name} ended with {self.popen.returncode}: {self.tail()}")

    def tail(self) -> str:
        """Return the end of its output."""
        return self.output.read_text(errors="replace")[-1500:].strip()

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = 15.0) -> None:
        """End it, first politely."""
        if self.popen.poll() is None:
            self.send_signal(signal.SIGCONT)
            self.send_signal(number)
            try:
                self.popen.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()

    def result(self, timeout_s: float) -> bytes:
        """Wait for its end and return what it printed."""
        try:
            printed, _ = self.popen.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.stop(signal.SIGKILL)
            raise BenchmarkError(f"{self.name} did not end within {timeout_s:.0f} s: {self.tail()}") from None
        if self.popen.returncode:
            raise BenchmarkError(f"{self.name} ended with {self.popen.returncode}: {self.tail()}")
        return printed


def kairos(*arguments: str) -> list[str]:
    """Return the command line of a `kairos` command of this installation."""
    return [sys.executable, "-P", "-m", "cli", *arguments]


def module(name: str, *arguments: str) -> list[str]:
    """Return the command line of a module of this installation."""
    return [sys.executable, "-P", "-m", name, *arguments]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory whose path is short enough for a socket, and remove it."""
    path = Path(tempfile.mkdtemp(prefix="kb-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def wait_until(true: Callable[[], bool], *, seconds: float, what: str, children: Iterable[Child] = ()) -> None:
    """Wait until something holds.

    Raises
    ------
    BenchmarkError
        It did not within `seconds`, or a child ended.
    """
    watched, end = list(children), time.monotonic() + seconds
    while not true():
        for child in watched:
            child.check()
        if time.monotonic() > end:
            tails = "; ".join(f"{child.name}: {child.tail()[-300:]}" for child in watched)
            raise BenchmarkError(f"{what}: not within {seconds:.0f} s ({tails})")
        time.sleep(0.01)


def cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def pin(pid: int, cores: set[int]) -> None:
    """Keep a process and its threads on some cores, as far as the machine has them."""
    usable = cores & os.sched_getaffinity(0) or os.sched_getaffinity(0)
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), usable)


def machine_cpu_s() -> float:
    """Return the CPU seconds that the whole machine has been busy."""
    user, nice, system, _idle, _wait, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / _TICKS


class CoresUsed:
    """CPU seconds a second of some processes between two moments, and of the rest of the machine as ``others``."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._before = {name: cpu_s(pid) for name, pid in pids.items()}
        self._busy = machine_cpu_s()
        self._began = time.monotonic()

    def seconds(self) -> dict[str, float]:
        """Return the CPU seconds since then, by name."""
        return {name: cpu_s(pid) - self._before[name] for name, pid in self._pids.items()}

    def cores(self) -> dict[str, float]:
        """Return the cores in use since then, by name."""
        took = max(time.monotonic() - self._began, 1e-9)
        used = self.seconds()
        used["others"] = machine_cpu_s() - self._busy - sum(used.values())
        return {name: seconds / took for name, seconds in used.items()}
