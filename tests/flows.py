"""Flow processes for tests: started, killed, stopped in the middle, and compared with a fold of the log."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from events.log import EventLog, open_log
from events.schema import records_of
from feature_store.head import Head, decode_head
from feature_store.parity import Report, verify
from feature_store.store import StateStore
from feature_store.tables import StateTables
from tests.builders import NOW_MS, a_line, an_event

ROOT = Path(__file__).parents[1]
_RUN = "import sys; from dataflows.features import run; run(sys.argv[1], sys.argv[2], [int(p) for p in sys.argv[3:]])"


class Flow:
    """One features process."""

    def __init__(self, log_url: str, store_url: str, partitions: Sequence[int], *, prelude: str = "") -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-c", prelude + _RUN, log_url, store_url, *map(str, partitions)],
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=self._output, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.wait()

    def stop(self) -> int:
        self._started()
        self.process.terminate()
        return self.wait()[0]

    def _started(self, timeout_s: float = 30) -> None:
        """Wait until it has said that it runs: before, it does not know a signal from a kill."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.process.poll() is None:
            if b"flow_started" in os.pread(self._output.fileno(), 1 << 16, 0):
                return
            time.sleep(0.02)

    def wait(self, timeout_s: float = 20) -> tuple[int, str]:
        """Return exit code and output once the process has ended."""
        code = self.process.wait(timeout_s)
        if not self._output.closed:
            self._output.seek(0)
            self._said = self._output.read().decode()
            self._output.close()
        return code, self._said


def heads(store_url: str, partitions: int) -> dict[int, Head]:
    store = StateStore.open(store_url)
    try:
        stored = store.heads(range(partitions))
        return {p: decode_head(value) for p, value in stored.items() if value}
    finally:
        store.close()


def drained(log: EventLog, store_url: str, *, timeout_s: float = 60) -> dict[int, Head]:
    """Wait until every partition's position is the log's end."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = heads(store_url, log.partitions)
        if all(log.end(p) in (-1, found[p].position if p in found else -1) for p in range(log.partitions)):
            return found
        time.sleep(0.02)
    raise AssertionError(f"not drained within {timeout_s} s: {found}")


def parity(log_url: str, store_url: str) -> Report:
    log = open_log(log_url)
    try:
        return verify(log, StateTables.open(store_url, log.partitions))
    finally:
        log.close()


def traffic(n: int, *, customers: int = 300, first: int = 0) -> list[tuple[int, bytes]]:
    """Return `n` events of several kinds with repeats, late and broken ones among them, for four partitions."""
    kinds = ("view_item", "view_item", "view_item", "add_to_cart", "search", "purchase", "remove_from_cart")
    events = []
    for k in range(first, first + n):
        line = a_line(f"i{k * 7 % 97}", price_micros=(k % 50 + 1) * 990_000, category=f"c{k % 13}", brand=f"b{k % 29}")
        repeat = k % 41 == 40
        events.append(
            an_event(
                kinds[k % len(kinds)], event_id=f"t{k - 3 if repeat else k}", items=[line],
                at_ms=NOW_MS + k * 40 - (3_600_000 if k % 31 == 30 else 0), received_ms=NOW_MS + k * 40,
                customer_id=f"c{(k - 3 if repeat else k) * 13 % customers}", query=f"q{k % 5}", currency="EUR",
            )
        )  # fmt: skip
    records = records_of(events, 4)
    return [(p, b"\xc1broken") if k % 97 == 96 else (p, payload) for k, (p, payload) in enumerate(records)]
