"""Freshness of the state: from appending an event to reading its effect in Redis. Room: load_tests/floors.

    python -m load_tests.floors.probe LOG_URL STORE_URL RATE SECONDS

Appends events of its own customers on a fixed schedule and polls the partitions' heads, which are committed together
with the customers; latency from the planned time. Prints a JSON report. Called by `load_tests.benchmarks.freshness`.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Final

import msgspec

from events.log import EventLog, open_log
from events.schema import Event, Line, encode_event, partition_of
from feature_store.head import decode_head
from feature_store.store import StateStore
from load_tests import priority
from load_tests.histogram import Latencies

POLL_S: Final = 0.0004
TIMEOUT_S: Final = 10.0
CLEAR_NS: Final = 2_000_000  # before a planned send nothing is asked; what comes through then is seen that much later


class LateError(Exception):
    """An event did not come through in time."""


class _Probe:
    """Events under way, by partition; those of one partition are committed in order."""

    def __init__(self, log: EventLog, store: StateStore) -> None:
        self._log, self._store = log, store
        self._waiting: dict[int, deque[tuple[int, int]]] = {}  # (position, planned)
        self.seen, self.lag = Latencies(), Latencies()

    def send(self, number: int, planned: int) -> None:
        """Append one event."""
        self.lag.record_ns(time.monotonic_ns() - planned)
        customer_id = f"probe-{number % 500}"
        partition = partition_of(customer_id, self._log.partitions)
        [position] = self._log.append([(partition, _payload(number, customer_id))])
        self._waiting.setdefault(partition, deque()).append((position, planned))

    def poll(self) -> bool:
        """See which have come through; return whether any has not."""
        if not self._waiting:
            return False
        for partition, value in self._store.heads(list(self._waiting)).items():
            position, queue = decode_head(value).position if value else -1, self._waiting[partition]
            now = time.monotonic_ns()
            while queue and queue[0][0] <= position:
                self.seen.record_ns(now - queue.popleft()[1])
            if not queue:
                del self._waiting[partition]
            elif now - queue[0][1] > TIMEOUT_S * 1e9:
                raise LateError(f"an event of partition {partition} was not committed within {TIMEOUT_S:.0f} s")
        return bool(self._waiting)


def main(log_url: str, store_url: str, rate: float, seconds: float) -> None:
    """Probe for so long."""
    priority.take()
    log, store = open_log(log_url), StateStore.open(store_url)
    probe, total, sent = _Probe(log, store), int(rate * seconds), 0
    start = time.monotonic_ns() + 10_000_000
    while True:
        planned = start + int(1e9 * sent / rate)
        if sent < total and time.monotonic_ns() >= planned:
            probe.send(sent, planned)
            sent += 1
        elif sent < total and planned - time.monotonic_ns() < CLEAR_NS:
            time.sleep(max(0, planned - time.monotonic_ns()) / 1e9)  # a poll that waits must not make a send late
        elif probe.poll():
            left = (planned - time.monotonic_ns()) / 1e9 if sent < total else POLL_S
            time.sleep(min(POLL_S, max(0.0, left)))
        elif sent == total:
            break
        else:
            time.sleep(max(0, planned - time.monotonic_ns()) / 1e9)
    store.close()
    log.close()
    report = {"append_to_redis_ms": probe.seen.summary(), "lag_ms": probe.lag.summary()}
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


def _payload(number: int, customer_id: str) -> bytes:
    now_ms = int(time.time() * 1000)
    event = Event(
        event="view_item",
        event_id=f"probe-{now_ms}-{number}",
        at_ms=now_ms,
        received_ms=now_ms,
        customer_id=customer_id,
        session_id=f"s-{customer_id}",
        items=[Line(f"i{number % 1000:06d}")],
    )
    return encode_event(event)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
