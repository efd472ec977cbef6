"""The fold of one partition: a batch of log entries in, the effects of one commit out. Room: feature_store, pure core.

Called by the features flow, the bare loop of the benchmark, and every check that recomputes state from the log. What is
written depends on the log alone, never on where batches were cut, so a recomputation gives equal bytes.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping, MutableMapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from events.letters import DeadLetter, encode_dead_letter, stream_id
from events.log import START, Batch
from events.schema import Event, decode_event, encode_event
from feature_store import keys, popularity
from feature_store.codec import encode_customer, encode_item
from feature_store.customer import Customer, apply, show
from feature_store.head import Head
from feature_store.item import ItemState, update
from feature_store.repeats import digest_of, is_repeat, remember
from feature_store.vocabulary import KINDS

#: The most that one commit takes (ARCHITECTURE §2): its script blocks the server for about 2 ms.
MAX_EVENTS = 500
#: Items of catalogue events in one commit, written twice: to the items and to the changes.
MAX_ITEMS = 500


_State = TypeVar("_State", Head, Customer, ItemState)


class Decoded(NamedTuple):
    """A batch, decoded: the readable entries in order, in columns, and what could not be read."""

    partition: int
    end: int  # position of the last entry, readable or not
    positions: list[int]
    events: list[Event]
    keys: list[str]  # of the customer value that each event changes, "" for the catalogue's
    dead: list[tuple[int, DeadLetter]]

    def customer_keys(self) -> list[str]:
        """Return the distinct customer keys, in order."""
        distinct = dict.fromkeys(self.keys)
        distinct.pop("", None)
        return list(distinct)

    def item_ids(self) -> list[str]:
        """Return the distinct items that catalogue events tell of."""
        if "" not in self.keys:
            return []
        pairs = zip(self.keys, self.events, strict=True)
        return list(dict.fromkeys(told.item_id for key, event in pairs if not key for told in event.catalog))


class Effects(NamedTuple):
    """All that one commit writes, beside the head."""

    customers: dict[str, Customer]  # key -> value to encode
    items: dict[str, ItemState]
    changes: list[tuple[int, list[str]]]  # position -> item ids of a catalogue event
    counts: popularity.Counts
    dropped: list[int]  # popularity buckets to delete
    dead: list[tuple[int, DeadLetter]]


def grouped(batches: Sequence[Batch]) -> list[list[Batch]]:
    """Group a poll's batches into rounds of about one full batch.

    Small batches share a round's two round trips; a full one goes alone, because four decoded together fall out of the
    processor's cache before they are folded.
    """
    groups: list[list[Batch]] = [[]]
    events = 0
    for batch in batches:
        if events and events + len(batch.positions) > MAX_EVENTS:
            groups.append([])
            events = 0
        groups[-1].append(batch)
        events += len(batch.positions)
    return groups


def decode_batch(batch: Batch) -> Decoded:
    """Decode a batch's payloads; what does not decode, or names nobody, becomes a dead letter."""
    decoded = Decoded(batch.partition, batch.positions[-1], [], [], [], [])
    _, _, positions, events, owners, dead = decoded
    known, visitor = keys.customer(batch.partition, ""), keys.anonymous(batch.partition, "")
    for position, payload in zip(batch.positions, batch.payloads, strict=True):
        try:
            event = decode_event(payload)
        except msgspec.DecodeError as err:
            dead.append((position, _letter(batch.partition, position, payload, "undecodable_entry", str(err))))
            continue
        if event.customer_id:
            owners.append(known + event.customer_id)
        elif event.anonymous_id:
            owners.append(visitor + event.anonymous_id)
        elif 0 < len(event.catalog) <= MAX_ITEMS:
            owners.append("")
        else:
            reason = f"the entry names neither customer nor visitor, nor 1 to {MAX_ITEMS} items: intake refuses such"
            dead.append((position, _letter(batch.partition, position, payload, "nobody", reason)))
            continue
        positions.append(position)
        events.append(event)
    return decoded


def portions(decoded: Decoded) -> list[Decoded]:
    """Cut a batch whose catalogue events tell of more items than one commit takes; mostly there is nothing to cut."""
    if "" not in decoded.keys:
        return [decoded]
    cuts, told = [0], 0
    for at, event in enumerate(decoded.events):
        told += len(event.catalog)
        if told > MAX_ITEMS and at > cuts[-1]:
            cuts.append(at)
            told = len(event.catalog)
    ends = [decoded.positions[at - 1] for at in cuts[1:]] + [decoded.end]
    parts: list[Decoded] = []
    for at, stop, end in zip(cuts, [*cuts[1:], len(decoded.events)], ends, strict=True):
        after = parts[-1].end if parts else START
        dead = [pair for pair in decoded.dead if after < pair[0] <= end]
        columns = decoded.positions[at:stop], decoded.events[at:stop], decoded.keys[at:stop]
        parts.append(Decoded(decoded.partition, end, *columns, dead))
    return parts


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
    watermark, last = head.watermark_ms, None
    touched, counts, count = effects.customers, effects.counts, popularity.count
    duplicates = served = 0
    for position, event, key in zip(decoded.positions, decoded.events, decoded.keys, strict=True):
        if not key:
            _fold_catalog(position, event, items, effects)
            continue
        customer = customers.get(key)
        if event.event == "view_item_list" and event.properties.get("served") is True:
            served += 1
            if customer is not None:  # asking for a page makes nobody a customer
                show(customer, event)
                customer.position = position
                touched[key] = customer
            continue
        if customer is None:
            customer = customers[key] = Customer()
            head.customers += 1
        digest, seen = digest_of(event.event_id.encode()), customer.seen
        if seen.find(digest) >= 0 and is_repeat(seen, digest):  # `in` on a bytearray costs four times as much
            duplicates += 1
            continue
        apply(customer, event)
        remember(seen, digest, event.received_ms)
        customer.position = position
        touched[key] = customer
        if event.at_ms > watermark:
            watermark = event.at_ms
        kind = KINDS.get(event.event)
        if kind is not None:
            count(counts, kind, event, watermark)
        last = event
    head.catalog += len(effects.changes)
    head.applied += len(decoded.events) - len(effects.changes) - duplicates - served
    head.duplicates += duplicates
    head.served += served
    if last is not None:
        head.historical = last.historical
    effects.dropped.extend(popularity.dropped(head.watermark_ms, watermark))
    popularity.forget(counts, watermark)
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
    for position, event, key in zip(decoded.positions, decoded.events, decoded.keys, strict=True):
        one = Decoded(decoded.partition, position, [position], [event], [key], [])
        trial = _copy(head)
        known = {key: _copy(customers[key])} if key in customers else {}
        known_items = {told.item_id: _copy(items[told.item_id]) for told in event.catalog if told.item_id in items}
        try:
            effects = fold(trial, one, known, known_items)
            _encodes(effects)
        except Exception as err:  # noqa: BLE001 - the one place where a transition's bug becomes data
            payload = encode_event(event)
            letter = _letter(decoded.partition, position, payload, "transition_raised", f"{type(err).__name__}: {err}")
            letter.traceback = "".join(traceback.format_exception(err, limit=-8))
            letter.event_id = event.event_id
            total.dead.append((position, letter))
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
