"""`kairos up` with its real parts: ready once, restarts what dies, refuses what cannot be, leaves nothing."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.e2e.processes import Command, run, status, until
from tests.servers import Kafka, Valkey


class Stack(Command):
    """A running stack."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        super().__init__("up", "--port", "0", "--data-dir", str(data_dir), *options)
        self.url = self.line("kairos is ready at ").split()[4]

    def part(self, name: str) -> dict[str, Any]:
        stack = msgspec.json.decode((self.data_dir / "stack.json").read_bytes(), type=dict[str, Any])
        return next(part for part in stack["parts"] if part["name"] == name)

    def send(self, customer: str) -> dict[str, Any]:
        event = {"event": "view_item", "event_id": str(uuid.uuid4()), "customer_id": customer}
        answer = httpx.post(f"{self.url}/v1/events", json={**event, "items": [{"item_id": "i1"}]}, timeout=10)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("up"), "--flow-processes", "2", "--api-workers", "2")
    yield running
    running.close()


def test_status_shows_every_part_and_the_account(stack: Stack) -> None:
    stack.send("c-status")
    shown = until(lambda: (found := status(stack.data_dir))["account"]["applied"] and found)
    assert [part["name"] for part in shown["parts"]] == ["store", "materialiser", "flow-0", "flow-1", "api-0", "api-1"]
    assert {part["state"] for part in shown["parts"]} == {"ready"}
    assert all(part["rss_bytes"] > 0 for part in shown["parts"])
    assert shown["url"] == stack.url
    assert set(shown["positions"]) == set(shown["lag"]) == {"0", "1", "2", "3"}
    assert set(shown["lag"].values()) == {0}


def test_a_second_stack_on_the_same_directory_is_refused_in_one_line(stack: Stack) -> None:
    answer = run("up", "--port", "0", "--data-dir", str(stack.data_dir))
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert f"a stack already runs on {stack.data_dir} at {stack.url}" in answer.stderr


def test_a_port_in_use_is_refused_in_one_line(stack: Stack, tmp_path: Path) -> None:
    answer = run("up", "--port", stack.url.rpartition(":")[2], "--data-dir", str(tmp_path))
    assert answer.returncode == 2
    assert answer.stderr.count("\n") == 1
    assert "address already in use; give another --port" in answer.stderr


def test_more_flows_than_partitions_are_refused_with_the_number(tmp_path: Path) -> None:
    answer = run("up", "--port", "0", "--data-dir", str(tmp_path), "--flow-processes", "5")
    assert answer.returncode == 2
    assert "--flow-processes 5: the log has 4 partitions" in answer.stderr


def test_items_of_a_file_are_loaded_and_shown(stack: Stack, tmp_path: Path) -> None:
    file = tmp_path / "items.csv"
    file.write_text("item_id,title,category,brand,price,currency,stock\np-1,Pan,kitchen/pans,Alba,39.5,EUR,4\n")
    answer = run("catalog", "load", str(file), "--data-dir", str(stack.data_dir))
    assert (answer.returncode, answer.stdout) == (0, "1 items accepted, 0 refused\n")
    shown = until(lambda: (found := run("catalog", "show", "p-1", "--url", stack.url)).returncode == 0 and found.stdout)
    item = msgspec.json.decode(shown, type=dict[str, Any])
    assert (item["title"], item["category"], item["price"], item["stock"]) == ("Pan", "kitchen/pans", 39.5, 4)


@pytest.mark.parametrize("name", ["flow-0", "materialiser", "api-1", "store"])
def test_a_part_that_is_killed_comes_back_and_nothing_acknowledged_is_lost(stack: Stack, name: str) -> None:
    before, applied = stack.part(name), status(stack.data_dir)["account"]["applied"]
    for number in range(20):
        stack.send(f"c-{name}-{number}")
    os.kill(before["pid"], signal.SIGKILL)
    assert f"{name} ended (SIGKILL); starting it again" in stack.line(f"{name} ended")
    until(lambda: stack.part(name)["pid"] != before["pid"] and stack.part(name)["state"] == "ready")
    assert stack.part(name)["restarts"] == before["restarts"] + 1
    until(lambda: httpx.get(f"{stack.url}/readyz", timeout=5).status_code == 200)
    until(lambda: stack.send(f"c-{name}-after"))
    until(lambda: status(stack.data_dir)["account"]["applied"] >= applied + 21)


def test_sigterm_stops_all_parts_and_leaves_nothing(stack: Stack) -> None:
    sockets = msgspec.json.decode((stack.data_dir / "stack.json").read_bytes())["socket_dir"]
    assert len(stack.children()) == 6
    code, printed = stack.end(signal.SIGTERM)
    assert code == 0, printed
    assert printed.count("kairos is ready at") == 1
    assert stack.children() == []
    assert not (stack.data_dir / "stack.json").exists()
    assert not Path(sockets).exists()


def test_a_killed_supervisor_leaves_no_process_and_its_successor_finds_the_state(tmp_path: Path) -> None:
    first = Stack(tmp_path)
    try:
        first.send("c-kept")
        until(lambda: status(tmp_path)["account"]["applied"] == 1)
        first.end(signal.SIGKILL)
        until(lambda: not first.children())
    finally:
        first.close()
    second = Stack(tmp_path)
    try:
        assert httpx.get(f"{second.url}/v1/customers/c-kept", timeout=10).status_code == 200
        assert status(tmp_path)["account"]["applied"] == 1
        assert second.end(signal.SIGINT)[0] == 0
        assert second.children() == []
    finally:
        second.close()


def test_an_interrupted_start_leaves_nothing(tmp_path: Path) -> None:
    command = Command("up", "--port", "0", "--data-dir", str(tmp_path))
    try:
        until(lambda: len(command.children()) >= 3)
        code, printed = command.end(signal.SIGINT)
        assert code == 0, printed
        assert command.children() == []
    finally:
        command.close()


def test_a_stack_on_a_store_of_ones_own_brings_none(own_valkey: Valkey, tmp_path: Path) -> None:
    stack = Stack(tmp_path, "--store", own_valkey.tcp_url)
    try:
        stack.send("c-own")
        shown = until(lambda: (found := status(tmp_path))["account"]["applied"] and found)
        assert [part["name"] for part in shown["parts"]] == ["materialiser", "flow-0", "api-0"]
        assert stack.end(signal.SIGTERM)[0] == 0
    finally:
        stack.close()


def test_a_stack_keeps_its_log_in_kafka(kafka: Kafka, tmp_path: Path) -> None:
    stack = Stack(tmp_path, "--log", kafka.topic_url(), "--flow-processes", "2")
    try:
        for number in range(10):
            stack.send(f"c-{number}")
        until(lambda: status(tmp_path)["account"]["applied"] == 10)
        assert stack.end(signal.SIGTERM)[0] == 0
    finally:
        stack.close()


def test_another_partition_count_than_the_logs_own_is_refused_with_the_way_out(tmp_path: Path) -> None:
    stack = Stack(tmp_path)
    stack.end(signal.SIGTERM)
    stack.close()
    answer = run("up", "--port", "0", "--data-dir", str(tmp_path), "--partitions", "8")
    assert answer.returncode == 2
    assert "has 4 partitions, not 8" in answer.stderr
    assert "start with --partitions 4" in answer.stderr
