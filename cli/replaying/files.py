"""Data files as rows in time order. Room: cli.

A Parquet file whose rows already stand in time order is streamed; any other is loaded (only its needed columns, as
Arrow) and sorted by time, rows of one moment in the file's order. Several files are merged by time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from cli.replaying.columns import FIELDS, Columns, headless, recognise
from cli.replaying.rows import Row
from events.errors import SettingsError

_BATCH: Final = 10_000
_NUMBERS: Final = {"quantity", "price", "value", "position"}
_NONE: Final = ("", "NA", "null", "NULL", "None", "nan", "NaN")


class Source:
    """One data file: how many rows, between which times, and the rows themselves."""

    def __init__(self, path: Path, columns: Columns, table: _Table) -> None:
        self.path = path
        self.columns = columns
        self.name = f"{path.resolve().parent.name}/{path.stem}"
        self._table = table
        times = table.times()
        self.count = len(times)
        self.first_ms, self.last_ms = (int(times.min()), int(times.max())) if self.count else (0, 0)
        self._order = None if bool((np.diff(times) >= 0).all()) else np.argsort(times, kind="stable")

    @classmethod
    def open(cls, path: Path, mapping: Mapping[str, str]) -> Source:
        """Open a Parquet or CSV file; raises `SettingsError` where it cannot be read as events."""
        try:
            if path.suffix in (".parquet", ".pq"):
                parquet = pq.ParquetFile(path)
                columns = recognise(parquet.schema_arrow.names, mapping, where=str(path))
                return cls(path, columns, _Table(parquet, None, columns, path))
            table, columns = _read_csv(path, mapping)
            return cls(path, columns, _Table(None, table, columns, path))
        except (OSError, pa.ArrowException) as err:
            raise SettingsError(f"{path} cannot be read: {str(err).splitlines()[0]}") from err

    def rows(self) -> Iterator[Row]:
        """Yield the rows in time order."""
        columns = self.columns
        for numbers, batch in self._table.batches(self._order):
            times = _times(batch, columns, self.path).tolist()
            fields = [
                _values(batch, columns.of[field], field in _NUMBERS) if field in columns.of else [None] * len(times)
                for field in FIELDS
            ]
            yield from map(Row, times, numbers, *fields)


def merged(sources: Sequence[Source]) -> Iterator[tuple[Source, Row]]:
    """Yield the rows of all sources in time order."""
    streams = [zip(itertools.repeat(source), source.rows()) for source in sources]
    return iter(streams[0]) if len(streams) == 1 else iter(heapq.merge(*streams, key=lambda pair: pair[1].ts))


class _Table:
    """The needed columns of a file, streamed where it is Parquet in time order, else in memory."""

    def __init__(self, parquet: Any, table: Any, columns: Columns, path: Path) -> None:
        self._parquet = parquet
        self._loaded = table
        self._columns = columns
        self._path = path
        self._needed = list(dict.fromkeys([*columns.of.values(), *([columns.plus] if columns.plus else [])]))

    def times(self) -> npt.NDArray[np.int64]:
        names = [self._columns.of["ts"], *([self._columns.plus] if self._columns.plus else [])]
        table = self._loaded if self._loaded is not None else self._parquet.read(columns=names)
        return _times(table, self._columns, self._path)

    def batches(self, order: npt.NDArray[np.int64] | None) -> Iterator[tuple[list[int], Any]]:
        """Yield ``(row numbers in the file, batch)``, in file order or in the given one."""
        if order is None and self._parquet is not None:
            start = 0
            for batch in self._parquet.iter_batches(batch_size=_BATCH, columns=self._needed):
                yield list(range(start, start + batch.num_rows)), pa.Table.from_batches([batch])
                start += batch.num_rows
            return
        if self._loaded is None:
            self._loaded = self._parquet.read(columns=self._needed)
        for start in range(0, self._loaded.num_rows, _BATCH):
            if order is None:
                part = self._loaded.slice(start, _BATCH)
                yield list(range(start, start + part.num_rows)), part
            else:
                indexes = order[start : start + _BATCH]
                yield indexes.tolist(), self._loaded.take(pa.array(indexes))


def _read_csv(path: Path, mapping: Mapping[str, str]) -> tuple[Any, Columns]:
    with pa.input_stream(path, compression="detect") as stream:
        first = stream.read(65_536).split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").rstrip("\r")
    separator = max(",;\t", key=first.count)
    header = [name.strip().strip('"') for name in first.split(separator)]
    no_header = headless(header)
    if no_header:
        header, event = no_header
        columns = recognise(header, mapping, where=str(path))
        columns.preset, columns.event = "YooChoose", event
        columns.blank = {"category": ("0", "S")}
    else:
        columns = recognise(header, mapping, where=str(path))
    needed = [*columns.of.values(), *([columns.plus] if columns.plus else [])]
    numbers = {columns.of[field] for field in _NUMBERS & columns.of.keys()} | {columns.plus}
    table = pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(column_names=header if no_header else None),
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=list(dict.fromkeys(needed)),
            column_types={name: pa.float64() if name in numbers else pa.string() for name in needed},
            null_values=list(_NONE),
            strings_can_be_null=True,
        ),
    )
    return table, columns


def _times(table: Any, columns: Columns, path: Path) -> npt.NDArray[np.int64]:
    """Return the rows' times in epoch milliseconds."""
    column = table.column(columns.of["ts"])
    try:
        ms = _epoch_ms(column, columns)
    except (pa.ArrowException, ValueError) as err:
        raise SettingsError(f"{path}: column {columns.of['ts']!r} holds no times: {str(err).splitlines()[0]}") from err
    if columns.plus:
        ms = pc.add(ms, pc.cast(pc.fill_null(table.column(columns.plus), 0), pa.int64()))
    if ms.null_count:
        raise SettingsError(f"{path}: {ms.null_count:,} rows have no time in column {columns.of['ts']!r}: remove them")
    times: npt.NDArray[np.int64] = ms.to_numpy()
    return times


def _epoch_ms(column: Any, columns: Columns) -> Any:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if columns.month_first:
            column = pc.strptime(column, format="%m/%d/%Y %H:%M", unit="ms")
        elif pc.all(pc.utf8_is_digit(column)).as_py():
            column = pc.cast(column, pa.int64())
        else:
            column = _iso(column)
        kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return pc.cast(pc.cast(column, pa.timestamp("ms")), pa.int64())
    ms = pc.cast(column, pa.int64())
    return pc.multiply(ms, 1_000) if len(ms) and (pc.max(ms).as_py() or 0) < 100_000_000_000 else ms


def _iso(column: Any) -> Any:
    """Read ISO 8601; a time with a zone is turned to UTC, one without is taken for UTC."""
    first = next((value.as_py() for value in column if value.is_valid), "")
    zoned = first.endswith("Z") or "+" in first[10:] or "-" in first[10:]
    return pc.cast(column, pa.timestamp("ms", "UTC" if zoned else None), safe=False)


def _values(table: Any, name: str, number: bool) -> list[Any]:
    """Return a column as Python values: numbers as they are, all else as text; None where there is nothing."""
    column = table.column(name)
    kind = column.type
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    if column.null_count or not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        values: list[Any] = column.to_pylist()
    else:
        values = column.to_numpy().tolist()  # several times faster
    if number or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return values
    if pa.types.is_integer(kind) and not column.null_count:
        return list(map(str, values))
    return [None if value is None else _text(value) for value in values]


def _text(value: object) -> str:
    """Return an id as text; one that a table kept as a float, because some were missing, is whole again."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
