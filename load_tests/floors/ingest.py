"""The floor of ingest: a bare loop that does what a features flow does, without bytewax. Room: load_tests/floors.

    python -m load_tests.floors.ingest LOG_URL STORE_URL 0,1,2,3

The same reads, decodes, transitions and commit script, the same batches, look-ahead and cache size; no operators, no
registration of a consumer, no catalogue, no care for what raises. Ends on SIGTERM. Called by
`load_tests.benchmarks.ingest`.
"""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from types import FrameType
from typing import Final

from events.log import Batch, EventLog, open_log
from feature_store.commit import Commit, build
from feature_store.customer import Customer
from feature_store.fold import MAX_EVENTS, Decoded, decode_batch, fold, grouped
from feature_store.head import Head
from feature_store.store import Read, StateStore, head_of

KEEP_CUSTOMERS: Final = 50_000  # as the flow keeps
IDLE_S: Final = 0.001


class Loop:
    """Partitions, folded and committed by one thread."""

    def __init__(self, event_log: EventLog, store: StateStore, partitions: Sequence[int]) -> None:
        self._log, self._store = event_log, store
        self._stored = store.heads(partitions)
        self._heads: dict[int, Head] = {
            p: head_of(value, p, event_log.log_id, event_log.partitions) for p, value in self._stored.items()
        }
        self._customers: OrderedDict[str, Customer] = OrderedDict()
        self._groups: deque[list[Batch]] = deque()
        self._behind = False
        self.stopping = False

    def run(self) -> None:
        """Fold what comes until asked to stop; while there is a backlog, ask for the next values before folding."""
        self._after = {partition: head.position for partition, head in self._heads.items()}
        ahead = None
        while not self.stopping:
            asked = ahead or self._ask()
            if asked is None:
                self._store.settle()
                time.sleep(IDLE_S)
                continue
            ahead = self._ask() if self._groups or self._behind else None
            self._store.send(self._advance(*asked))
            while len(self._customers) > KEEP_CUSTOMERS:
                self._customers.popitem(last=False)
        self._store.settle()

    def _ask(self) -> tuple[list[Decoded], Read] | None:
        """Decode the next group of batches and send the read of what the cache misses."""
        if not self._groups:
            batches = self._log.read(self._after, limit=MAX_EVENTS)
            self._behind = any(len(batch.positions) >= MAX_EVENTS for batch in batches)
            for batch in batches:
                self._after[batch.partition] = batch.positions[-1]
            if not batches:
                return None
            self._groups.extend(grouped(batches))
        cache = self._customers
        decoded = [decode_batch(batch) for batch in self._groups.popleft()]
        wanted: dict[int, tuple[list[str], list[str]]] = {}
        for one in decoded:
            misses = []
            for key in one.customer_keys():
                if key in cache:
                    cache.move_to_end(key)
                else:
                    misses.append(key)
            wanted[one.partition] = (misses, [])
        return decoded, self._store.request(wanted)

    def _advance(self, decoded: list[Decoded], asked: Read) -> list[Commit]:
        cache = self._customers
        for key, customer in self._store.receive(asked)[0].items():
            cache.setdefault(key, customer)
        commits = []
        for batch in decoded:
            head = self._heads[batch.partition]
            commit = build(self._stored[batch.partition], head, fold(head, batch, cache, {}))
            self._stored[batch.partition] = commit.head
            commits.append(commit)
        return commits


def main(log_url: str, store_url: str, partitions: str) -> None:
    """Run the loop until SIGTERM."""
    loop = Loop(open_log(log_url), StateStore.open(store_url), [int(p) for p in partitions.split(",")])

    def stop(_number: int, _frame: FrameType | None) -> None:
        loop.stopping = True

    signal.signal(signal.SIGTERM, stop)
    gc.freeze()
    gc.disable()
    loop.run()


if __name__ == "__main__":
    main(*sys.argv[1:4])
