"""The event log: what every backend promises. Room: events.

A log has a fixed number of partitions, an id made with it, and positions that only grow. A position is an int64
whose order is all that it promises: the Kafka offset, or ``ms << 20 | seq`` of a stream id. `START` is before the first
entry.
Two backends pass one contract suite: `events.redis_log` (default) and `events.kafka_log`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

START: Final = -1


class Batch(NamedTuple):
    """Consecutive entries of one partition, in log order."""

    partition: int
    positions: list[int]
    payloads: list[bytes]


class EventLog(Protocol):
    """A durable, partitioned, append-only log, as flows and tools use it (blocking)."""

    log_id: str
    partitions: int

    def append(self, records: Sequence[tuple[int, bytes]]) -> list[int]:
        """Append ``(partition, payload)`` records; return their positions once they are durable by the log's policy.

        Raises
        ------
        LogTimeout
            No answer in time: each record may or may not be in the log (the flow drops repeats by event id).
        """

    def read(self, after: Mapping[int, int], *, limit: int, wait_ms: int = 0) -> list[Batch]:
        """Return what follows the given positions: at most one batch a partition, at most `limit` entries each.

        Waits up to `wait_ms` when there is nothing; partitions without news are left out.
        """

    def end(self, partition: int) -> int:
        """Return the position of the last entry ever appended, `START` if there is none."""

    def floor(self, partition: int) -> int:
        """Return the highest position that trimming may have removed, `START` if nothing was."""

    def trim(self, partition: int, upto: int) -> int:
        """Remove entries at and before `upto`, never past the slowest registered consumer; return the new floor.

        The floor is raised first, so a reader that finds a gap also finds out why.
        """

    def register(self, consumer: str, positions: Mapping[int, int]) -> None:
        """Say how far a consumer's commits have come; trimming stays behind the slowest."""

    def consumers(self) -> dict[str, dict[int, int]]:
        """Return the registered consumers' positions."""

    def close(self) -> None:
        """Flush and let go of connections."""


class AsyncAppender(Protocol):
    """The intake's side of a log: append only, on the event loop."""

    log_id: str
    partitions: int

    async def append(self, records: Sequence[tuple[int, bytes]]) -> list[int]:
        """As `EventLog.append`, without blocking the loop."""

    async def close(self) -> None:
        """Flush and let go of connections."""


def open_log(url: str, *, partitions: int | None = None) -> EventLog:
    """Open the log at `url`, making it with `partitions` partitions where there is none.

    Parameters
    ----------
    url
        ``redis://host:port``, ``unix:///path/to.sock`` or ``kafka://host:port/topic``.
    partitions
        Count for a new log. An existing log keeps its own; if given and different, that is an error.

    Raises
    ------
    SettingsError
        Unknown scheme, or another partition count than the log's own.
    LogError
        Unreachable, or no log there and no `partitions` given.
    """
    if url.startswith("kafka://"):
        from events.kafka_log import KafkaLog

        return KafkaLog.open(url, partitions=partitions)
    from events.redis_log import RedisLog

    return RedisLog.open(url, partitions=partitions)


async def open_appender(url: str) -> AsyncAppender:
    """Open the intake's side of an existing log; raises as `open_log`."""
    if url.startswith("kafka://"):
        from events.kafka_log import KafkaAppender

        return await KafkaAppender.open(url)
    from events.redis_log import RedisAppender

    return await RedisAppender.open(url)
