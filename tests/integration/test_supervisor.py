"""The supervisor with stand-in parts and the embedded store with its real binary: starts, deaths, stops, leftovers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from cli.data_dir import DataDir, Registration, StackFile, find, register
from cli.embedded import make_socket_dir, store_part, sync
from cli.parts import Identity, Part, identity, is_alive, kill_stale
from cli.supervisor import PartError, Supervisor
from events.errors import SettingsError

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
DEAF = (sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)")


class Scene:
    """A supervisor whose words are kept."""

    def __init__(self, tmp_path: Path, *parts: Part) -> None:
        self.lines: list[str] = []
        self.hurry = asyncio.Event()
        self.supervisor = Supervisor(tmp_path, self.lines.append, lambda: None, self.hurry)
        self.supervisor.add(parts)

    def pid(self, name: str) -> int:
        return self.supervisor.rows[name].pid

    def state(self, name: str) -> str:
        return self.supervisor.rows[name].state

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)


def test_a_part_that_is_killed_is_started_again_and_said_so_in_one_line(tmp_path: Path) -> None:
    async def play() -> None:
        scene = Scene(tmp_path, Part("flow-0", SLEEPER))
        await scene.supervisor.start(range(4))
        scene.supervisor.settle()
        first = scene.pid("flow-0")
        os.kill(first, signal.SIGKILL)
        await scene.wait(lambda: scene.pid("flow-0") != first and scene.state("flow-0") == "ready")
        assert scene.lines == ["flow-0 ended (SIGKILL); starting it again in 0.1 s"]
        assert scene.supervisor.rows["flow-0"].restarts == 1
        await scene.supervisor.stop()
        assert identity(scene.pid("flow-0")) is None

    asyncio.run(play())


def test_a_part_that_cannot_start_ends_the_start_with_its_last_words(tmp_path: Path) -> None:
    broken = (sys.executable, "-c", "print('first'); print('kairos: no such log'); raise SystemExit(2)")

    async def play() -> None:
        scene = Scene(tmp_path, Part("flow-0", broken, ready=never))
        try:
            with pytest.raises(PartError, match=r"flow-0 cannot start \(exit 2: kairos: no such log\)"):
                await scene.supervisor.start(range(4))
        finally:
            await scene.supervisor.stop()
        assert len(scene.lines) == 2

    async def never() -> bool:
        return False

    asyncio.run(play())


def test_a_program_that_is_not_there_ends_the_start_in_the_same_way(tmp_path: Path) -> None:
    async def play() -> None:
        scene = Scene(tmp_path, Part("flow-0", ("/no/such/program",)))
        try:
            with pytest.raises(PartError, match=r"flow-0 cannot start \(not started: No such file or directory\)"):
                await scene.supervisor.start(range(4))
        finally:
            await scene.supervisor.stop()

    asyncio.run(play())


def test_parts_stop_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    note = "import signal, sys, time\ndef end(*_): open(sys.argv[1], 'a').write(sys.argv[2] + ' '); sys.exit()\n"
    program = note + "signal.signal(15, end)\nprint('up', flush=True)\ntime.sleep(600)"
    order = tmp_path / "order"

    def part(name: str, stage: int) -> Part:
        async def ready() -> bool:
            return b"up" in (tmp_path / f"{name}.log").read_bytes()

        return Part(name, (sys.executable, "-c", program, str(order), name), stage=stage, ready=ready)

    async def play() -> None:
        scene = Scene(tmp_path, part("store", 0), part("materialiser", 1), part("flow-0", 2), part("api-0", 3))
        await scene.supervisor.start(range(4))
        await scene.supervisor.stop()

    asyncio.run(play())
    assert order.read_text().split() == ["api-0", "flow-0", "materialiser", "store"]


def test_a_part_waits_for_the_store_before_it_is_started_again(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()

    async def open_gate() -> bool:
        return gate.exists()

    async def play() -> None:
        scene = Scene(tmp_path, Part("store", SLEEPER, ready=open_gate), Part("flow-0", SLEEPER, stage=2))
        await scene.supervisor.start(range(4))
        scene.supervisor.settle()
        gate.unlink()
        store, flow = scene.pid("store"), scene.pid("flow-0")
        os.kill(store, signal.SIGKILL)
        os.kill(flow, signal.SIGKILL)
        await scene.wait(lambda: scene.state("store") == "starting" and scene.pid("store") != store)
        await asyncio.sleep(0.3)
        assert scene.state("flow-0") == "restarting"
        gate.touch()
        await scene.wait(lambda: scene.state("flow-0") == "ready" and scene.pid("flow-0") != flow)
        await scene.supervisor.stop()

    asyncio.run(play())


def test_a_second_signal_kills_what_does_not_want_to_end(tmp_path: Path) -> None:
    async def play() -> None:
        scene = Scene(tmp_path, Part("api-0", DEAF))
        await scene.supervisor.start(range(4))
        await asyncio.sleep(0.3)  # until the program ignores SIGTERM
        stopping = asyncio.create_task(scene.supervisor.stop())
        await asyncio.sleep(0.2)
        assert identity(scene.pid("api-0")) is not None
        scene.hurry.set()
        await stopping
        assert identity(scene.pid("api-0")) is None

    asyncio.run(play())


def test_parts_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = f"""
import asyncio, pathlib, sys
from cli.parts import Part
from cli.supervisor import Supervisor
async def play():
    supervisor = Supervisor(pathlib.Path(sys.argv[1]), print, lambda: None)
    supervisor.add([Part(f"flow-{{n}}", {DEAF!r}, stage=2) for n in range(3)])
    await supervisor.start(range(4))
    print(*(row.pid for row in supervisor.rows.values()), flush=True)
    await asyncio.sleep(600)
asyncio.run(play())
"""
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        children = [identity(int(pid)) for pid in process.stdout.readline().split()]
        assert len(children) == 3
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while any(child is not None and is_alive(child) for child in children):
        assert time.monotonic() < deadline, "children outlived their supervisor"
        time.sleep(0.01)


def test_the_embedded_store_keeps_every_acknowledged_write_through_sigkill(tmp_path: Path) -> None:
    sockets = make_socket_dir()

    async def play() -> None:
        scene = Scene(tmp_path, store_part(tmp_path, sockets / "s"))
        await scene.supervisor.start(range(1))
        scene.supervisor.settle()
        with redis.Redis.from_url(f"unix://{sockets}/s") as client:
            for number in range(2_000):
                client.rpush("numbers", number)
        first = scene.pid("store")
        os.kill(first, signal.SIGKILL)
        await scene.wait(lambda: scene.pid("store") != first and scene.state("store") == "ready")
        with redis.Redis.from_url(f"unix://{sockets}/s") as client:
            assert client.lrange("numbers", 0, -1) == [str(number).encode() for number in range(2_000)]
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("save") == {"save": ""}
        assert sync(tmp_path) == 1
        await scene.supervisor.stop()

    asyncio.run(play())
    assert not (sockets / "s").exists()
    sockets.rmdir()


def test_a_socket_directory_is_short_even_where_tmpdir_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    made = make_socket_dir()
    assert len(str(made / "valkey.sock").encode()) <= 107
    made.rmdir()


def test_a_data_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first, second = DataDir(tmp_path / "d"), DataDir(tmp_path / "d")
    first.own()
    with pytest.raises(SettingsError, match=r"a stack already runs on .*: stop it, or give another --data-dir"):
        second.own()
    first.release()
    second.own()
    second.release()


def test_the_secret_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    key = directory.secret_key()
    assert len(key) >= 40
    assert directory.secret_key() == key
    assert directory.key_path.stat().st_mode & 0o777 == 0o600


def test_stale_parts_are_killed_but_not_strangers_who_got_their_numbers() -> None:
    stale, stranger = subprocess.Popen(SLEEPER), subprocess.Popen(SLEEPER)
    known, other = identity(stale.pid), identity(stranger.pid)
    assert known is not None
    assert other is not None
    assert kill_stale([known, Identity(other.pid, other.birth - 1), Identity(0, 0)]) == [stale.pid]
    assert stale.wait(10) == -signal.SIGKILL
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
    assert kill_stale([known]) == []


def test_a_stack_file_of_a_dead_supervisor_is_not_a_running_stack(tmp_path: Path) -> None:
    directory = DataDir(tmp_path)
    own = identity(os.getpid())
    assert own is not None
    stack = StackFile(
        pid=own.pid, birth=own.birth, started=0, url="http://127.0.0.1:1", store_url="", log_url="", partitions=4
    )
    directory.write_stack(stack)
    assert directory.running() == stack
    stack.birth -= 1
    directory.write_stack(stack)
    assert directory.running() is None


def test_a_stack_is_found_by_its_port_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = identity(os.getpid())
    assert own is not None
    gone = register(8001, Registration("/elsewhere", own.pid, own.birth - 1))
    path = register(8000, Registration(str(tmp_path / "d"), own.pid, own.birth))
    assert not gone.exists()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    found = find("http://127.0.0.1:8000")
    assert found is not None
    assert found.path == tmp_path / "d"
    assert find("http://127.0.0.1:8001") is None
