"""The data directory: who runs on it, its secret key, and how a stack is found by its port. Room: cli.

`kairos up` owns one through a file lock that the kernel gives back however the owner ends; `stack.json` says what runs.
Tools that know only a URL find the directory through ``<tmpdir>/kairos-<uid>/<port>.json``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import tempfile
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import msgspec

from cli.parts import Identity, is_alive
from cli.supervisor import Row
from events.errors import SettingsError


class StackFile(msgspec.Struct, kw_only=True):
    """`stack.json`: the running stack."""

    pid: int
    birth: int
    started: int
    url: str
    store_url: str
    log_url: str
    partitions: int
    parts: list[Row] = []
    socket_dir: str = ""


class Registration(msgspec.Struct):
    """``<port>.json``: which data directory serves a port."""

    data_dir: str
    pid: int
    birth: int = 0


class DataDir:
    """The files of one data directory."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self.stack_path = self.path / "stack.json"
        self.key_path = self.path / "secret.key"
        self._lock: IO[str] | None = None

    def own(self) -> None:
        """Make the directory and take it for this process.

        Raises
        ------
        SettingsError
            A stack runs on it, or it cannot be made.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as err:
            raise SettingsError(f"--data-dir {self.path} cannot be used: {err.strerror}") from err
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            running = self.stack()
            who = f" at {running.url} (pid {running.pid})" if running else ""
            raise SettingsError(
                f"a stack already runs on {self.path}{who}: stop it, or give another --data-dir"
            ) from None
        self._lock = lock

    def release(self) -> None:
        """Give the directory back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def stack(self) -> StackFile | None:
        """Return what `stack.json` says, None without one (or with half of one)."""
        try:
            return msgspec.json.decode(self.stack_path.read_bytes(), type=StackFile)
        except (OSError, msgspec.DecodeError):
            return None

    def running(self) -> StackFile | None:
        """Return the stack that runs here now."""
        stack = self.stack()
        return stack if stack is not None and is_alive(Identity(stack.pid, stack.birth)) else None

    def write_stack(self, stack: StackFile) -> None:
        """Replace `stack.json` in one step."""
        _write_aside(self.stack_path, msgspec.json.encode(stack))

    def secret_key(self) -> str:
        """Return the key of this directory, making it, readable by its owner only, where there is none."""
        try:
            descriptor = os.open(self.key_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return self.key_path.read_text().strip()
        with os.fdopen(descriptor, "w") as file:
            key = secrets.token_urlsafe(32)
            file.write(key + "\n")
        return key


def register(port: int, registration: Registration) -> Path:
    """Let tools find the data directory of a port; return the file."""
    path = _registrations() / f"{port}.json"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.parent.stat().st_uid != os.getuid():
        raise SettingsError(f"{path.parent} belongs to somebody else: set TMPDIR to a directory of your own")
    for other in path.parent.glob("*.json"):
        if _registered(other) is None:
            other.unlink(missing_ok=True)  # its stack was killed
    _write_aside(path, msgspec.json.encode(registration))
    return path


def find(url: str) -> DataDir | None:
    """Return the data directory of the stack that serves a URL of this machine, None if none of ours does."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    directory = _registrations()
    try:
        if directory.stat().st_uid != os.getuid():
            return None
    except OSError:
        return None
    registration = _registered(directory / f"{port}.json")
    return DataDir(Path(registration.data_dir)) if registration is not None else None


def _registered(path: Path) -> Registration | None:
    """Return a registration whose stack runs."""
    try:
        registration = msgspec.json.decode(path.read_bytes(), type=Registration)
    except (OSError, msgspec.DecodeError):
        return None
    return registration if is_alive(Identity(registration.pid, registration.birth)) else None


def _registrations() -> Path:
    return Path(tempfile.gettempdir()) / f"kairos-{os.getuid()}"


def _write_aside(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    with contextlib.suppress(FileNotFoundError):
        aside.replace(path)
