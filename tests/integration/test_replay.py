"""`kairos replay` on real data, into a real log, folded by a real flow; skipped where $KAIROS_DATA is absent."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from cli.main import run
from events.dead_letters import DeadLetters
from events.log import START, EventLog, open_log
from events.schema import CATALOG_UPDATED, Event, decode_event
from tests.servers import Valkey


@pytest.fixture
def log(valkey: Valkey) -> Iterator[EventLog]:
    opened = open_log(valkey.url, partitions=4)
    yield opened
    opened.close()


@contextlib.contextmanager
def flow(server: Valkey) -> Iterator[None]:
    command = [sys.executable, "-m", "cli", "dataflow", "features", "--log", server.url, "--store", server.url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def replay(capsys: pytest.CaptureFixture[str], server: Valkey, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the command; return its status and its account."""
    with pytest.raises(SystemExit) as caught:
        run(["replay", *words, "--via", "log", "--log", server.url, "--store", server.url, "--json"])
    out = capsys.readouterr().out
    return int(caught.value.code or 0), msgspec.json.decode(out) if out else {}


def in_log(log: EventLog) -> list[Event]:
    at = dict.fromkeys(range(log.partitions), START)
    events: list[Event] = []
    while batches := log.read(at, limit=5_000):
        for batch in batches:
            events += [decode_event(payload) for payload in batch.payloads]
            at[batch.partition] = batch.positions[-1]
    return events


def test_an_import_of_the_past_keeps_times_customers_and_sessions(
    valkey: Valkey, log: EventLog, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, account = replay(capsys, valkey, str(data / "jdata-demo"), "--times", "original", "--no-wait")
    assert (status, account["read"], account["sent"], account["accepted"]) == (0, 25_178, 25_178, 25_178)
    assert (account["rejected"], account["items"], account["clamped"], account["shift_ms"]) == (0, 12_971, 0, 0)
    logged = in_log(log)
    events = [event for event in logged if event.event != CATALOG_UPDATED]
    told = [item for event in logged for item in event.catalog]
    assert Counter(event.event for event in events) == {
        "view_item": 22_564, "purchase": 1_773, "review_item": 446, "add_to_wishlist": 395,
    }  # fmt: skip
    frame = pl.read_parquet(data / "jdata-demo" / "events.parquet").with_row_index()
    rows = {
        f"jdata-demo/events:{number}": (at_ms, str(customer), str(session), str(item))
        for number, at_ms, customer, session, item in frame.select(
            "index", "ts", "user_id", "session_id", "item_id"
        ).iter_rows()
    }
    assert {e.event_id: (e.at_ms, e.customer_id, e.session_id, e.items[0].item_id) for e in events} == rows
    assert all(event.historical and event.received_ms == event.at_ms for event in events)
    assert len({item.item_id for item in told}) == len(told) == 12_971
    assert all(line.category and line.brand for event in events for line in event.items)


def test_a_customers_events_stand_in_time_order(
    valkey: Valkey, log: EventLog, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay(capsys, valkey, str(data / "bol-serenade"), "--times", "original", "--no-wait", "--limit", "8000")
    last: dict[str, int] = {}
    for event in in_log(log):
        assert event.anonymous_id == f"s:{event.session_id}"
        assert event.at_ms >= last.get(event.anonymous_id, 0)
        last[event.anonymous_id] = event.at_ms
    assert sum(1 for _ in last) > 1_000


def test_times_now_end_now_and_keep_the_gaps(
    valkey: Valkey, log: EventLog, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, account = replay(capsys, valkey, str(data / "jdata-demo"), "--times", "now", "--no-wait", "--items", "none")
    events = in_log(log)
    times = pl.read_parquet(data / "jdata-demo" / "events.parquet")["ts"].to_list()
    shift = account["shift_ms"]
    late = [event.at_ms - times[int(event.event_id.rpartition(":")[2])] - shift for event in events]
    assert min(late) >= 0, "received is never before sent"
    assert max(late) < 60_000
    assert not any(event.historical for event in events)
    assert all(event.received_ms - event.at_ms < 4 * 86_400_000 for event in events)


def test_every_event_is_accounted_for_and_a_second_replay_repeats(
    valkey: Valkey, log: EventLog, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (str(data / "cdnow"), "--times", "original", "--limit", "3000")
    with flow(valkey):
        status, account = replay(capsys, valkey, *words)
        assert status == 0
        assert account["exact"]
        assert account["sent"] == 3_000 == account["applied"] + account["dead_lettered"]
        assert (account["duplicates"], account["dead_lettered"]) == (0, account["rejected"])
        status, again = replay(capsys, valkey, *words)
    assert status == 0
    assert again["applied"] + again["duplicates"] == account["applied"]
    assert again["duplicates"] > 2_500, "all but those that the ring of event ids has forgotten within an import's 24 h"
    assert again["dead_lettered"] == account["dead_lettered"]
    letters = DeadLetters(valkey.url, log.partitions)
    assert letters.counts()["intake"] == 2 * account["rejected"]
    if account["rejected"]:
        assert letters.newest()[0].letter.code == "items_missing"
    letters.close()


def test_no_flow_means_no_exact_account(
    valkey: Valkey, log: EventLog, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.csv"
    path.write_text("ts,user_id,item_id\n1433221332117,2,3\n")
    monkeypatch.setattr("cli.replaying.account._PATIENCE_S", 0.1)
    status, account = replay(capsys, valkey, str(path), "--times", "original")
    assert (status, account["exact"], account["accepted"]) == (1, False, 1)
    assert account["problem"].startswith("the flows stand still before the end of partition ")


def test_a_rate_is_kept(valkey: Valkey, log: EventLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.csv"
    path.write_text("ts,user_id,item_id\n" + "".join(f"{1433221332117 + n},{n},3\n" for n in range(400)))
    status, account = replay(capsys, valkey, str(path), "--rate", "1000", "--no-wait")
    assert (status, account["accepted"]) == (0, 400)
    assert account["seconds"] >= 0.39
    assert len(in_log(log)) == 400


def test_what_cannot_be_done_is_one_line_and_status_2(
    valkey: Valkey, log: EventLog, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def problem(*words: str) -> str:
        with pytest.raises(SystemExit) as caught:
            run(["replay", *words])
        assert caught.value.code == 2
        return capsys.readouterr().err

    path = tmp_path / "f.csv"
    path.write_text("ts,user_id,item_id\n1433221332117,2,3\n")
    nowhere = ("--data-dir", str(tmp_path / "none"))
    assert "is neither a file nor a data set of" in problem("nothing.parquet", *nowhere)
    assert "holds neither events.parquet nor" in problem(str(tmp_path), *nowhere)
    assert "--rate fast: write events a second, or max" in problem(str(path), "--rate", "fast", *nowhere)
    assert "write column=field" in problem(str(path), "--map", "x", *nowhere)
    assert "start `kairos up`" in problem(str(path), *nowhere)
    at = ("--url", "http://127.0.0.1:9", "--log", valkey.url, "--store", valkey.url)
    assert "no API at http://127.0.0.1:9: start `kairos up`" in problem(str(path), *at, *nowhere)
