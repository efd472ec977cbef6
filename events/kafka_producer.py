"""Producing to the Kafka log: one idempotent producer, one `Delivery` for each append. Room: events.

Called by `events.kafka_log` (blocking) and by intake through `events.kafka_appender` (on the event loop).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, Producer

from events.errors import LogError, LogTimeout

_TIMEOUTS: Final = (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT)


def make_producer(client: dict[str, Any], timeout_s: float) -> Any:
    """Return a producer whose acknowledged records are on all in-sync replicas, each once and in order."""
    return Producer(
        {
            **client,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 1,
            "compression.type": "lz4",
            "delivery.timeout.ms": int(timeout_s * 1000),
        }
    )


class Delivery:
    """The acknowledgements of one append, in the order of its records; `then` is called once, with the last one."""

    def __init__(self, count: int, then: Callable[[], object] | None = None) -> None:
        self._offsets = [-1] * count
        self._left = count
        self._error: Any = None
        self._then = then

    @property
    def complete(self) -> bool:
        """Whether every record was acknowledged or given up."""
        return self._left == 0

    def produce(self, producer: Any, topic: str, records: Sequence[tuple[int, bytes]]) -> None:
        """Hand the records to the producer; one that it cannot take counts as given up."""
        for index, (partition, payload) in enumerate(records):
            try:
                producer.produce(topic, value=payload, partition=partition, on_delivery=self._settler(index))
            except BufferError:
                self._settle(index, KafkaError(KafkaError._QUEUE_FULL), None)

    def positions(self) -> list[int]:
        """Return the offsets.

        Raises
        ------
        LogTimeout
            No acknowledgement in time: the record may or may not be in the log.
        LogError
            The broker refused a record, or the send queue is full.
        """
        if self._error is None:
            return self._offsets
        if self._error.code() in _TIMEOUTS:
            raise LogTimeout(f"the log did not acknowledge in time: {self._error.str()}")
        raise LogError(f"the log refused an event: {self._error.str()}")

    def _settler(self, index: int) -> Callable[[Any, Any], None]:
        return lambda error, message: self._settle(index, error, message)

    def _settle(self, index: int, error: Any, message: Any) -> None:
        if error is not None:
            self._error = error
        else:
            self._offsets[index] = message.offset()
        self._left -= 1
        if self._left == 0 and self._then is not None:
            self._then()
