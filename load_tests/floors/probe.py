"""Freshness of the state: from appending an event to reading its effect in Redis. Room: load_tests/floors.

    python -m load_tests.floors.probe LOG_URL STORE_URL RATE SECONDS

Appends events of its own customers on a fixed schedule and polls the partition's head, which is committed together with
the customer; latency from the planned time. Prints a JSON report. Called by `load_tests.benchmarks.freshness`.
"""

from __future__ import annotations

import sys
import time

import msgspec

from events.log import open_log
from events.schema import Event, Line, encode_event, partition_of
from feature_store.head import decode_head
from feature_store.store import StateStore
from load_tests import priority
from load_tests.histogram import Latencies

POLL_S = 0.0002
TIMEOUT_S = 10.0


class LateError(Exception):
    """An event did not come through in time."""


def main(log_url: str, store_url: str, rate: float, seconds: float) -> None:
    """Probe for so long."""
    priority.take()
    log, store = open_log(log_url), StateStore.open(store_url)
    seen, lag = Latencies(), Latencies()
    start = time.monotonic_ns() + 10_000_000
    for number in range(int(rate * seconds)):
        planned = start + int(1e9 * number / rate)
        wait = (planned - time.monotonic_ns()) / 1e9
        if wait > 0:
            time.sleep(wait)
            lag.record_ns(time.monotonic_ns() - planned)
        customer_id = f"probe-{number % 500}"
        partition = partition_of(customer_id, log.partitions)
        [position] = log.append([(partition, _payload(number, customer_id))])
        _wait_for(store, partition, position)
        seen.record_ns(time.monotonic_ns() - planned)
    store.close()
    log.close()
    report = {"append_to_redis_ms": seen.summary(), "lag_ms": lag.summary()}
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


def _wait_for(store: StateStore, partition: int, position: int) -> None:
    end = time.monotonic() + TIMEOUT_S
    while True:
        value = store.heads([partition])[partition]
        if value and decode_head(value).position >= position:
            return
        if time.monotonic() > end:
            raise LateError(f"position {position} of partition {partition} was not committed within {TIMEOUT_S:.0f} s")
        time.sleep(POLL_S)


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
