"""The partitions that one process owns: cached state, one read and one commit a round. Room: dataflows.

Called by the features flow's steps. Holds nothing durable: whatever goes wrong, the process ends and the next owner
begins at the committed heads. Recently active customers stay in a bounded cache, whose values may be ahead of the store
only while their commit is under way.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

import structlog

from events.errors import Fenced
from events.log import Batch, EventLog
from events.positions import check_position
from feature_store import fold
from feature_store.commit import Commit, build
from feature_store.customer import Customer
from feature_store.head import Head, decode_head
from feature_store.item import ItemState
from feature_store.store import Read, StateStore, head_of

#: Customer values kept in memory by one process, about 3 KB each.
KEEP_CUSTOMERS: Final = 50_000

log = structlog.get_logger()


class Work(NamedTuple):
    """A round: what was decoded, in order of each partition, and the read of the stored values that it misses."""

    batches: list[fold.Decoded]
    misses: Read


class Partitions:
    """Folds rounds of batches of its partitions and commits them."""

    def __init__(
        self, event_log: EventLog, store: StateStore, owned: Sequence[int], keep: int = KEEP_CUSTOMERS
    ) -> None:
        self._store = store
        self._keep = max(keep, 4 * fold.MAX_EVENTS)  # no key of the two rounds under way may leave
        self._customers: OrderedDict[str, Customer] = OrderedDict()  # by key, least recently active first
        stored = store.heads(owned)
        self._heads: dict[int, Head] = {}
        self._committed: dict[int, bytes] = {}
        for partition, value in stored.items():
            head = head_of(value, partition, event_log.log_id, event_log.partitions)
            check_position(event_log, partition, head.position, head.log_id, partitions=head.partitions)
            self._heads[partition] = head
            self._committed[partition] = value
        self.positions = {p: head.position for p, head in self._heads.items()}  # up to which commits were sent

    def prepare(self, batches: Sequence[Batch]) -> Work:
        """Decode a round and ask for what it misses; the round before may still have to be folded."""
        decoded = [part for batch in batches for part in fold.portions(fold.decode_batch(batch))]
        cache = self._customers
        wanted: dict[int, tuple[list[str], list[str]]] = {}
        for batch in decoded:
            misses: list[str] = []
            for key in batch.customer_keys():
                if key in cache:
                    cache.move_to_end(key)
                else:
                    misses.append(key)
            wanted.setdefault(batch.partition, ([], []))[0].extend(misses)
        return Work(decoded, self._store.request(wanted))

    def advance(self, work: Work) -> list[Commit]:
        """Fold a round in memory, once its misses have come, and return the commits that make it durable."""
        customers, _ = self._store.receive(work.misses)
        for key, customer in customers.items():
            self._customers.setdefault(key, customer)  # the round before may have made it meanwhile
        items = self._items(work)
        commits: list[Commit] = []
        for batch in work.batches:
            partition = batch.partition
            try:
                commit = build(
                    self._committed[partition],
                    self._heads[partition],
                    fold.fold(self._heads[partition], batch, self._customers, items),
                )
            except Exception as err:  # noqa: BLE001 - a transition's bug must cost its event, not the stream
                self._store.send(commits)
                commits.clear()
                commit = self._advance_safely(batch, items, err)
            self._committed[partition] = commit.head
            commits.append(commit)
        return commits

    def _items(self, work: Work) -> dict[str, ItemState]:
        """Read the items of a round's catalogue events now: they are not cached, so not before the last commit."""
        wanted: dict[int, tuple[list[str], list[str]]] = {}
        for batch in work.batches:
            if item_ids := batch.item_ids():
                wanted.setdefault(batch.partition, ([], []))[1].extend(item_ids)
        return self._store.read(wanted)[1] if wanted else {}

    def commit(self, commits: Sequence[Commit]) -> None:
        """Send a round's commits; they are settled before the next round's, or by `settle`."""
        self._store.send(commits)
        for commit in commits:
            self.positions[commit.partition] = decode_head(commit.head).position
        while len(self._customers) > self._keep:
            self._customers.popitem(last=False)  # a plain dict would walk over all that left before

    def settle(self) -> None:
        """Wait until what was sent is durable."""
        self._store.settle()

    def _advance_safely(self, batch: fold.Decoded, items: dict[str, ItemState], err: Exception) -> Commit:
        """Fold event by event from the stored state, so that only what raises becomes a dead letter."""
        partition = batch.partition
        log.warning("transition_raised", partition=partition, error=repr(err), events=len(batch.events))
        self._store.settle()
        stored = self._store.heads([partition])[partition]
        if stored != self._committed[partition]:
            raise Fenced(f"partition {partition} is at another head than this process committed")
        keys = batch.customer_keys()
        for key in keys:
            self._customers.pop(key, None)
        item_ids = batch.item_ids()
        customers, stored_items = self._store.read({partition: (keys, item_ids)})
        for item_id in item_ids:
            items.pop(item_id, None)
        items.update(stored_items)
        self._customers.update(customers)
        old = self._heads[partition]
        head = self._heads[partition] = head_of(stored, partition, old.log_id, old.partitions)
        return build(stored, head, fold.fold_safely(head, batch, self._customers, items))
