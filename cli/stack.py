"""Which parts a stack has, in which order they start, and how it is taken down. Room: cli.

`kairos up` runs one in the foreground. Order: store, then the log in it, then materialiser, flows and API together;
ready when `/readyz` says so. The listening socket belongs to the supervisor, so a worker that dies drops no connection
that was not yet accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

from cli import embedded
from cli.data_dir import DataDir, Registration, StackFile, register
from cli.parts import Identity, Part, identity, kill_stale
from cli.settings import Settings
from cli.supervisor import Supervisor
from events.errors import LogError, SettingsError
from events.log import open_log

_PARTITIONS: Final = 4
_BACKLOG: Final = 1024
_PATIENCE_S: Final = 30.0  # until the stack says what it still waits for
Say = Callable[[str], None]
_LATER: Final = range(1, 4)  # stages: 0 store, 1 materialiser, 2 flows, 3 API


class Stack:
    """A stack that has its directory and its port; made by `opened`."""

    def __init__(
        self, settings: Settings, directory: DataDir, listening: socket.socket, say: Say, hurry: asyncio.Event
    ) -> None:
        self._settings = settings
        self._dir = directory
        self._socket = listening
        self._say = say
        self._key = settings.secret_key.get_secret_value() if settings.secret_key else directory.secret_key()
        self._supervisor = Supervisor(directory.logs, say, self._write, hurry)
        own = identity(os.getpid())
        self._file = StackFile(
            pid=os.getpid(),
            birth=own.birth if own else 0,
            started=time.time_ns() // 1_000_000,
            url=_url(listening),
            store_url=settings.store_url or "",
            log_url=settings.log_url or settings.store_url or "",
            partitions=settings.partitions or _PARTITIONS,
        )

    def embed(self, socket_dir: Path) -> None:
        """Bring the embedded store, answering in `socket_dir`."""
        path = socket_dir / "valkey.sock"
        self._file.socket_dir = str(socket_dir)
        self._file.store_url = f"unix://{path}"
        self._file.log_url = self._file.log_url or self._file.store_url
        self._supervisor.add([embedded.store_part(self._dir.path, path)])

    async def start(self) -> StackFile:
        """Start everything; return once `/readyz` is 200."""
        settings, supervisor, file = self._settings, self._supervisor, self._file
        await supervisor.start(range(1))
        file.partitions = await asyncio.to_thread(_open_log, file.log_url, settings.partitions)
        if settings.flow_processes > file.partitions:
            raise SettingsError(
                f"--flow-processes {settings.flow_processes}: the log has {file.partitions} partitions, "
                f"so at most {file.partitions} flows have work"
            )
        supervisor.add(self._later_parts())
        await supervisor.start(_LATER)
        await supervisor.until(asyncio.ensure_future(self._answering()))
        supervisor.settle()
        return file

    async def watch(self, stopping: asyncio.Future[Any]) -> None:
        """Wait for the word to stop; a fault of the supervisor itself ends the wait, too."""
        await self._supervisor.until(stopping)

    async def stop(self) -> None:
        """Stop everything; new connections are refused, not left hanging."""
        self._socket.close()
        await self._supervisor.stop()

    def register(self) -> Path:
        """Let tools that know the port find the directory."""
        port = int(self._file.url.rpartition(":")[2])
        return register(port, Registration(str(self._dir.path), self._file.pid, self._file.birth))

    def _write(self) -> None:
        self._file.parts = list(self._supervisor.rows.values())
        with contextlib.suppress(OSError):  # a full disk must not end the supervision
            self._dir.write_stack(self._file)

    def _later_parts(self) -> list[Part]:
        urls = ("--log", self._file.log_url, "--store", self._file.store_url)
        descriptor = self._socket.fileno()
        api = (*kairos("api"), "--fd", str(descriptor), *urls, "--data-dir", str(self._dir.path))
        environment = {"KAIROS_SECRET_KEY": self._key, "OMP_WAIT_POLICY": "PASSIVE"}
        flows = split(self._file.partitions, self._settings.flow_processes)
        return [
            Part("materialiser", (*kairos("dataflow", "materialiser"), *urls), stage=1),
            *(
                Part(f"flow-{n}", (*kairos("dataflow", "features"), *urls, "--partitions", span), stage=2)
                for n, span in enumerate(flows)
            ),
            *(
                Part(f"api-{n}", api, environment, pass_fds=(descriptor,), stage=3)
                for n in range(self._settings.api_workers)
            ),
        ]

    async def _answering(self) -> None:
        """Wait until the API says that it is ready; after a while say what it waits for."""
        patience = time.monotonic() + _PATIENCE_S
        while (status := await _get_status(self._file.url, "/readyz")) != 200:
            if time.monotonic() > patience:
                self._say(f"still starting: /readyz answers {status or 'nothing'}; logs are in {self._dir.logs}")
                patience = float("inf")
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def opened(settings: Settings, say: Say, hurry: asyncio.Event) -> AsyncIterator[Stack]:
    """Take the directory and the port, clear away what a killed supervisor left; at the end leave nothing.

    Once `hurry` is set, a stop kills instead of asking.
    """
    async with contextlib.AsyncExitStack() as cleanup:
        directory = DataDir(settings.data_dir)
        directory.own()
        cleanup.callback(directory.release)
        listening = cleanup.enter_context(_listen(settings.host, settings.port))
        _clear_stale(directory, say)
        stack = Stack(settings, directory, listening, say, hurry)
        if settings.store_url is None:
            socket_dir = embedded.make_socket_dir()
            cleanup.callback(shutil.rmtree, socket_dir, ignore_errors=True)
            stack.embed(socket_dir)
            syncing = asyncio.create_task(embedded.keep_synced(directory.path, say))
            cleanup.callback(syncing.cancel)
        cleanup.callback(stack.register().unlink, missing_ok=True)
        cleanup.callback(directory.stack_path.unlink, missing_ok=True)
        cleanup.push_async_callback(stack.stop)
        yield stack


def _clear_stale(directory: DataDir, say: Say) -> None:
    """End the parts and remove the socket of a stack whose supervisor is gone (we hold its lock)."""
    old = directory.stack()
    if old is None:
        return
    if killed := kill_stale([Identity(row.pid, row.birth) for row in old.parts]):
        say(f"ended {len(killed)} parts that an earlier stack left running")
    if Path(old.socket_dir).name.startswith("kairos-"):
        shutil.rmtree(old.socket_dir, ignore_errors=True)


def split(partitions: int, processes: int) -> list[str]:
    """Return the partitions of each flow, evenly and in order.

    Examples
    --------
    >>> split(4, 2), split(5, 2), split(4, 4)
    (['0-1', '2-3'], ['0-2', '3'], ['0', '1', '2', '3'])
    """
    share, more = divmod(partitions, processes)
    spans, first = [], 0
    for process in range(processes):
        last = first + share + (process < more) - 1
        spans.append(str(first) if first == last else f"{first}-{last}")
        first = last + 1
    return spans


def kairos(*words: str) -> tuple[str, ...]:
    """Return the command of one of our own processes: this Python, and no rooms from the current directory (-P)."""
    return (sys.executable, "-P", "-m", "cli", *words)


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except socket.gaierror as err:
        raise SettingsError(f"--host {host} is no address of this machine: {err.strerror}") from err
    except OSError as err:
        reason = os.strerror(err.errno) if err.errno else str(err)
        raise SettingsError(
            f"cannot listen on {host}:{port}: {reason.lower()}; give another --port (0: any free one)"
        ) from err


def _open_log(url: str, partitions: int | None) -> int:
    """Make the log where there is none; return its partition count."""
    try:
        log = open_log(url, partitions=partitions)
    except LogError:
        if partitions is not None:
            raise
        log = open_log(url, partitions=_PARTITIONS)
    try:
        return log.partitions
    finally:
        log.close()


async def _get_status(url: str, path: str) -> int:
    """Return the status of a GET, 0 without an answer within two seconds."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
                return int((await reader.readline()).split()[1])
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError, IndexError):
        return 0
