"""What the demo plays with: the simulator's shop, and a data set of real sessions where there is one. Room: cli.

Called by `kairos demo`. The older four fifths of the real sessions join the simulator's past as what the first model
is trained on; the newer fifth is played live. Nothing of a data set is written anywhere but into the demo's own
data directory.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from cli.replaying.items import Items
from events.errors import SettingsError
from load_tests.simulator import World, write_history

#: Data sets in the order of preference: with customers and item facts first.
SETS: Final = ("jdata-demo", "bol-serenade")
#: Short event names of data sets -> ours (API.md).
NAMES: Final = {
    "view": "view_item", "click": "select_item", "cart": "add_to_cart", "purchase": "purchase",
    "follow": "add_to_wishlist", "comment": "review_item", "order": "purchase",
}  # fmt: skip
_TRAINED: Final = 0.8
_PAST_DAYS, _PAST_SESSIONS_A_DAY = 10, 300  # of the simulator's shop


class Act(NamedTuple):
    """One event of a real session."""

    event: str
    item_id: str


class RealSession(NamedTuple):
    """One visit of the data set."""

    session_id: str
    customer_id: str  # "" where the data set knows none
    acts: list[Act]


class Material(NamedTuple):
    """All that a demo needs before it starts."""

    source: str  # where the real sessions come from, "" without
    world: World
    tables: list[Path]  # to train on
    items: list[dict[str, Any]]  # of the data set, as `PUT /v1/catalog/items` takes them
    sessions: list[RealSession]


def choose(choice: str, data: Path) -> Path | None:
    """Return the data set of ``auto``, ``simulator`` or a path; None: the simulator alone.

    Raises
    ------
    SettingsError
        The path holds no data set.
    """
    if choice == "simulator":
        return None
    if choice == "auto":
        return next((data / name for name in SETS if (data / name / "events.parquet").is_file()), None)
    path = Path(choice)
    if not (path / "events.parquet").is_file():
        raise SettingsError(f"--data {choice}: no events.parquet there; give a data set's directory, or simulator")
    return path


def prepare(directory: Path | None, workspace: Path, *, seed: int = 0) -> Material:
    """Make the past and read the data set; takes some seconds of CPU."""
    now_ms = time.time_ns() // 1_000_000
    world = World(seed=seed)
    past = workspace / "simulated-past.parquet"
    write_history(
        past, world, days=_PAST_DAYS, sessions_per_day=_PAST_SESSIONS_A_DAY, end_ms=now_ms - 60_000, seed=seed
    )
    if directory is None:
        return Material("", world, [past], [], [])
    frame = _read(directory)
    real = workspace / "real-past.parquet"
    sessions = _divide(frame, real, end_ms=now_ms - 60_000)
    return Material(directory.name, world, [past, real], _items(directory), sessions)


def _read(directory: Path) -> Any:
    """Return ts, session_id, user_id, item_id, event, in time order, ids as text."""
    import polars as pl

    frame = pl.read_parquet(directory / "events.parquet")
    if missing := {"ts", "session_id", "item_id"} - set(frame.columns):
        raise SettingsError(f"{directory / 'events.parquet'} lacks the columns {', '.join(sorted(missing))}")
    user = pl.col("user_id").cast(pl.String) if "user_id" in frame.columns else pl.lit("")
    event = pl.col("event").cast(pl.String) if "event" in frame.columns else pl.lit("view")
    return frame.select(
        pl.col("ts").cast(pl.Int64),
        pl.col("session_id").cast(pl.String),
        user.fill_null("").alias("user_id"),
        pl.col("item_id").cast(pl.String),
        event.replace(NAMES).alias("event"),
    ).sort("ts", maintain_order=True)


def _divide(frame: Any, table: Path, *, end_ms: int) -> list[RealSession]:
    """Write the older sessions as a table whose last event is now; return the newer ones."""
    import polars as pl

    starts = frame.group_by("session_id").agg(pl.col("ts").min().alias("start")).sort("start", "session_id")
    trained = starts.head(int(_TRAINED * len(starts)))["session_id"].implode()
    older, newer = frame.filter(pl.col("session_id").is_in(trained)), frame.filter(~pl.col("session_id").is_in(trained))
    shift = end_ms - int(older["ts"].max() or 0)
    older.select(pl.col("ts") + shift, "session_id", "item_id").write_parquet(table)
    known = newer.filter(pl.col("event").is_in(sorted(set(NAMES.values()))))
    rows = known.sort("session_id", maintain_order=True).select("session_id", "user_id", "event", "item_id").rows()
    return [
        RealSession(session_id, customer_id, [Act(event, item_id) for _, _, event, item_id in acts])
        for (session_id, customer_id), acts in itertools.groupby(rows, key=lambda row: row[:2])
    ]


def _items(directory: Path) -> list[dict[str, Any]]:
    """Return the data set's items, where it describes them."""
    path = directory / "items.parquet"
    return list(Items(path, "").catalogue()) if path.is_file() else []
