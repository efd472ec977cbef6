"""Tables of every kind become the same compact sessions."""

from pathlib import Path

import polars as pl
import pytest

from events.errors import SettingsError
from models import dataset


def written(path: Path, **columns: list[object]) -> Path:
    """A parquet file of the given columns."""
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_sessions_stand_in_time_order_and_clicks_in_clock_order(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.parquet", ts=[50, 10, 40, 20], session_id=[2, 1, 2, 1], item_id=[7, 5, 6, 7], event=["view"] * 4
    )
    sessions = dataset.to_sessions(dataset.read([path]))
    assert [[sessions.item_ids[row] for row in session] for session in sessions] == [["5", "7"], ["6", "7"]]
    assert sessions.start.tolist() == [10, 40]
    assert sessions.timed


def test_rows_in_another_order_make_the_same_sessions(tmp_path: Path) -> None:
    frame = {"ts": [10, 20, 40, 50], "session_id": [1, 1, 2, 2], "item_id": [5, 7, 6, 7]}
    turned = {name: values[::-1] for name, values in frame.items()}
    one = dataset.to_sessions(dataset.read([written(tmp_path / "a.parquet", **frame)]))
    other = dataset.to_sessions(dataset.read([written(tmp_path / "b.parquet", **turned)]))
    assert one.item_ids == other.item_ids
    assert one.items.tolist() == other.items.tolist()


def test_an_order_without_a_clock_is_enough(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", session_id=[10, 9, 9], pos=[0, 1, 0], item_id=["x", "z", "y"])
    sessions = dataset.to_sessions(dataset.read([path]))
    assert [[sessions.item_ids[row] for row in session] for session in sessions] == [["y", "z"], ["x"]]
    assert not sessions.timed


def test_users_keep_whole_sequences_unless_a_gap_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", user_id=[1, 1, 1], ts=[0, 60_000, 3_600_000], item_id=[1, 2, 3])
    assert dataset.to_sessions(dataset.read([path])).lengths.tolist() == [3]
    assert dataset.to_sessions(dataset.read([path], gap_ms=1_800_000)).lengths.tolist() == [2, 1]


def test_csv_reads_like_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("session_id,pos,item_id\n1,0,3\n1,1,4\n")
    assert dataset.to_sessions(dataset.read([path])).item_ids == ["3", "4"]


def test_a_session_belongs_to_the_day_it_starts(tmp_path: Path) -> None:
    day = dataset.DAY_MS
    path = written(tmp_path / "a.parquet", session_id=[1, 1, 2], ts=[day - 5, day + 5, day], item_id=[1, 2, 3])
    table = dataset.read([path])
    assert dataset.to_sessions(dataset.split(table, until_ms=day)).lengths.tolist() == [2]
    assert dataset.to_sessions(dataset.split(table, from_ms=day)).lengths.tolist() == [1]


def test_items_outside_the_training_table_are_put_behind_it(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", session_id=[1, 1, 1], pos=[0, 1, 2], item_id=["new", "a", "newer"])
    sessions = dataset.to_sessions(dataset.read([path]), ["a", "b"])
    assert sessions.items.tolist() == [2, 0, 3]
    assert sessions.item_ids == ["a", "b", "new", "newer"]


def test_leave_one_out_takes_the_history_from_the_training_rows(tmp_path: Path) -> None:
    known = dataset.read([written(tmp_path / "a.parquet", user_id=[1, 2, 1], pos=[0, 0, 1], item_id=["a", "c", "b"])])
    asked = dataset.read([written(tmp_path / "b.parquet", user_id=[2, 1], pos=[1, 2], item_id=["a", "zz"])])
    histories, targets = dataset.histories(known, asked, ["a", "b", "c"])
    assert [history.tolist() for history in histories] == [[0, 1], [2]]
    assert targets.tolist() == [-1, 0]


def test_live_events_are_cut_into_sessions_and_other_events_left_out() -> None:
    events = [
        ("c1", "a", 0, "view"),
        ("c1", "b", 1_000, "cart"),
        ("c1", "b", 2_000, "search"),
        ("c1", "c", 10**7, "view"),
    ]
    sessions = dataset.to_sessions(dataset.from_events(events))
    assert [[sessions.item_ids[row] for row in session] for session in sessions] == [["a", "b"], ["c"]]


def test_a_missing_file_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.parquet"):
        dataset.read([tmp_path / "nowhere.parquet"])
    path = written(tmp_path / "a.parquet", ts=[1], product=[1])
    with pytest.raises(SettingsError, match="item_id"):
        dataset.read([path])
