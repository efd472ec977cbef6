"""The events of the ingest benchmark as the log has them, and how far they have been folded. Room: load_tests/floors.

Called by `load_tests.benchmarks.ingest` and, as the background of the other benchmarks, run as a process:

    python -m load_tests.floors.backlog LOG_URL RATE SECONDS SEED [CUSTOMERS]

Three workloads: customers of heavy-tailed activity (weights Pareto 0.8), of uniform activity, and cold ones (in turn,
so that no cache holds them).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from events.log import EventLog, open_log
from events.schema import Event, Line, encode_event, partition_of
from feature_store.head import Head
from feature_store.store import StateStore, head_of

ITEMS: Final = 20_000
SPAN_MS: Final = 3_600_000  # the backlog is of the last hour
CHUNK: Final = 1_000
CUSTOMERS: Final = {"heavy_tailed": 20_000, "uniform": 20_000, "cold": 100_000}

_NAMES: Final = ("view_item", "select_item", "add_to_cart", "remove_from_cart", "search", "purchase")
_SHARES: Final = (0.72, 0.1, 0.09, 0.02, 0.05, 0.02)

Records = list[tuple[int, bytes]]


def customers_of(workload: str, events: int, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
    """Return whose each event is, ``(events,)``."""
    if workload == "cold":
        return np.resize(rng.permutation(count), events)
    if workload == "uniform":
        return rng.integers(0, count, events)
    weights = 1.0 + rng.pareto(0.8, count)
    return np.asarray(np.searchsorted(np.cumsum(weights), rng.random(events) * weights.sum()))


def make(
    workload: str, events: int, *, partitions: int, seed: int, end_ms: int, span_ms: int = SPAN_MS, customers: int = 0
) -> Records:
    """Return ``(partition, payload)`` of each event, in order of time; ids derive from the seed."""
    rng = np.random.default_rng([seed, 21])
    who = customers_of(workload, events, rng, customers or CUSTOMERS[workload]).tolist()
    kinds = rng.choice(len(_NAMES), events, p=_SHARES).tolist()
    weights = 1.0 / np.arange(1, ITEMS + 1)
    items = np.searchsorted(np.cumsum(weights), rng.random(events) * weights.sum()).tolist()
    identity: dict[int, tuple[str, int]] = {}
    for row in set(who):
        customer_id = f"c{row:07d}"
        identity[row] = (customer_id, partition_of(customer_id, partitions))
    records = []
    for i, (row, kind, item) in enumerate(zip(who, kinds, items, strict=True)):
        customer_id, partition = identity[row]
        at_ms = end_ms - span_ms + span_ms * i // events
        event = _event(f"{seed:08x}-{i:012x}-backlog", _NAMES[kind], item, at_ms, customer_id)
        records.append((partition, encode_event(event)))
    return records


def _event(event_id: str, name: str, item: int, at_ms: int, customer_id: str) -> Event:
    line = Line(
        f"i{item:06d}",
        price_micros=(499 + item * 37 % 9_000) * 10_000,
        category=f"department-{item % 12}/section-{item % 60}",
        brand=f"brand-{item % 200}",
    )
    bought = name == "purchase"
    return Event(
        event=name,
        event_id=event_id,
        at_ms=at_ms,
        received_ms=at_ms + 40,
        customer_id=customer_id,
        session_id=f"s-{customer_id}",
        items=[] if name == "search" else [line],
        currency="EUR",
        value_micros=line.price_micros if bought else 0,
        order_id=f"o-{event_id}" if bought else "",
        query=f"thing {item % 500}" if name == "search" else "",
    )


def append(log: EventLog, records: Sequence[tuple[int, bytes]]) -> None:
    """Append records, a thousand a write."""
    for start in range(0, len(records), CHUNK):
        log.append(records[start : start + CHUNK])


class Progress:
    """How far the partitions' state has come."""

    def __init__(self, log_url: str, store_url: str, partitions: int | None = None) -> None:
        self.log_url = log_url
        self.log = open_log(log_url, partitions=partitions)
        self._store = StateStore.open(store_url)

    def heads(self) -> list[Head]:
        """Return the head of each partition."""
        count = self.log.partitions
        return [head_of(v, p, self.log.log_id, count) for p, v in self._store.heads(range(count)).items()]

    def entries(self) -> int:
        """Return how many log entries are accounted for."""
        return sum(head.entries for head in self.heads())

    def behind_ms(self) -> int:
        """Return the age of the newest folded event, in the partition that is furthest behind."""
        return int(time.time() * 1000) - min(head.watermark_ms for head in self.heads())

    def close(self) -> None:
        self._store.close()
        self.log.close()


def sentinels(partitions: int) -> Records:
    """Return one event for each partition: when they are folded, the flows are up and warm."""
    now_ms = int(time.time() * 1000) - SPAN_MS
    records: Records = []
    number = 0
    while len(records) < partitions:
        customer_id = f"sentinel-{number}"
        partition = partition_of(customer_id, partitions)
        if partition not in dict(records):
            records.append((partition, encode_event(_event(f"{now_ms}-{number}", "view_item", 0, now_ms, customer_id))))
        number += 1
    return records


def main(log_url: str, rate: float, seconds: float, seed: int, customers: int) -> None:
    """Append events of now at a steady rate, and print how far behind the schedule the appends were."""
    log = open_log(log_url)
    total, block, size = int(rate * seconds), max(1, int(rate / 10)), max(1, int(rate / 200))
    start, sent, late_ms = time.monotonic(), 0, 0.0
    while sent < total:
        records = make(
            "heavy_tailed", min(block, total - sent), partitions=log.partitions, seed=seed * 1_000_003 + sent,
            end_ms=int(time.time() * 1000) + 100, span_ms=100, customers=customers,
        )  # fmt: skip
        for at in range(0, len(records), size):
            wait = start + sent / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            late_ms = max(late_ms, -1000 * wait)
            log.append(records[at : at + size])
            sent += len(records[at : at + size])
    took = time.monotonic() - start
    log.close()
    report = {"events": sent, "events_per_s": sent / took, "late_ms": late_ms}
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), int((*sys.argv[5:], "20000")[0]))
