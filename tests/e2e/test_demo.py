"""`kairos demo`: an exact account, nothing left running, also when interrupted."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from tests.e2e.processes import Command, until

PROMISED = {
    "events_sent", "events_applied", "duplicates", "dead_lettered", "expected_dead_letters", "customers", "answers",
    "degraded_share", "answer_p99_ms", "freshness_p99_ms", "personalised_share",
}  # fmt: skip


def summary(printed: str) -> dict[str, Any]:
    """Return the one object on stdout."""
    assert printed.strip().count("\n") == 0
    return msgspec.json.decode(printed, type=dict[str, Any])


def test_the_demo_ends_by_itself_with_an_exact_account_and_leaves_nothing() -> None:
    command = Command(
        "demo", "--for", "6s", "--json", "--port", "0", "--data", "simulator", "--rate", "60", stderr=subprocess.DEVNULL
    )
    try:
        code, printed = command.wait(seconds=170)
        found = summary(printed)
        assert code == 0, found
        assert set(found) >= PROMISED
        assert found["events_sent"] == found["events_applied"] + found["duplicates"] + found["dead_lettered"]
        assert found["dead_lettered"] == found["expected_dead_letters"]
        assert found["events_applied"] > 100
        assert found["answers"] > 20
        assert found["personalised_share"] > 0
        assert command.children() == []
    finally:
        command.close()


def test_a_demo_on_real_sessions_that_is_interrupted_accounts_for_what_it_sent(data: Path) -> None:
    command = Command("demo", "--port", "0", "--rate", "60", "--data", str(data / "jdata-demo"))
    try:
        command.line("events/s ·", seconds=150)
        code, printed = command.end(signal.SIGINT)
        assert code == 0, printed
        assert " events sent = " in printed
        assert command.children() == []
    finally:
        command.close()


def test_a_demo_that_is_interrupted_while_it_starts_leaves_nothing() -> None:
    command = Command("demo", "--json", "--port", "0", stderr=subprocess.DEVNULL)
    try:
        until(lambda: len(command.children()) >= 4)
        code, printed = command.end(signal.SIGTERM)
        assert code == 0, printed
        assert printed.strip() == ""
        assert command.children() == []
    finally:
        command.close()


def test_a_demo_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    command = Command("demo", "--json", "--port", "0", stderr=subprocess.DEVNULL, tmpdir=tmp_path)
    try:
        until(lambda: len(command.children()) >= 4)
        command.end(signal.SIGKILL)
        until(lambda: not command.children())
    finally:
        command.close()
