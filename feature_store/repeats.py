"""Repeated events: a bounded ring of event-id hashes in the customer value. Room: feature_store, pure core.

Exact within the last 64 events of a customer. An entry is the XXH3-64 of the event id and the second it was received;
entries older than 24 h are let go when a new one comes, so that a rare visitor's value stays small.
"""

from __future__ import annotations

from typing import Final

import xxhash

KEEP: Final = 64
WITHIN_S: Final = 86_400
_HASH: Final = 8
_ENTRY: Final = 12  # hash, then the second as uint32, big-endian
_FULL: Final = KEEP * _ENTRY


def is_repeat(seen: bytes, digest: bytes) -> bool:
    """Return whether the ring holds this 8-byte hash."""
    at = seen.find(digest)
    while at >= 0:
        if at % _ENTRY == 0:
            return True
        at = seen.find(digest, at + 1)
    return False


def remember(seen: bytes, digest: bytes, received_ms: int) -> bytes:
    """Return the ring with one more entry, the oldest pushed out where it is full or more than 24 h old."""
    second = received_ms // 1000 & 0xFFFFFFFF
    seen += digest + second.to_bytes(4, "big")
    if len(seen) > _FULL:
        seen = seen[_ENTRY:]
    if second - int.from_bytes(seen[_HASH:_ENTRY], "big") > WITHIN_S:
        return _without_old(seen, second)
    return seen


def _without_old(seen: bytes, second: int) -> bytes:
    at = 0
    while second - int.from_bytes(seen[at + _HASH : at + _ENTRY], "big") > WITHIN_S:
        at += _ENTRY
    return seen[at:]


def digest_of(event_id: str) -> bytes:
    """Return the 8-byte hash of an event id."""
    return xxhash.xxh3_64_digest(event_id.encode())
