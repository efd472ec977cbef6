"""Does a consumer's position still exist in this log? Room: events. Asked by flows and tools before they read.

A log skips a trimmed gap silently and gives no sign of having been made anew, so a consumer that only asks for "what
follows" would lose events without a word. Absent: any repair; the message says what a person can do.
"""

from __future__ import annotations

from events.errors import LogError, PositionLost
from events.log import START, EventLog

_REBUILD = "or start with an empty store to rebuild the state from what the log holds"


def check_position(log: EventLog, partition: int, position: int, log_id: str, *, partitions: int | None = None) -> None:
    """Refuse a position that does not mean in `log` what it meant when it was committed.

    Parameters
    ----------
    position, log_id, partitions
        What the consumer committed: its position, the id of the log and, where known, the log's partition count.
        `START` with an empty `log_id` is a consumer that has read nothing yet.

    Raises
    ------
    LogError
        The log has no such partition, or another number of partitions than the state was built with.
    PositionLost
        Another log, a position beyond the end, or entries after the position that were trimmed.
    """
    if partitions is not None and partitions != log.partitions:
        raise LogError(
            f"the state was built with {partitions} partitions, log {log.log_id} has {log.partitions}: "
            f"point --log to the log that it was built from, {_REBUILD}"
        )
    if not 0 <= partition < log.partitions:
        raise LogError(
            f"partition {partition} is not in log {log.log_id}, which has 0 to {log.partitions - 1}: "
            "correct --partitions"
        )
    if log_id and log_id != log.log_id:
        raise PositionLost(
            f"partition {partition} was committed from log {log_id}, but this log is {log.log_id} (made anew?): "
            f"point --log to the log that the state was built from, {_REBUILD}"
        )
    _check_range(log, partition, position)


def _check_range(log: EventLog, partition: int, position: int) -> None:
    end = log.end(partition)
    if position > end:
        raise PositionLost(
            f"partition {partition} was committed up to position {position}, but log {log.log_id} ends at {end}: "
            f"the log lost its tail; restore it, {_REBUILD}"
        )
    floor = log.floor(partition)
    if position < floor:
        raise PositionLost(
            f"partition {partition} is committed up to {'its start' if position == START else f'position {position}'}, "
            f"but log {log.log_id} was trimmed up to {floor}, so the events between are gone: "
            f"restore a store that is at or past that position, {_REBUILD}"
        )
