"""The past: sessions with true times, to train a first model on. Room: load_tests, simulator.

    python -m load_tests.simulator.history FILE ITEMS CUSTOMERS WORLD_SEED SEED SESSIONS_PER_DAY WHOLE

writes ten days of it, up to now, as Parquet. Nobody is shown anything in the past (no recommender existed), nothing is
late, repeated or broken: this is what a shop's order and click tables hold.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from load_tests.simulator.dice import Dice
from load_tests.simulator.shopping import line_of, plan, shop
from load_tests.simulator.wire import stamp
from load_tests.simulator.world import World

DAY_MS = 86_400_000


def history(
    world: World, *, days: int, sessions_per_day: int, end_ms: int, seed: int = 0
) -> Iterator[list[dict[str, Any]]]:
    """Yield past sessions, each a list of events in time order, as `POST /v1/events` takes them.

    Parameters
    ----------
    days, sessions_per_day
        How much of it. Sessions start evenly spread over the days, in order.
    end_ms
        Where the past ends: the last session starts before it; no event is later (a refund that would be is left out).
    seed
        Equal seeds give equal histories.
    """
    total = days * sessions_per_day
    for number in range(total):
        dice = Dice(seed, 11, number)
        start_ms = end_ms - days * DAY_MS + (days * DAY_MS * number) // total
        day = (start_ms - end_ms) // DAY_MS
        at_ms = start_ms
        events = []
        for step in shop(world, plan(world, number, day, dice), dice):
            at_ms += int(1000 * step.pause_s)
            if at_ms >= end_ms:
                break
            events.append(stamp({**step.event, "session_id": f"h{seed}-{number:x}"}, at_ms, dice))
        if events:
            yield events


def inventory(world: World, *, at_ms: int) -> Iterator[list[dict[str, Any]]]:
    """Yield one session a series, in which somebody looks at each of its items once.

    So that a model knows every item, as after years of a shop: under a Zipf law a past of any practical length leaves
    half of the items out.
    """
    goods, start = world.catalogue, 0
    while start < goods.items:
        _, end = goods.series_of(start)
        dice = Dice(world.seed, 15, start)
        who = {"anonymous_id": f"v-{start}", "session_id": f"v-{start}"}
        yield [
            stamp({"event": "view_item", **who, "items": [line_of(world, row)]}, at_ms + 1000 * (row - start), dice)
            for row in range(start, end)
        ]
        start = end


def write_history(
    path: Path, world: World, *, days: int, sessions_per_day: int, end_ms: int, seed: int = 0, whole: bool = False
) -> int:
    """Write the past as a Parquet table of item interactions; return the number of rows.

    One row per event and item, in time order: `timestamp` (UTC), `user_id`, `session_id`, `item_id`, `event`,
    `price`, `quantity`, `order_id`. With `whole`, the `inventory` comes before it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    past = history(world, days=days, sessions_per_day=sessions_per_day, end_ms=end_ms, seed=seed)
    before = inventory(world, at_ms=end_ms - days * DAY_MS - 3_600_000) if whole else ()
    sessions = chain(before, past)
    rows = [
        (
            event["timestamp"], event.get("customer_id") or event["anonymous_id"], event["session_id"],
            line["item_id"], event["event"], line["price"], line["quantity"], event.get("order_id"),
        )
        for events in sessions for event in events for line in event.get("items", ())
    ]  # fmt: skip
    rows.sort(key=lambda row: row[0])
    names = ["timestamp", "user_id", "session_id", "item_id", "event", "price", "quantity", "order_id"]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(names, ())
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    times = table.column("timestamp").cast(pa.timestamp("ms", tz="UTC"))
    pq.write_table(table.set_column(0, "timestamp", times), path)
    return len(rows)


def main(path: str, items: int, customers: int, world_seed: int, seed: int, sessions_per_day: int, whole: int) -> None:
    """Write ten days of the past of a world, up to now."""
    world = World(items=items, customers=customers, seed=world_seed)
    now_ms = int(1000 * time.time())
    write_history(
        Path(path), world, days=10, sessions_per_day=sessions_per_day, end_ms=now_ms, seed=seed, whole=bool(whole)
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:8]))
