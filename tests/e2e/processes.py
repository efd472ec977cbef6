"""Commands under test as child processes, marked so that whatever they leave behind is found."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil

MARK = "KAIROS_TEST_MARK"


class Command:
    """A running `kairos` command whose lines can be waited for."""

    def __init__(self, *words: str, stderr: int = subprocess.STDOUT, tmpdir: Path | None = None) -> None:
        self.mark = uuid.uuid4().hex
        environment = {"TMPDIR": str(tmpdir)} if tmpdir else {}
        environment |= {k: v for k, v in os.environ.items() if not k.startswith("KAIROS_") or k == "KAIROS_DATA"}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", *words],
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**environment, MARK: self.mark, "PYTHONUNBUFFERED": "1"},
            process_group=0,
        )
        self.lines: list[str] = []

    def line(self, wanted: str, *, seconds: float = 90.0) -> str:
        """Read lines until one holds `wanted`; return it."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while True:
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            raw = self.process.stdout.readline() if readable else b""
            assert raw, f"no line with {wanted!r}, but: {self.lines}"
            self.lines.append(raw.decode().rstrip("\n"))
            if wanted in self.lines[-1]:
                return self.lines[-1]

    def end(self, number: signal.Signals, *, seconds: float = 60.0) -> tuple[int, str]:
        """Signal it, wait; return its exit code and all that it printed on stdout."""
        self.process.send_signal(number)
        return self.wait(seconds=seconds)

    def wait(self, *, seconds: float = 120.0) -> tuple[int, str]:
        """Wait for its end; return its exit code and all that it printed on stdout."""
        rest, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, "\n".join([*self.lines, rest.decode()])

    def children(self) -> list[psutil.Process]:
        """Return all living processes that descend from it, however far, its own left out."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.pid != self.process.pid and process.environ().get(MARK) == self.mark:
                    found.append(process)
        return found

    def close(self) -> None:
        """End it and what it left, so that a failed test leaves nothing."""
        for process in [*self.children(), self.process]:
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
            self.process.communicate(timeout=10)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "cli", *words], capture_output=True, text=True, timeout=120, check=False
    )


def status(data_dir: object) -> dict[str, Any]:
    """Return `kairos status --json`."""
    answer = run("status", "--data-dir", str(data_dir), "--json")
    assert answer.returncode == 0, answer.stderr
    return msgspec.json.decode(answer.stdout, type=dict[str, Any])


def until(condition: Callable[[], Any], *, seconds: float = 60.0) -> Any:
    """Return the condition's first true value; errors count as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, AssertionError):
            if found := condition():
                return found
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)
