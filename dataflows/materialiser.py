"""The materialiser: sums what the partitions count into one versioned list of popular items. Room: dataflows.

Run as ``kairos dataflow materialiser``, one process a shop (a second one does no harm: it writes the same lists). Reads
only buckets that can have changed, and backs off so that it never takes more than a twentieth of a core.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import structlog

from events.errors import StoreError
from events.log import open_log
from feature_store import popular, popularity
from feature_store.head import Head
from feature_store.tables import StateTables

EVERY_S = 1.0
#: Share of a core that summing may take.
SHARE = 0.05

log = structlog.get_logger()


class Materialiser:
    """Keeps the bucket counts of all partitions and publishes their sum."""

    def __init__(self, tables: StateTables) -> None:
        self._tables = tables
        self._counts: dict[tuple[int, int], dict[str, int]] = {}  # (partition, bucket) -> field -> count
        self._seen: dict[int, int] = {}  # partition -> position that the counts reflect
        self._category_of: dict[str, str] = {}
        self._version = 0

    def step(self, now_ms: int) -> bool:
        """Publish a new version if any partition moved; return whether it did."""
        heads = self._tables.heads()
        moved = {p: head for p, head in heads.items() if self._seen.get(p) != head.position}
        if not moved:
            return False
        watermark = max(head.watermark_ms for head in heads.values())
        for partition, head in moved.items():
            self._refresh(partition, head)
        self._forget(popularity.bucket_of(watermark) - popularity.KEEP_BUCKETS)
        scores = popular.scored(((bucket, c) for (_, bucket), c in self._counts.items()), watermark)
        self._learn_categories(scores)
        self._version = max(self._version + 1, now_ms)
        lists = popular.rank(
            scores, self._category_of, version=self._version, at_ms=now_ms, watermark_ms=watermark,
            historical=all(head.historical for head in heads.values() if head.applied),
        )  # fmt: skip
        self._tables.publish(popular.encode_popular(lists))
        self._seen.update((p, head.position) for p, head in moved.items())
        return True

    def _refresh(self, partition: int, head: Head) -> None:
        """Read a partition's buckets that can have changed: at first all, then the newest, and the others in turn."""
        newest = popularity.bucket_of(head.watermark_ms)
        oldest = newest - popularity.KEEP_BUCKETS + 1
        late = oldest + int(time.monotonic()) % popularity.KEEP_BUCKETS
        buckets = range(oldest, newest + 1) if partition not in self._seen else {newest - 1, newest, late}
        for bucket in buckets:
            found = self._tables.popularity(partition, bucket)
            if found:
                self._counts[partition, bucket] = found
            else:
                self._counts.pop((partition, bucket), None)

    def _forget(self, last: int) -> None:
        for key in [key for key in self._counts if key[1] <= last]:
            del self._counts[key]

    def _learn_categories(self, scores: dict[str, float]) -> None:
        """Ask for the category of items that are new here, and now and then of all again."""
        if self._version % 60 == 0:
            self._category_of.clear()
        unknown = [item_id for item_id in scores if item_id not in self._category_of]
        self._category_of.update(self._tables.categories(unknown))


def run(log_url: str, store_url: str) -> None:
    """Run until SIGTERM or SIGINT.

    Raises
    ------
    LogError, StoreError
        The log or the store cannot serve.
    """
    stop = threading.Event()

    def ask(*_: Any) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    event_log = open_log(log_url)
    partitions = event_log.partitions
    event_log.close()
    materialiser = Materialiser(StateTables.open(store_url, partitions))
    os.nice(10)  # on a small machine it must not keep an answer or a commit waiting
    log.info("materialiser_started", partitions=partitions)
    failures = 0
    while not stop.is_set():
        began = time.process_time()
        try:
            materialiser.step(int(time.time() * 1000))
            failures = 0
        except StoreError:
            failures += 1
            if failures > 20:
                raise
        stop.wait(max(EVERY_S, (time.process_time() - began) / SHARE))
