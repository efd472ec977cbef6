"""A customer's profile as people and programs read it. Room: feature_store, pure. Called by serving."""

from __future__ import annotations

from typing import Any

from feature_store.customer import Customer
from feature_store.definitions import FEATURES
from feature_store.head import Head


def as_of(head: Head | None, now_ms: int) -> int:
    """Return the time at which features are read: now, or after an import of the past its last event."""
    return head.watermark_ms if head is not None and head.historical else now_ms


def describe(customer: Customer, now_ms: int) -> dict[str, Any]:
    """Return every declared feature by name, as of `now_ms`."""
    return {feature.name: feature.read(customer, now_ms) for feature in FEATURES}
