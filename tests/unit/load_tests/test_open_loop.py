"""The generator against a small server in this process: schedule, latency from the planned time, exact counts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from load_tests.histogram import Latencies
from load_tests.http_client import Client
from load_tests.open_loop import Report, Spec, Target

Serving = Callable[..., Any]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + b'{"degraded":null}'


async def ok(number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


def play(tmp_path: Path, spec: Spec) -> Report:
    file = tmp_path / "spec.json"
    file.write_bytes(msgspec.json.encode(spec))
    command = [sys.executable, "-m", "load_tests.open_loop", str(file)]
    answer = subprocess.run(command, capture_output=True, check=True, timeout=60)
    return msgspec.json.decode(answer.stdout, type=Report)


def requests(tmp_path: Path, count: int = 100) -> str:
    file = tmp_path / "requests.ndjson"
    file.write_text("".join(json.dumps({"customer_id": f"c{i}"}) + "\n" for i in range(count)))
    return str(file)


def test_a_schedule_is_kept_and_every_answer_counted(tmp_path: Path, serving: Serving) -> None:
    with serving(ok) as url:
        target = Target(
            "answers", f"{url}/v1/x", requests(tmp_path), 200.0, {"fine": '"degraded":null', "bad": '"degraded":{'}
        )
        report = play(tmp_path, Spec(targets=[target], seconds=1.0, warmup_s=0.2, arrivals="fixed"))
    answers = report.targets["answers"]
    assert 199 <= answers.planned <= 200
    assert answers.answered == answers.planned == answers.latency_ms["count"] == report.lag_ms["count"]
    assert answers.marks == {"fine": answers.planned, "bad": 0}
    assert sum(answers.errors.values()) == 0
    assert Latencies(answers.histogram).count == answers.planned


def test_poisson_arrivals_are_of_the_stated_rate_and_equal_for_equal_seeds(tmp_path: Path) -> None:
    from load_tests.open_loop import _schedule

    class Load:
        rate = 500.0

    due, owners = _schedule([Load(), Load()], 60.0, "poisson", 1)  # type: ignore[list-item]
    assert len(due) == pytest.approx(60_000, rel=0.02)
    assert due == sorted(due)
    assert (due, owners) == _schedule([Load(), Load()], 60.0, "poisson", 1)  # type: ignore[list-item]
    gaps = np.diff(due)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_a_stall_is_seen_by_all_requests_that_it_delays(tmp_path: Path, serving: Serving) -> None:
    """100 requests a second and one stall of 300 ms: a closed loop would see one slow answer, we see about thirty."""

    async def stall(number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if number == 20:
            import time

            time.sleep(0.3)  # the whole server stands still
        writer.write(OK)

    with serving(stall) as url:
        target = Target("answers", f"{url}/", requests(tmp_path), 100.0)
        report = play(tmp_path, Spec(targets=[target], seconds=1.0, warmup_s=0, arrivals="fixed", connections=2))
    answers = report.targets["answers"]
    assert answers.answered == answers.planned
    slow = Latencies(answers.histogram)
    assert slow.ms(80) > 50
    assert slow.ms(100) > 250


def test_errors_are_counted_by_kind(tmp_path: Path, serving: Serving) -> None:
    async def refuse(number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if number % 2:
            writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")
        else:
            writer.write(OK)

    with serving(refuse) as url:
        target = Target("answers", f"{url}/", requests(tmp_path), 100.0)
        report = play(tmp_path, Spec(targets=[target], seconds=0.5, warmup_s=0, arrivals="fixed"))
    answers = report.targets["answers"]
    assert answers.errors["503"] == answers.planned // 2


def test_a_connection_that_was_closed_while_idle_is_no_error(tmp_path: Path, serving: Serving) -> None:
    async def close_after_each(number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        await writer.drain()
        writer.close()

    with serving(close_after_each) as url:
        target = Target("answers", f"{url}/", requests(tmp_path), 50.0)
        report = play(tmp_path, Spec(targets=[target], seconds=0.6, warmup_s=0, arrivals="fixed", connections=2))
    answers = report.targets["answers"]
    assert answers.answered == answers.planned
    assert sum(answers.errors.values()) == 0


def test_an_answer_that_never_comes_is_an_error(tmp_path: Path, serving: Serving) -> None:
    async def mute(number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if number:
            writer.write(OK)

    with serving(mute) as url:
        target = Target("answers", f"{url}/", requests(tmp_path), 50.0)
        report = play(tmp_path, Spec(targets=[target], seconds=0.3, warmup_s=0, arrivals="fixed", timeout_s=0.3))
    assert report.targets["answers"].errors["timeout"] == 1


def test_a_closed_loop_keeps_its_connections_busy_and_requests_in_order(tmp_path: Path, serving: Serving) -> None:
    seen: list[bytes] = []

    async def remember(number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append(body)
        writer.write(OK)

    with serving(remember) as url:
        target = Target("answers", f"{url}/", requests(tmp_path, 5))
        report = play(tmp_path, Spec(targets=[target], seconds=0.3, warmup_s=0, closed=True, connections=1))
    answers = report.targets["answers"]
    assert answers.answered == len(seen) > 5
    assert [json.loads(body)["customer_id"] for body in seen[:6]] == ["c0", "c1", "c2", "c3", "c4", "c0"]


def test_the_client_keeps_connections_and_reads_answers(serving: Serving) -> None:
    async def talk(url: str) -> list[Any]:
        client = Client(url, connections=2)
        answers = await asyncio.gather(*(client.send("/v1/x", b"{}") for _ in range(10)), client.get("/"))
        await client.close()
        return answers

    with serving(ok) as url:
        answers = asyncio.run(talk(url))
    assert [answer.status for answer in answers] == [200] * 11
    assert answers[0].json() == {"degraded": None}


def test_the_client_gives_up_after_its_timeout(serving: Serving) -> None:
    async def mute(number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        return

    async def talk(url: str) -> None:
        client = Client(url, timeout_s=0.1)
        with pytest.raises(TimeoutError):
            await client.get("/")
        await client.close()

    with serving(mute) as url:
        asyncio.run(talk(url))


def test_the_client_wants_an_http_address() -> None:
    with pytest.raises(ValueError, match="no http:// address"):
        Client("ftp://somewhere")
