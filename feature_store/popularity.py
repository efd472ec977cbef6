"""Popularity per time bucket: counts of views, carts and purchases by item. Room: feature_store, pure core.

Each partition counts what its own customers do, in six-hour buckets of event time; buckets older than a week of the
partition's watermark are dropped. The materialiser sums partitions and buckets into ranked lists.
"""

from __future__ import annotations

from typing import Final

from events.schema import Event

BUCKET_MS: Final = 6 * 3_600_000
KEEP_BUCKETS: Final = 28

Counts = dict[int, dict[str, int]]  # bucket -> "<kind>:<item_id>" -> count


def bucket_of(at_ms: int) -> int:
    return at_ms // BUCKET_MS


def count(counts: Counts, kind: str, event: Event, watermark_ms: int) -> None:
    """Add the items of an event to its bucket under a letter of `KINDS`, unless the bucket is already dropped."""
    bucket = event.at_ms // BUCKET_MS
    if bucket <= watermark_ms // BUCKET_MS - KEEP_BUCKETS:
        return
    fields = counts.get(bucket)
    if fields is None:
        fields = counts[bucket] = {}
    for line in event.items:
        field = f"{kind}:{line.item_id}"
        fields[field] = fields.get(field, 0) + 1


def forget(counts: Counts, watermark_ms: int) -> None:
    """Take out buckets that the watermark has passed since they were counted."""
    last = bucket_of(watermark_ms) - KEEP_BUCKETS
    for bucket in [bucket for bucket in counts if bucket <= last]:
        del counts[bucket]


def dropped(before_ms: int, after_ms: int) -> range:
    """Return the stored buckets that leave when the watermark moves from `before_ms` to `after_ms`."""
    if not before_ms:
        return range(0)
    first, last = bucket_of(before_ms) - KEEP_BUCKETS + 1, bucket_of(after_ms) - KEEP_BUCKETS
    return range(first, min(last, first + KEEP_BUCKETS - 1) + 1)
