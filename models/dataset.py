"""Data sets: tables of clicks become compact sessions.

Room: models. Called by training and evaluation, never by serving (polars is a training dependency). Reads parquet
or csv with the columns `ts` or `pos`, `session_id` or `user_id`, `item_id`, and what else there is. A table with an
order but no clock works: its sessions stand in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from events.errors import SettingsError
from models.sessions import Sessions

DAY_MS = 86_400_000
CLICKS = ("view", "click", "cart", "order", "purchase", "add_to_cart", "view_item", "select_item")
GROUPS = ("session_id", "user_id", "customer_id", "anonymous_id", "visitor_id")
CLOCKS = ("ts", "at_ms", "timestamp")


@dataclass(frozen=True)
class Table:
    """Clicks in long form: columns `group`, `item` (text), `order` (int64), sorted as the file stood."""

    frame: pl.DataFrame
    timed: bool
    by_user: bool


def read(paths: Sequence[Path], *, gap_ms: int | None = None) -> Table:
    """Read one or more files of the same columns.

    Parameters
    ----------
    paths
        Parquet or csv files.
    gap_ms
        Cut sequences of users into sessions at pauses longer than this; None keeps whole sequences.

    Raises
    ------
    SettingsError
        A file is missing or lacks a column; the message names it.
    """
    frames = [_read_one(path) for path in paths]
    if not frames:
        raise SettingsError("no input file: pass at least one parquet or csv file")
    frame = pl.concat(frames, how="vertical_relaxed")
    timed, by_user = frames[0].columns[1] == "ts", "user" in frames[0].columns
    frame = frame.select("group", pl.col(frame.columns[1]).alias("order"), "item")
    table = Table(frame, timed, by_user)
    if by_user and gap_ms is not None:
        return _cut(table, gap_ms)
    return table


def _read_one(path: Path) -> pl.DataFrame:
    if not path.is_file():
        raise SettingsError(f"no file {path}: pass a parquet or csv file with session_id, item_id and ts or pos")
    try:
        frame = pl.read_csv(path) if path.suffix in {".csv", ".gz", ".tsv", ".txt"} else pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as err:
        raise SettingsError(f"{path} cannot be read as a table: {err}") from err
    group = next((name for name in GROUPS if name in frame.columns), None)
    order = next((name for name in (*CLOCKS, "pos") if name in frame.columns), None)
    if group is None or "item_id" not in frame.columns:
        raise SettingsError(
            f"{path} has columns {frame.columns}; expected item_id and one of {', '.join(GROUPS)} "
            f"(and one of {', '.join(CLOCKS)}, pos for the order)"
        )
    frame = frame.filter(pl.col("item_id").is_not_null() & pl.col(group).is_not_null())
    clock = _order(frame, order)
    columns = [pl.col(group).alias("group"), clock, pl.col("item_id").cast(pl.String).alias("item")]
    if group != "session_id":
        columns.append(pl.lit(value=True).alias("user"))
    return frame.select(columns)


def _order(frame: pl.DataFrame, order: str | None) -> pl.Expr:
    if order is None:
        return pl.int_range(pl.len(), dtype=pl.Int64).alias("pos")
    if order == "pos":
        return pl.col("pos").cast(pl.Int64)
    kind = frame.schema[order]
    if kind == pl.String:
        return pl.col(order).str.to_datetime(time_zone="UTC").dt.epoch("ms").alias("ts")
    if isinstance(kind, pl.Datetime | pl.Date):
        return pl.col(order).dt.epoch("ms").alias("ts")
    return pl.col(order).cast(pl.Int64).alias("ts")


def _cut(table: Table, gap_ms: int) -> Table:
    if not table.timed:
        raise SettingsError("sessions can be cut by a gap only where the table has a clock (column ts)")
    frame = table.frame.sort("group", "order", maintain_order=True)
    new = (pl.col("group") != pl.col("group").shift(1)) | (pl.col("order").diff() > gap_ms)
    frame = frame.with_columns(new.fill_null(value=True).cum_sum().cast(pl.Int64).alias("group"))
    return Table(frame, timed=True, by_user=False)


def split(
    table: Table, *, until_ms: int | None = None, from_ms: int | None = None, share: tuple[float, float] = (0.0, 1.0)
) -> Table:
    """Keep the sessions that start in [from_ms, until_ms), or a share of all sessions in time order."""
    starts = _starts(table)
    if until_ms is not None or from_ms is not None:
        if not table.timed:
            raise SettingsError("a split by date needs a clock (column ts); use a share of the sessions instead")
        starts = starts.filter(pl.col("start").ge(from_ms or 0) & pl.col("start").lt(until_ms or 2**62))
    if share != (0.0, 1.0):
        low, high = (round(edge * len(starts)) for edge in share)
        starts = starts.slice(low, high - low)
    kept = table.frame.join(starts.select("group"), on="group", how="semi", maintain_order="left")
    return Table(kept, table.timed, table.by_user)


def _starts(table: Table) -> pl.DataFrame:
    starts = table.frame.group_by("group", maintain_order=True).agg(pl.col("order").min().alias("start"))
    return starts.sort("start", "group") if table.timed else _by_id(starts)


def _by_id(starts: pl.DataFrame) -> pl.DataFrame:
    """Without a clock, numbered sessions stand in the order of their numbers, named ones as they came."""
    return starts.sort("group") if starts.schema["group"].is_integer() else starts


def to_sessions(table: Table, item_ids: Sequence[str] | None = None) -> Sessions:
    """Pack a table into arrays; items outside a given id table are put behind it.

    Sessions stand in time order; clicks in a session in the order of the clock, ties as in the file.
    """
    starts = _starts(table).with_row_index("place")
    frame = table.frame.join(starts, on="group", how="left", maintain_order="left")
    frame = frame.sort("place", "order", maintain_order=True)
    # By first click, so that renumbering the items changes nothing.
    clicked = frame["item"].unique(maintain_order=True)
    known = pl.Series("item", list(item_ids or ()), dtype=pl.String)
    table_ids = pl.concat([known, clicked.filter(~clicked.is_in(known.implode()))])
    ids = pl.DataFrame({"item": table_ids, "row": np.arange(len(table_ids), dtype=np.int32)})
    rows = frame.select("item").join(ids, on="item", how="left", maintain_order="left")["row"]
    lengths = np.bincount(frame["place"].to_numpy(), minlength=len(starts))
    indptr = np.zeros(len(starts) + 1, dtype=np.int64)
    np.cumsum(lengths, out=indptr[1:])
    at: npt.NDArray[np.int64] = starts["start"].to_numpy() if table.timed else np.arange(len(starts), dtype=np.int64)
    items = rows.to_numpy().astype(np.int32)
    return Sessions(indptr, items, at.astype(np.int64), table_ids.to_list(), table.timed, table.by_user)


def histories(table: Table, test: Table, item_ids: Sequence[str]) -> tuple[Sessions, npt.NDArray[np.int32]]:
    """Leave-one-out: the history of each user of `test` (rows of `table`) and the one item to be found."""
    targets = test.frame.group_by("group", maintain_order=True).agg(pl.col("item").last())
    known = table.frame.join(targets.select("group"), on="group", how="semi", maintain_order="left")
    past = to_sessions(Table(known, table.timed, table.by_user), item_ids)
    groups = _starts(Table(known, table.timed, table.by_user))["group"]
    found = pl.DataFrame({"group": groups}).join(targets, on="group", how="left", maintain_order="left")
    row_of = {item: row for row, item in enumerate(item_ids)}
    return past, np.array([row_of.get(item, -1) for item in found["item"]], dtype=np.int32)


def from_events(events: Iterable[tuple[str, str, int, str]], *, gap_ms: int = 1_800_000) -> Table:
    """A table from (session or customer key, item_id, at_ms, event); sequences are cut at the gap."""
    rows = [(key, at_ms, item) for key, item, at_ms, event in events if item and event in CLICKS]
    frame = pl.DataFrame(rows, schema={"group": pl.String, "order": pl.Int64, "item": pl.String}, orient="row")
    return _cut(Table(frame, timed=True, by_user=True), gap_ms) if rows else Table(frame, timed=True, by_user=False)


def day_ms(text: str) -> int:
    """Milliseconds of an ISO date or time, UTC unless it says otherwise.

    >>> day_ms("1970-01-02")
    86400000
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as err:
        raise SettingsError(f"{text!r} is no ISO date such as 2020-06-21") from err
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
