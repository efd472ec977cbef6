"""The state store as the flows use it: blocking, batched, two round trips a round. Room: feature_store.

One connection a process. Commands are packed by hiredis and written together; a round's commits may be settled later,
while the next round is folded (the values stay in the flow's memory until then).
"""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from events.errors import SettingsError, StoreError, StoreTimeout
from feature_store import keys
from feature_store.codec import decode_customer, decode_item
from feature_store.commit import SCRIPT, Commit, judge
from feature_store.customer import Customer
from feature_store.head import Head, decode_head
from feature_store.item import ItemState

_SHA: Final = hashlib.sha1(SCRIPT, usedforsecurity=False).hexdigest()


def connection_settings(timeout_s: float) -> dict[str, Any]:
    """Return redis-py settings without its own retries, which take seconds (ARCHITECTURE §6)."""
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }


def redacted(url: str) -> str:
    """Return a URL without its password."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


@contextmanager
def translated(url: str) -> Iterator[None]:
    """Turn the client's exceptions into ours, cause chained."""
    try:
        yield
    except redis.TimeoutError as err:
        raise StoreTimeout(f"the store at {redacted(url)} did not answer in time") from err
    except redis.ConnectionError as err:
        raise StoreError(
            f"no Redis at {redacted(url)} ({err}): start one, or unset KAIROS_STORE_URL to use the embedded server"
        ) from err
    except redis.RedisError as err:
        raise StoreError(f"the store at {redacted(url)} refused: {err}") from err


Wanted = Mapping[int, tuple[Sequence[str], Sequence[str]]]


class Read:
    """A read that was sent: what was wanted by partition (customer keys, item ids), and the replies once they came."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.replies: list[Any] = []
        self.commands: list[list[Any]] = []
        for partition, (customer_keys, item_ids) in wanted.items():
            if customer_keys:
                self.commands.append(["MGET", *customer_keys])
            if item_ids:
                self.commands.append(["HMGET", keys.items(partition), *item_ids])

    def values(self) -> tuple[dict[str, Customer], dict[str, ItemState]]:
        """Return the customers (by key) and items (by id) that exist."""
        replies = iter(self.replies)
        customers: dict[str, Customer] = {}
        items: dict[str, ItemState] = {}
        for customer_keys, item_ids in self.wanted.values():
            if customer_keys:
                found = zip(customer_keys, next(replies), strict=True)
                customers.update((key, decode_customer(value)) for key, value in found if value is not None)
            if item_ids:
                found = zip(item_ids, next(replies), strict=True)
                items.update((item_id, decode_item(value)) for item_id, value in found if value is not None)
        return customers, items


class StateStore:
    """Reads heads and values, and commits. Not safe to share between threads.

    Reads and commits may be sent ahead of their replies, which come in the order of sending; so a read sees every
    commit that was sent before it.
    """

    def __init__(self, connection: Any, url: str, timeout_s: float) -> None:
        self._connection = connection
        self._url = url
        self._timeout_s = timeout_s
        self._pending: deque[Read | list[Commit]] = deque()

    @classmethod
    def open(cls, url: str, *, timeout_s: float = 5.0) -> StateStore:
        """Connect and load the script.

        Raises
        ------
        SettingsError
            `url` is not a Redis URL.
        StoreError
            Nobody answers there.
        """
        try:
            pool: Any = redis.ConnectionPool.from_url(url, **connection_settings(timeout_s))
        except ValueError as err:
            raise SettingsError(f"store {redacted(url)!r}: {err}") from err
        store = cls(pool.make_connection(), url, timeout_s)
        with translated(url):
            store._connect()
        return store

    def heads(self, partitions: Iterable[int]) -> dict[int, bytes]:
        """Return the stored head of each partition, ``b""`` where there is none."""
        self.settle()
        names = list(partitions)
        with translated(self._url):
            found = self._ask([["GET", keys.position(p)] for p in names])
        return {p: value or b"" for p, value in zip(names, found, strict=True)}

    def request(self, wanted: Wanted) -> Read:
        """Send a read of customers and items, one command a partition and kind; `receive` takes its replies."""
        read = Read(wanted)
        if read.commands:
            self._send(read, read.commands)
        return read

    def receive(self, read: Read) -> tuple[dict[str, Customer], dict[str, ItemState]]:
        """Wait for a read, settling what was sent before it; raises as `settle`."""
        if read in self._pending:
            self._drain(read)
        return read.values()

    def read(self, wanted: Wanted) -> tuple[dict[str, Customer], dict[str, ItemState]]:
        """Return the stored customers (by key) and items (by id) that exist, in one round trip."""
        return self.receive(self.request(wanted))

    def send(self, commits: Sequence[Commit]) -> None:
        """Send commits without waiting for their outcome; `settle`, or a later read, must follow."""
        if commits:
            self._send(list(commits), [["EVALSHA", _SHA, *c.arguments] for c in commits])

    def settle(self) -> None:
        """Wait for all that was sent.

        Raises
        ------
        Fenced
            Somebody else committed a partition.
        StoreError
            The store cannot be reached: whether the commits happened is found out by the next owner.
        """
        self._drain(None)

    def close(self) -> None:
        self._connection.disconnect()

    def _send(self, pending: Read | list[Commit], commands: Sequence[Sequence[Any]]) -> None:
        self._pending.append(pending)
        try:
            with translated(self._url):
                self._write(commands)
        except StoreError:
            self._recover()

    def _drain(self, until: Read | None) -> None:
        while self._pending:
            pending = self._pending[0]
            try:
                with translated(self._url):
                    replies = [self._reply() for _ in (pending.commands if isinstance(pending, Read) else pending)]
            except StoreError:
                replies = []
            if not replies or any(isinstance(reply, redis.ResponseError) for reply in replies):
                self._recover()  # a restarted server has forgotten the script, too
                return
            self._pending.popleft()
            if isinstance(pending, Read):
                pending.replies = replies
            else:
                for commit, reply in zip(pending, replies, strict=True):
                    judge(commit, reply)
            if pending is until:
                return

    def _recover(self) -> None:
        """Connect again and bring what was sent to an end, in order: whoever finds its own head is done."""
        pending, self._pending = self._pending, deque()
        with translated(self._url):
            self._connect()
            for sent in pending:
                if isinstance(sent, Read):
                    sent.replies = self._ask(sent.commands)
                    continue
                for commit in sent:
                    found = self._ask([["GET", commit.head_key]])[0] or b""
                    if found == commit.expected:
                        found = self._ask([["EVALSHA", _SHA, *commit.arguments]])[0]
                    judge(commit, found)

    def _connect(self) -> None:
        """Connect anew, patiently: a server that restarts is back within seconds."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            self._connection.disconnect()
            try:
                self._connection.connect()
                self._load()
                return
            except (redis.ConnectionError, redis.exceptions.BusyLoadingError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _load(self) -> None:
        self._ask([["SCRIPT", "LOAD", SCRIPT]])

    def _ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        self._write(commands)
        replies = [self._reply() for _ in commands]
        for reply in replies:
            if isinstance(reply, redis.ResponseError):
                raise reply
        return replies

    def _write(self, commands: Sequence[Sequence[Any]]) -> None:
        self._connection.send_packed_command(self._connection.pack_commands(commands))

    def _reply(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.exceptions.BusyLoadingError:
            raise
        except redis.ResponseError as err:
            return err


def head_of(value: bytes, partition: int, log_id: str, partitions: int) -> Head:
    """Return the stored head, or the head of a partition that has none yet."""
    return decode_head(value) if value else Head(log_id, partition, partitions)
