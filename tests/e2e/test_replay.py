"""`kairos replay` through the API of a running stack, on real data; the account and the customers are recomputed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import polars as pl
import pytest

from tests.e2e.processes import Command, run, status

NAMES = {"view": "view_item", "purchase": "purchase", "follow": "add_to_wishlist", "comment": "review_item"}


class Stack(Command):
    """A running stack."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        super().__init__("up", "--port", "0", "--data-dir", str(data_dir))
        self.url = self.line("kairos is ready at ").split()[4]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("replay"))
    yield running
    running.close()


def replay(stack: Stack, *words: str) -> dict[str, Any]:
    answer = run("replay", *words, "--url", stack.url, "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return msgspec.json.decode(answer.stdout, type=dict[str, Any])


def test_customers_are_what_the_file_says(stack: Stack, data: Path) -> None:
    account = replay(stack, str(data / "jdata-demo"), "--times", "original", "--limit", "9000")
    assert account["exact"]
    assert (account["sent"], account["applied"], account["rejected"], account["items"]) == (9_000, 9_000, 0, 12_971)
    rows = pl.read_parquet(data / "jdata-demo" / "events.parquet").head(9_000)
    assert account["customers"] == rows["user_id"].n_unique()
    busiest = rows["user_id"].value_counts(sort=True)["user_id"].head(20).to_list()
    for user in [*busiest, *rows["user_id"].unique().sort().sample(20, seed=7).to_list()]:
        own = rows.filter(pl.col("user_id") == user)
        features = httpx.get(f"{stack.url}/v1/customers/{user}", timeout=10).json()["features"]
        assert features["counts"] == dict(Counter(NAMES[event] for event in own["event"]))
        assert (features["first_seen_ms"], features["last_seen_ms"]) == (own["ts"].min(), own["ts"].max())
        assert features["session"]["session_id"] == str(own["session_id"][-1])


def test_a_second_replay_through_the_api_is_a_repeat(stack: Stack, data: Path) -> None:
    again = replay(stack, str(data / "jdata-demo"), "--times", "original", "--limit", "9000", "--items", "none")
    assert again["exact"]
    assert again["applied"] + again["duplicates"] == 9_000
    assert again["duplicates"] > 7_000


def test_what_intake_refuses_is_in_the_account_and_in_the_dead_letters(stack: Stack, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    good = "".join(f"{1433221332117 + n},u{n},view,i{n},1\n" for n in range(600))
    path.write_text(
        "ts,user_id,event,item_id,price\n" + good + "1433221332999,u1,view,,1\n1433221332999,u2,view,i,9e12\n"
    )
    account = replay(stack, str(path))
    assert (account["sent"], account["applied"], account["rejected"], account["dead_lettered"]) == (602, 600, 2, 2)
    listed = msgspec.json.decode(run("dead-letters", "list", "--data-dir", str(stack.data_dir), "--json").stdout)
    mine = [letter for letter in listed["letters"] if letter["event_id"].startswith(f"{tmp_path.name}/odd:")]
    assert sorted(letter["code"] for letter in mine) == ["invalid_value", "items_missing"]


def test_the_account_stays_exact_when_flow_and_api_are_killed(stack: Stack, data: Path) -> None:
    words = ("replay", str(data / "bol-serenade"), "--limit", "12000", "--rate", "2500", "--url", stack.url, "--json")
    playing = Command(*words, stderr=subprocess.DEVNULL)
    try:
        for name in ("flow-0", "api-0", "flow-0"):
            time.sleep(1.2)
            parts = {part["name"]: part["pid"] for part in status(stack.data_dir)["parts"]}
            os.kill(parts[name], signal.SIGKILL)
        code, out = playing.wait()
    finally:
        playing.close()
    account = msgspec.json.decode(out)
    assert code == 0, account
    assert (account["sent"], account["applied"], account["rejected"]) == (12_000, 12_000, 0)
    assert account["duplicates"] <= account["resent"]


def test_an_import_with_another_key_is_refused_in_one_line(stack: Stack, data: Path) -> None:
    words = ("replay", str(data / "cdnow"), "--times", "original", "--limit", "5", "--url", stack.url)
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "cli", *words],
        capture_output=True, text=True, timeout=60, check=False, env=os.environ | {"KAIROS_SECRET_KEY": "not-the-key"},
    )  # fmt: skip
    assert answer.returncode == 2
    assert "KAIROS_SECRET_KEY" in answer.stderr
    assert answer.stderr.count("\n") == 1
