"""The exact account of a replay. Room: cli.

What was sent is counted here; what became of it is the difference of the partitions' heads between before and after,
taken once the flows have reached the end that the log had when the last event was in.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec

from events.log import EventLog, open_log
from feature_store.head import Head
from feature_store.store import StateStore, head_of

_PATIENCE_S: Final = 60.0  # without any progress
_EVERY_S: Final = 0.05


class Account(msgspec.Struct):
    """What `kairos replay --json` prints."""

    files: list[str]
    read: int = 0  # rows
    sent: int = 0  # events
    accepted: int = 0  # by the API or its decoder, then in the log
    repeated: int = 0  # within one request
    rejected: int = 0  # by the API or its decoder, then in the dead letters
    resent: int = 0  # events of requests whose outcome was unknown, so that a second copy may be a duplicate
    items: int = 0  # told to the catalogue
    applied: int = 0
    duplicates: int = 0
    dead_lettered: int = 0  # by intake (rejected) and by the flows
    customers: int = 0  # made
    seconds: float = 0.0  # reading and sending
    settled_s: float = 0.0  # until the flows had applied it, from the first event on
    events_per_s: float = 0.0
    clamped: int = 0  # events more than 30 days old, whose time was moved
    shift_ms: int = 0
    exact: bool = False  # sent = applied + duplicates + dead_lettered
    problem: str = ""


class Flows:
    """The heads before the replay, and how they moved since."""

    def __init__(self, log_url: str, store_url: str) -> None:
        self._log: EventLog = open_log(log_url)
        self._store = StateStore.open(store_url)
        self._before = self._heads()

    @property
    def log(self) -> EventLog:
        """The log that is played into."""
        return self._log

    def settle(self, account: Account, tell: Callable[[int], None]) -> None:
        """Wait until the flows have reached the log's end, then complete the account; `tell` gets entries done."""
        ends = {partition: self._log.end(partition) for partition in range(self._log.partitions)}
        already = sum(head.entries for head in self._before.values())
        patience, seen = time.monotonic() + _PATIENCE_S, already
        while True:
            heads = self._heads()
            entries = sum(head.entries for head in heads.values())
            tell(entries - already)
            behind = [partition for partition, head in heads.items() if head.position < ends[partition]]
            if not behind:
                break
            if entries != seen:
                patience, seen = time.monotonic() + _PATIENCE_S, entries
            elif time.monotonic() > patience:
                where = ", ".join(map(str, behind))
                account.problem = f"the flows stand still before the end of partition {where}: see `kairos status`"
                break
            time.sleep(_EVERY_S)
        self._complete(account, heads)

    def _complete(self, account: Account, heads: dict[int, Head]) -> None:
        def moved(name: str) -> int:
            return sum(getattr(head, name) - getattr(self._before[p], name) for p, head in heads.items())

        account.applied, account.duplicates = moved("applied"), moved("duplicates")
        account.dead_lettered = moved("dead_lettered") + account.rejected
        account.customers = moved("customers")
        judge(account)

    def _heads(self) -> dict[int, Head]:
        log = self._log
        stored = self._store.heads(range(log.partitions))
        return {p: head_of(value, p, log.log_id, log.partitions) for p, value in stored.items()}

    def close(self) -> None:
        """Close log and store."""
        self._store.close()
        self._log.close()


def judge(account: Account) -> None:
    """Say whether every event is accounted for, and if not, why that may be."""
    found = account.applied + account.duplicates + account.dead_lettered
    expected = account.sent - account.repeated
    account.exact = expected <= found <= expected + account.resent and not account.problem
    if account.exact or account.problem:
        return
    if found > expected:
        account.problem = f"{found - expected:,} more events were applied than sent: there was other traffic meanwhile"
    else:
        account.problem = f"{expected - found:,} events are missing: see `kairos status` and `kairos dead-letters list`"
