"""Parity: is every stored key what a fold of the log gives? Room: feature_store. Called by `kairos verify` and tests.

Folds each partition's log from its beginning through the same transitions, in batches cut elsewhere than live, and
compares every key byte for byte: customers, items, popularity buckets, catalogue changes, dead letters and the head.
Keys are read together with the head in one transaction and the fold goes on to just that position, so the comparison is
exact also while events arrive. Absent: logs whose beginning was trimmed (`PositionLost`); they need the archive.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from events.errors import PositionLost
from events.letters import DeadLetter, decode_dead_letter, encode_dead_letter, stream_id
from events.log import START, Batch, EventLog
from feature_store import keys
from feature_store.codec import decode_customer, decode_item, encode_customer, encode_item
from feature_store.commit import KEEP_CHANGES
from feature_store.customer import Customer
from feature_store.fold import Effects, decode_batch, encode_effects, fold, fold_safely
from feature_store.head import Head, decode_head, encode_head
from feature_store.item import ItemState
from feature_store.tables import StateTables

_BATCH: Final = 337  # on purpose another size than live
_CHUNK: Final = 200
_MOST_NAMED: Final = 20


class Report(msgspec.Struct):
    """What was compared."""

    keys_compared: int = 0
    mismatches: int = 0
    events_folded: int = 0
    by_kind: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)  # kind -> {compared, mismatches}
    examples: list[str] = msgspec.field(default_factory=list)

    def note(self, kind: str, name: str, problem: str | None) -> None:
        """Count one key; `problem` says what differs."""
        counts = self.by_kind.setdefault(kind, {"compared": 0, "mismatches": 0})
        counts["compared"] += 1
        self.keys_compared += 1
        if problem:
            counts["mismatches"] += 1
            self.mismatches += 1
            if len(self.examples) < _MOST_NAMED:
                self.examples.append(f"{name}: {problem}")


class Expected:
    """A partition's state, folded from the log alone."""

    def __init__(self, log_id: str, partition: int, partitions: int) -> None:
        self.head = Head(log_id, partition, partitions)
        self.customers: dict[str, Customer] = {}
        self.items: dict[str, ItemState] = {}
        self.counts: dict[int, dict[str, int]] = {}
        self.dead: list[tuple[str, bytes]] = []
        self.changes: list[tuple[str, set[str]]] = []

    def add(self, batch: Batch) -> None:
        """Fold one batch; an event that raises becomes the same dead letter as live."""
        decoded = decode_batch(batch)
        before = encode_head(self.head)
        customers = {k: encode_customer(self.customers[k]) for k in decoded.customer_keys() if k in self.customers}
        items = {i: encode_item(self.items[i]) for i in decoded.item_ids() if i in self.items}
        try:
            effects = fold(self.head, decoded, self.customers, self.items)
            encode_effects(effects)
        except Exception:  # noqa: BLE001 - as live: event by event from the state before
            self.head = decode_head(before)
            for key in decoded.customer_keys():
                self.customers.pop(key, None)
            for item_id in decoded.item_ids():
                self.items.pop(item_id, None)
            self.customers.update((key, decode_customer(value)) for key, value in customers.items())
            self.items.update((item_id, decode_item(value)) for item_id, value in items.items())
            effects = fold_safely(self.head, decoded, self.customers, self.items)
        self._absorb(effects)

    def _absorb(self, effects: Effects) -> None:
        for bucket, fields in effects.counts.items():
            sums = self.counts.setdefault(bucket, {})
            for field, n in fields.items():
                sums[field] = sums.get(field, 0) + n
        for bucket in effects.dropped:
            self.counts.pop(bucket, None)
        self.dead += [(stream_id(position), encode_dead_letter(letter)) for position, letter in effects.dead]
        for position, item_ids in effects.changes:
            self.changes.append((stream_id(position), set(item_ids)))
        del self.changes[:-KEEP_CHANGES]

    def names(self) -> Iterable[str]:
        """Return every key that the fold has made."""
        partition = self.head.partition
        if self.head.position > START:
            yield keys.position(partition)
        yield from self.customers
        yield from (keys.popularity(partition, bucket) for bucket, counts in self.counts.items() if counts)
        for made, name in ((self.items, keys.items), (self.changes, keys.changes), (self.dead, keys.dead)):
            if made:
                yield name(partition)

    def difference(self, name: str, stored: Any) -> str | None:
        """Return what differs between a stored key (as its read command replied) and the fold, None for nothing."""
        kind, value = kind_of(name), self._value(name)
        if kind == "changes":
            same: Any = [(e[0].decode(), {f.decode() for f in e[1][::2]}) for e in stored]
        elif kind == "dead":
            same = [(e[0].decode(), _without_traceback(e[1][1])) for e in stored]
            value = [(entry_id, _without_traceback(letter)) for entry_id, letter in self.dead]
        elif kind in ("items", "popularity"):
            same = {stored[i]: stored[i + 1] for i in range(0, len(stored), 2)}
        else:
            same = stored
        if same == value:
            return None
        if not value:
            return "is in the store, but no event of the log made it"
        return "is missing in the store" if not same else "differs from the fold of the log"

    def _value(self, name: str) -> Any:
        partition, kind = self.head.partition, kind_of(name)
        if kind == "head":
            return encode_head(self.head) if self.head.position > START else None
        if kind == "customer":
            return encode_customer(self.customers[name]) if name in self.customers else None
        if kind == "items":
            return {item_id.encode(): encode_item(item) for item_id, item in self.items.items()}
        if kind == "popularity":
            bucket = int(name.removeprefix(keys.popularity(partition, 0)[:-1]))
            return {field.encode(): b"%d" % n for field, n in self.counts.get(bucket, {}).items()}
        return self.changes if kind == "changes" else None


def _without_traceback(letter: bytes) -> DeadLetter:
    """Return a letter without its traceback, whose line numbers differ between versions of the code."""
    decoded = decode_dead_letter(letter)
    decoded.traceback = ""
    return decoded


def kind_of(name: str) -> str:
    """Return what a key holds, by the layout of `feature_store.keys`."""
    rest = name.partition("}")[2]
    if rest[:2] in ("c:", "a:"):
        return "customer"
    if rest.startswith("pop:"):
        return "popularity"
    return {"position": "head", "items": "items", "items:changes": "changes", "dead": "dead"}.get(rest, "unknown")


_READS: Final[dict[str, tuple[str, ...]]] = {
    "head": ("GET",), "customer": ("GET",), "items": ("HGETALL",), "popularity": ("HGETALL",),
    "changes": ("XRANGE", "-", "+"), "dead": ("XRANGE", "-", "+"),
}  # fmt: skip


def _ignore(_: int) -> None:
    return


class Verifier:
    """Compares one partition's stored keys with the fold of its log."""

    def __init__(self, log: EventLog, tables: StateTables, partition: int, on_events: Callable[[int], None]) -> None:
        if log.floor(partition) > START:
            raise PositionLost(
                f"partition {partition} of log {log.log_id} was trimmed up to position {log.floor(partition)}: "
                "parity can only be checked from a log's beginning"
            )
        self._log = log
        self._tables = tables
        self._on_events = on_events
        self._at = START
        self._ahead: list[Batch] = []
        self.partition = partition
        self.expected = Expected(log.log_id, partition, log.partitions)

    def compare(self, report: Report) -> None:
        """Compare all keys of the store, then those that the log made and the store lacks."""
        compared: set[str] = set()
        stored = (name for name, _ in self._tables.keys(self.partition))
        self._compare_all(stored, compared, report)
        self._compare_all([name for name in self.expected.names() if name not in compared], compared, report)
        report.events_folded += self.expected.head.entries

    def _compare_all(self, names: Iterable[str], compared: set[str], report: Report) -> None:
        chunk: list[str] = []
        for name in names:
            if name in compared:
                continue
            compared.add(name)
            if kind_of(name) == "unknown":
                report.note("unknown", name, "is no key of ours")
                continue
            chunk.append(name)
            if len(chunk) >= _CHUNK:
                self._compare_chunk(chunk, report)
                chunk = []
        if chunk:
            self._compare_chunk(chunk, report)

    def _compare_chunk(self, names: list[str], report: Report) -> None:
        reads = [(_READS[kind_of(name)][0], name, *_READS[kind_of(name)][1:]) for name in names]
        head, *replies = self._tables.snapshot([("GET", keys.position(self.partition)), *reads])
        self._fold_to(decode_head(head).position if head else START)
        for name, reply in zip(names, replies, strict=True):
            difference = self.expected.difference(name, reply)
            report.note(kind_of(name), name, difference)

    def _fold_to(self, position: int) -> None:
        while self._at < position:
            if not self._ahead:
                self._ahead = self._log.read({self.partition: self._at}, limit=_BATCH, wait_ms=500)
            if not self._ahead:
                return
            batch = self._ahead.pop()
            within = bisect.bisect_right(batch.positions, position)
            if not within:
                return
            self.expected.add(Batch(self.partition, batch.positions[:within], batch.payloads[:within]))
            self._on_events(within)
            self._at = batch.positions[within - 1]


def verify(log: EventLog, tables: StateTables, *, on_events: Callable[[int], None] = _ignore) -> Report:
    """Compare every key of every partition with a fold of the log.

    Raises
    ------
    PositionLost
        The beginning of the log was trimmed.
    """
    report = Report()
    for partition in range(log.partitions):
        Verifier(log, tables, partition, on_events).compare(report)
    return report
