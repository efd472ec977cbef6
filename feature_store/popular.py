"""Popular items, ranked: what the materialiser publishes and serving reads. Room: feature_store, pure.

Sums the partitions' bucket counts (`feature_store.popularity`) with weights by kind and a half-life in event time, so
that the lists of a historical import are as fresh as its last event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from feature_store.popularity import BUCKET_MS

WEIGHTS: Final = {"v": 1.0, "c": 3.0, "p": 5.0}
HALF_LIFE_MS: Final = 24 * 3_600_000
KEEP: Final = 1_000
KEEP_PER_CATEGORY: Final = 100


class Popular(msgspec.Struct, array_like=True):
    """One version of the lists."""

    version: int
    at_ms: int  # wall clock of the summing
    watermark_ms: int  # greatest event time in it
    historical: bool  # it comes from an import of the past
    item_ids: list[str]  # most popular first, those of every list
    scores: bytes  # float32, shape (n,): decayed weighted count
    top: list[int]  # rows of the overall list, best first
    by_category: dict[str, list[int]]  # rows by category path

    def score_array(self) -> NDArray[np.float32]:
        return np.frombuffer(self.scores, np.float32)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Popular)


def encode_popular(popular: Popular) -> bytes:
    """Return the stored bytes: the version as uint64 big-endian, so that it can be read alone, then msgpack."""
    return popular.version.to_bytes(8, "big") + _encoder.encode(popular)


def decode_popular(value: bytes) -> Popular:
    return _decoder.decode(memoryview(value)[8:])


def bucket_weight(bucket: int, watermark_ms: int) -> float:
    """Return the decay of a bucket's counts, taken at the bucket's end."""
    age_ms = max(0, watermark_ms - (bucket + 1) * BUCKET_MS)
    return float(2.0 ** (-age_ms / HALF_LIFE_MS))


def scored(buckets: Iterable[tuple[int, Mapping[str, int]]], watermark_ms: int) -> dict[str, float]:
    """Return each item's score from ``(bucket, "<kind>:<item_id>" -> count)``."""
    scores: dict[str, float] = {}
    for bucket, counts in buckets:
        decay = bucket_weight(bucket, watermark_ms)
        weights = {kind: weight * decay for kind, weight in WEIGHTS.items()}
        for field, n in counts.items():
            item_id = field[2:]
            scores[item_id] = scores.get(item_id, 0.0) + weights[field[0]] * n
    return scores


def rank(
    scores: Mapping[str, float], category_of: Mapping[str, str], *, version: int, at_ms: int, watermark_ms: int,
    historical: bool,
) -> Popular:  # fmt: skip
    """Return the lists: the most popular overall, and by category. Ties go to the smaller item id."""
    ordered = sorted(scores, key=lambda item_id: (-scores[item_id], item_id))
    lists: dict[str, list[str]] = {}
    for item_id in ordered:
        category = category_of.get(item_id, "")
        if category:
            names = lists.setdefault(category, [])
            if len(names) < KEEP_PER_CATEGORY:
                names.append(item_id)
    rows: dict[str, int] = {item_id: row for row, item_id in enumerate(ordered[:KEEP])}
    by_category = {c: [rows.setdefault(i, len(rows)) for i in names] for c, names in sorted(lists.items())}
    item_ids = list(rows)
    return Popular(
        version, at_ms, watermark_ms, historical, item_ids,
        np.array([scores[i] for i in item_ids], np.float32).tobytes(),
        list(range(min(KEEP, len(ordered)))), by_category,
    )  # fmt: skip
