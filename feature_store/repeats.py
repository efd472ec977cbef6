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


def is_repeat(seen: bytearray, digest: bytes) -> bool:
    """Return whether the ring holds this 8-byte hash."""
    at = seen.find(digest)
    while at >= 0:
        if at % _ENTRY == 0:
            return True
        at = seen.find(digest, at + 1)
    return False


def remember(seen: bytearray, digest: bytes, received_ms: int) -> None:
    """Add an entry to the ring, in place; the oldest leaves where it is full or was received more than 24 h before."""
    second = received_ms // 1000 & 0xFFFFFFFF
    if len(seen) >= _FULL:
        del seen[:_ENTRY]
    else:
        while seen and second - int.from_bytes(seen[_HASH:_ENTRY], "big") > WITHIN_S:
            del seen[:_ENTRY]
    seen += digest
    seen += second.to_bytes(4, "big")


#: The 8-byte hash of an event id's UTF-8 bytes.
digest_of: Final = xxhash.xxh3_64_digest
