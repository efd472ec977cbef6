"""The demo's pieces: its time, its data, its account, its wheel of sessions."""

from __future__ import annotations

import time
from pathlib import Path

import polars as pl
import pytest

from cli.demo import parse_seconds
from cli.demo_account import Ledger, summarise, total
from cli.demo_data import Act, RealSession, choose, prepare
from events.errors import SettingsError
from load_tests.account import TrafficReport

HOUR = 3_600_000
ABOUT = {"first_personalised_s": 1.0, "data": "simulator", "model": "m/1", "interrupted": False}


@pytest.mark.parametrize("text", ["", "s", "0s", "-3s", "25h", "nan", "20 minutes"])
def test_what_is_no_time_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(SettingsError, match="a time such as 20s, 5m or 1h"):
        parse_seconds(text)


def test_a_time_has_a_unit_or_is_seconds() -> None:
    assert [parse_seconds(text) for text in ("20s", "5m", "1h", "7")] == [20.0, 300.0, 3600.0, 7.0]


def write_set(directory: Path) -> Path:
    """Write ten sessions of two events, an hour apart, of five customers."""
    directory.mkdir(parents=True)
    rows = [
        {"ts": number * HOUR + step, "session_id": number, "user_id": number % 5, "item_id": 10 * number + step,
         "event": "view" if step == 0 else "follow"}
        for number in range(10) for step in range(2)
    ]  # fmt: skip
    pl.DataFrame(rows).write_parquet(directory / "events.parquet")
    items = [{"item_id": row["item_id"], "brand_id": 7, "category_id": 3} for row in rows]
    pl.DataFrame(items).write_parquet(directory / "items.parquet")
    return directory


def test_auto_prefers_a_set_with_customers_and_falls_back_to_the_simulator(tmp_path: Path) -> None:
    assert choose("auto", tmp_path) is None
    write_set(tmp_path / "bol-serenade")
    assert choose("auto", tmp_path) == tmp_path / "bol-serenade"
    write_set(tmp_path / "jdata-demo")
    assert choose("auto", tmp_path) == tmp_path / "jdata-demo"
    assert choose("simulator", tmp_path) is None


def test_a_directory_without_events_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no events\.parquet there"):
        choose(str(tmp_path), tmp_path)


def test_the_older_sessions_are_trained_on_and_the_newer_are_played(tmp_path: Path) -> None:
    material = prepare(write_set(tmp_path / "set"), tmp_path)
    assert material.sessions == [
        RealSession("8", "3", [Act("view_item", "80"), Act("add_to_wishlist", "81")]),
        RealSession("9", "4", [Act("view_item", "90"), Act("add_to_wishlist", "91")]),
    ]
    trained = pl.read_parquet(tmp_path / "real-past.parquet")
    assert trained["session_id"].unique().sort().to_list() == [str(number) for number in range(8)]
    assert 0 <= time.time() * 1000 - 60_000 - int(trained["ts"].max()) < 60_000  # type: ignore[arg-type]
    assert len(material.tables) == 2
    assert material.items[0] == {"item_id": "0", "brand": "7", "category": "3"}


def test_a_set_without_customers_or_event_names_is_all_views_of_strangers(tmp_path: Path) -> None:
    pl.DataFrame({"ts": [5, 1], "session_id": ["a", "b"], "item_id": ["x", "y"]}).write_parquet(
        tmp_path / "events.parquet"
    )
    assert prepare(tmp_path, tmp_path).sessions == [RealSession("a", "", [Act("view_item", "x")])]


def test_a_set_without_a_needed_column_is_refused_with_its_name(tmp_path: Path) -> None:
    pl.DataFrame({"ts": [1], "item_id": ["x"]}).write_parquet(tmp_path / "events.parquet")
    with pytest.raises(SettingsError, match="lacks the columns session_id"):
        prepare(tmp_path, tmp_path)


def sent(*, events: int, rejected: int = 0, broken: int = 0, repeated: int = 0) -> TrafficReport:
    report = TrafficReport(started=time.monotonic())
    report.events_sent, report.rejected, report.repeated = events, rejected, repeated
    report.accepted = events - rejected - repeated
    report.broken["no_event_name"] = broken
    return report


def test_an_account_is_exact_only_if_every_event_is_found_and_only_broken_ones_are_dead() -> None:
    report = sent(events=100, rejected=3, broken=3, repeated=1)
    assert summarise(report, Ledger(90, 6, 0, 3), **ABOUT).exact
    assert not summarise(report, Ledger(89, 6, 0, 3), **ABOUT).exact  # one is lost
    assert not summarise(report, Ledger(91, 6, 0, 3), **ABOUT).exact  # one was counted twice
    assert not summarise(report, Ledger(89, 6, 1, 3), **ABOUT).exact  # a good one is dead
    assert not summarise(sent(events=100, rejected=3, broken=2), Ledger(97, 0, 0, 3), **ABOUT).exact


def test_two_senders_make_one_account() -> None:
    first, second = sent(events=10, rejected=1, broken=1), sent(events=5)
    first.identities, second.identities = {"a", "b"}, {"b", "c"}
    first.answer_latency.record_ns(1_000_000)
    second.answer_latency.record_ns(9_000_000)
    whole = total([first, second])
    assert (whole.events_sent, whole.accepted, whole.rejected, whole.expected_rejected) == (15, 14, 1, 1)
    assert whole.customers == 3
    assert whole.answer_latency.count == 2
    assert (first.events_sent, first.customers) == (10, 2)


def test_a_ledger_is_taken_from_where_it_stood_before() -> None:
    assert Ledger(10, 4, 2, 3).since(Ledger(7, 1, 2, 1)) == Ledger(3, 3, 0, 2)
