"""The state store as the flows use it: blocking, batched, two round trips a round. Room: feature_store.

One connection a process. Commands are packed by hiredis and written together; a round's commits may be settled later,
while the next round is folded (the values stay in the flow's memory until then).
"""

from __future__ import annotations

import hashlib
import time
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


class StateStore:
    """Reads heads and values, and commits. Not safe to share between threads."""

    def __init__(self, connection: Any, url: str, timeout_s: float) -> None:
        self._connection = connection
        self._url = url
        self._timeout_s = timeout_s
        self._sent: list[Commit] = []

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
        names = list(partitions)
        with translated(self._url):
            found = self._ask([["GET", keys.position(p)] for p in names])
        return {p: value or b"" for p, value in zip(names, found, strict=True)}

    def read(
        self, wanted: Mapping[int, tuple[Sequence[str], Sequence[str]]]
    ) -> tuple[dict[str, Customer], dict[str, ItemState]]:
        """Return the stored customers (by key) and items (by id) that exist, in one round trip.

        Parameters
        ----------
        wanted
            By partition: customer keys, item ids.
        """
        commands: list[list[Any]] = []
        for partition, (customer_keys, item_ids) in wanted.items():
            if customer_keys:
                commands.append(["MGET", *customer_keys])
            if item_ids:
                commands.append(["HMGET", keys.items(partition), *item_ids])
        if not commands:
            return {}, {}
        self.settle()
        with translated(self._url):
            replies = iter(self._ask(commands))
        customers: dict[str, Customer] = {}
        items: dict[str, ItemState] = {}
        for customer_keys, item_ids in wanted.values():
            if customer_keys:
                found = zip(customer_keys, next(replies), strict=True)
                customers.update((key, decode_customer(value)) for key, value in found if value is not None)
            if item_ids:
                found = zip(item_ids, next(replies), strict=True)
                items.update((item_id, decode_item(value)) for item_id, value in found if value is not None)
        return customers, items

    def send(self, commits: Sequence[Commit]) -> None:
        """Send commits without waiting for their outcome; `settle` must follow."""
        self.settle()
        self._sent = list(commits)
        try:
            with translated(self._url):
                self._write([["EVALSHA", _SHA, *c.arguments] for c in commits])
        except StoreError:
            self._resettle()

    def settle(self) -> None:
        """Wait for what was sent.

        Raises
        ------
        Fenced
            Somebody else committed a partition.
        StoreError
            The store cannot be reached: whether the commits happened is found out by the next owner.
        """
        if not self._sent:
            return
        commits, self._sent = self._sent, []
        try:
            with translated(self._url):
                replies = [self._reply() for _ in commits]
        except StoreError:
            self._sent = commits
            self._resettle()
            return
        for commit, reply in zip(commits, replies, strict=True):
            judge(commit, self._again(commit) if isinstance(reply, redis.ResponseError) else reply)

    def close(self) -> None:
        self._connection.disconnect()

    def _resettle(self) -> None:
        """Bring commits of unknown outcome to an end: whoever finds its own head is done, else it tries once more."""
        commits, self._sent = self._sent, []
        with translated(self._url):
            self._connect()
            for commit in commits:
                found = self._ask([["GET", commit.head_key]])[0] or b""
                if found == commit.expected:
                    found = self._ask([["EVALSHA", _SHA, *commit.arguments]])[0]
                judge(commit, found)

    def _again(self, commit: Commit) -> Any:
        """Load the script, which a restarted server has forgotten, and run the commit again."""
        with translated(self._url):
            self._load()
            return self._ask([["EVALSHA", _SHA, *commit.arguments]])[0]

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
