"""The fold of one partition: a batch of log entries in, the effects of one commit out. Room: feature_store, pure core.

Called by the features flow, the bare loop of the benchmark, and every check that recomputes state from the log. What is
written depends on the log alone, never on where batches were cut, so a recomputation gives equal bytes.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from typing import NamedTuple, TypeVar

import msgspec

from events.letters import DeadLetter, encode_dead_letter, stream_id
from events.log import Batch
from events.schema import Event, decode_event
from feature_store import keys, popularity
from feature_store.codec import encode_customer, encode_item
from feature_store.customer import Customer, apply
from feature_store.head import Head
from feature_store.item import ItemState, update
from feature_store.repeats import digest_of, is_repeat, remember

#: The most that one commit takes (ARCHITECTURE §2): its script blocks the server for about 2 ms.
MAX_EVENTS = 500


_State = TypeVar("_State", Head, Customer, ItemState)


class Entry(NamedTuple):
    """One decoded log entry and the key of the customer value that it changes (``""`` for the catalogue)."""

    position: int
    event: Event
    key: str


class Decoded(NamedTuple):
    """A batch, decoded: entries in order, and what could not be read."""

    partition: int
    end: int  # position of the last entry, readable or not
    entries: list[Entry]
    dead: list[tuple[int, DeadLetter]]

    def customer_keys(self) -> Iterable[str]:
        return dict.fromkeys(entry.key for entry in self.entries if entry.key)

    def item_ids(self) -> Iterable[str]:
        return dict.fromkeys(told.item_id for entry in self.entries if not entry.key for told in entry.event.catalog)


class Effects(NamedTuple):
    """All that one commit writes, beside the head."""

    customers: dict[str, Customer]  # key -> value to encode
    items: dict[str, ItemState]
    changes: list[tuple[int, list[str]]]  # position -> item ids of a catalogue event
    counts: popularity.Counts
    dropped: list[int]  # popularity buckets to delete
    dead: list[tuple[int, DeadLetter]]


def decode_batch(batch: Batch) -> Decoded:
    """Decode a batch's payloads; what does not decode, or names nobody, becomes a dead letter."""
    entries: list[Entry] = []
    dead: list[tuple[int, DeadLetter]] = []
    prefix = keys.tag(batch.partition)
    for position, payload in zip(batch.positions, batch.payloads, strict=True):
        try:
            event = decode_event(payload)
        except msgspec.DecodeError as err:
            dead.append((position, _letter(batch.partition, position, payload, "undecodable_entry", str(err))))
            continue
        if event.customer_id:
            key = f"{prefix}c:{event.customer_id}"
        elif event.anonymous_id:
            key = f"{prefix}a:{event.anonymous_id}"
        elif event.catalog:
            key = ""
        else:
            reason = "the entry names neither customer, visitor nor item: intake should have refused it"
            dead.append((position, _letter(batch.partition, position, payload, "nobody", reason)))
            continue
        entries.append(Entry(position, event, key))
    return Decoded(batch.partition, batch.positions[-1], entries, dead)


def fold(
    head: Head, decoded: Decoded, customers: MutableMapping[str, Customer], items: MutableMapping[str, ItemState]
) -> Effects:
    """Fold a batch into the head, the customers and the items, all in place, and return what to commit.

    Parameters
    ----------
    customers, items
        Must hold the stored value of every key that exists; a key that is missing begins empty and is added.

    Raises
    ------
    Exception
        Whatever a transition raises. The state is then partly advanced: drop it, read it anew and use `fold_safely`.
    """
    effects = Effects({}, {}, [], {}, [], list(decoded.dead))
    head.dead_lettered += len(decoded.dead)
    watermark = head.watermark_ms
    touched, counts = effects.customers, effects.counts
    applied = duplicates = 0
    for position, event, key in decoded.entries:
        if not key:
            _fold_catalog(position, event, items, effects)
            head.catalog += 1
            continue
        customer = customers.get(key)
        if customer is None:
            customer = customers[key] = Customer()
            head.customers += 1
        digest = digest_of(event.event_id)
        if is_repeat(customer.seen, digest):
            duplicates += 1
            continue
        apply(customer, event)
        customer.seen = remember(customer.seen, digest, event.received_ms)
        customer.position = position
        touched[key] = customer
        if event.at_ms > watermark:
            watermark = event.at_ms
        if event.event == "view_item_list" and "served" in event.properties:
            head.served += 1
            continue
        applied += 1
        popularity.count(counts, event, watermark)
        head.historical = event.historical
    head.applied += applied
    head.duplicates += duplicates
    effects.dropped.extend(popularity.dropped(head.watermark_ms, watermark))
    head.watermark_ms = watermark
    head.position = decoded.end
    return effects


def fold_safely(
    head: Head, decoded: Decoded, customers: MutableMapping[str, Customer], items: MutableMapping[str, ItemState]
) -> Effects:
    """Fold event by event, as `fold`, with every event that raises turned into a dead letter with its traceback.

    An event that raises changes nothing: its customer (or items) return to the value before it.
    """
    total = Effects({}, {}, [], {}, [], list(decoded.dead))
    head.dead_lettered += len(decoded.dead)
    for entry in decoded.entries:
        one = Decoded(decoded.partition, entry.position, [entry], [])
        trial = _copy(head)
        known = {entry.key: _copy(customers[entry.key])} if entry.key in customers else {}
        known_items = {
            told.item_id: _copy(items[told.item_id]) for told in entry.event.catalog if told.item_id in items
        }
        try:
            effects = fold(trial, one, known, known_items)
            _encodes(effects)
        except Exception as err:  # noqa: BLE001 - the one place where a transition's bug becomes data
            payload = msgspec.msgpack.encode(entry.event)
            letter = _letter(
                decoded.partition, entry.position, payload, "transition_raised", f"{type(err).__name__}: {err}"
            )
            letter.traceback = "".join(traceback.format_exception(err, limit=-8))
            letter.event_id = entry.event.event_id
            total.dead.append((entry.position, letter))
            head.dead_lettered += 1
            continue
        _absorb(head, trial)
        customers.update(known)
        items.update(known_items)
        _add(total, effects)
    head.position = decoded.end
    total.dead.sort(key=lambda pair: pair[0])
    return total


def _fold_catalog(position: int, event: Event, items: MutableMapping[str, ItemState], effects: Effects) -> None:
    for told in event.catalog:
        item = items.get(told.item_id)
        if item is None:
            item = items[told.item_id] = ItemState(told.item_id)
        update(item, told, event.at_ms)
        item.position = position
        effects.items[told.item_id] = item
    effects.changes.append((position, [told.item_id for told in event.catalog]))


def encode_effects(effects: Effects) -> tuple[dict[str, bytes], dict[str, bytes], list[tuple[str, bytes]]]:
    """Return the stored bytes: customer key -> value, item id -> value, dead letter stream id -> letter."""
    return (
        {key: encode_customer(customer) for key, customer in effects.customers.items()},
        {item_id: encode_item(item) for item_id, item in effects.items.items()},
        [(stream_id(position), encode_dead_letter(letter)) for position, letter in effects.dead],
    )


def _encodes(effects: Effects) -> None:
    """Raise now what encoding would raise at the commit (an integer beyond 64 bits, say)."""
    encode_effects(effects)


def _add(total: Effects, more: Effects) -> None:
    total.customers.update(more.customers)
    total.items.update(more.items)
    total.changes.extend(more.changes)
    for bucket, fields in more.counts.items():
        sums = total.counts.setdefault(bucket, {})
        for field, n in fields.items():
            sums[field] = sums.get(field, 0) + n
    total.dropped.extend(more.dropped)


def _copy(value: _State) -> _State:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=type(value))


def _absorb(head: Head, trial: Head) -> None:
    for field in Head.__struct_fields__:
        setattr(head, field, getattr(trial, field))


def _letter(partition: int, position: int, payload: bytes, code: str, reason: str) -> DeadLetter:
    return DeadLetter(
        reason=reason,
        code=code,
        source="flow",
        original=payload,
        partition=partition,
        position=position,
    )


def as_mapping(values: Mapping[str, Customer]) -> Mapping[str, bytes]:
    """Return stored bytes by key, for comparing whole states."""
    return {key: encode_customer(customer) for key, customer in values.items()}
