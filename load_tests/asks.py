"""Requests for slates: who asks, and where. Room: load_tests.

Writes the requests file of the open-loop generator: customers by a Zipf law, a share of unknown ones, and the pages of
a shop. Called by the serving benchmark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from load_tests.simulator.wire import encode_json
from load_tests.simulator.world import World

PLACEMENTS: Final = {"home": 0.5, "item": 0.4, "cart": 0.1}
UNKNOWN: Final = 0.1
EXPONENT: Final = 0.5  # of the customers' Zipf law


def write_asks(path: Path, world: World, *, customers: int, count: int, limit: int, seed: int) -> list[str]:
    """Write one request a line; return who asks in each.

    Parameters
    ----------
    customers
        The first so many customers of the world are those with live state; unknown ones are somebody else each time.
    count
        Lines.
    limit
        Items in a slate.
    """
    rng = np.random.default_rng([seed, 31])
    weights = rng.permutation(1.0 / np.arange(1, customers + 1) ** EXPONENT)
    rows = np.searchsorted(np.cumsum(weights), rng.random(count) * weights.sum()).tolist()
    unknown = (rng.random(count) < UNKNOWN).tolist()
    placements = rng.choice(list(PLACEMENTS), count, p=list(PLACEMENTS.values())).tolist()
    items = np.searchsorted(world.catalogue.cumulated[1:], rng.random(count)).tolist()
    who = [f"stranger-{seed}-{i}" if unknown[i] else world.customers.customer_id(rows[i]) for i in range(count)]
    with path.open("wb") as file:
        for customer_id, placement, item in zip(who, placements, items, strict=True):
            ask: dict[str, object] = {"placement": placement, "customer_id": customer_id, "limit": limit}
            if placement != "home":
                ask["item_ids"] = [world.catalogue.item_id(min(item, world.catalogue.items - 1))]
            file.write(encode_json(ask) + b"\n")
    return who
