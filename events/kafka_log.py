"""The event log on Kafka: one topic, our own hash chooses the partition, the position is the offset. Room: events.

Called by intake (`KafkaAppender`), flows and tools (`KafkaLog`) where the log's address is
``kafka://host:port[,host:port]/topic[?client.setting=value]``. The producer is idempotent with ``acks=all``; readers
are assigned to offsets (`auto.offset.reset=error`), never subscribed, because the flow's own commit holds its position.

Consumers and the floor are recorded as committed group offsets, one past the position, of the groups
``kairos:<topic>:consumer:<name>`` and ``kairos:<topic>:floor``. So lag tools see our consumers, and nothing but the
topic has to be kept; a consumer that does not register for `offsets.retention.minutes` (a week by default) no longer
holds trimming back, and is refused loudly when it comes later. The floor is also the topic's low watermark, so Kafka's
own retention raises it.

The end is learned by a fetch (its answer carries the high watermark), not by ListOffsets, which Tansu answers wrongly.
Absent: transactions, and any topic setting but the partition count and unlimited retention (trimming is ours).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka import TopicPartition as At
from confluent_kafka.admin import AdminClient, OffsetSpec

from events.errors import LogError, LogTimeout, PositionLost
from events.kafka_producer import Delivery, make_producer
from events.kafka_topic import Address, describe, translated
from events.log import Batch


class KafkaLog:
    """A log in one Kafka topic, blocking. See `events.log.EventLog` for the promises.

    A `read` that does not wait returns what the client has fetched so far: entries that were just appended may be
    missing from it, `end` is exact.
    """

    def __init__(self, address: Address, log_id: str, partitions: int, admin: Any, timeout_s: float) -> None:
        self.log_id = log_id
        self.partitions = partitions
        self._address = address
        self._admin = admin
        self._timeout_s = timeout_s
        self._producer: Any = None
        self._reader: Any = None
        self._next: dict[int, int] = {}  # offsets that the reader will return next
        self._prober: Any = None
        self._ends: dict[int, int] = {}
        self._turn, self._probing = threading.Lock(), threading.Lock()

    @classmethod
    def open(cls, url: str, *, partitions: int | None = None, timeout_s: float = 10.0) -> KafkaLog:
        """Open the topic at `url`, making it with `partitions` where there is none; raises as `events.log.open_log`."""
        address = Address(url)
        admin = AdminClient({**address.client, "socket.timeout.ms": int(timeout_s * 1000)})
        log_id, count = describe(address, admin, partitions, timeout_s)
        return cls(address, log_id, count, admin, timeout_s)

    def append(self, records: Sequence[tuple[int, bytes]]) -> list[int]:
        """Produce and wait for every acknowledgement."""
        with self._turn:
            if self._producer is None:
                self._producer = make_producer(self._address.client, self._timeout_s)
        delivery = Delivery(len(records))
        delivery.produce(self._producer, self._address.topic, records)
        while not delivery.complete:
            with self._turn:
                self._producer.poll(0.1)  # the producer gives up by itself at delivery.timeout.ms
        return delivery.positions()

    def read(self, after: Mapping[int, int], *, limit: int, wait_ms: int = 0) -> list[Batch]:
        """Return what was fetched beyond the positions; assigns anew only when they are not where the reader stands."""
        wanted = {p: at + 1 for p, at in after.items()}
        if wanted != self._next:
            self._assign(wanted)
        found: dict[int, Batch] = {}
        self._collect(found, self._reader.consume(limit, 0.0))
        deadline = time.monotonic() + wait_ms / 1000
        while not found and (left := deadline - time.monotonic()) > 0:
            first = self._reader.poll(left)
            self._collect(
                found, [] if first is None else [first, *self._reader.consume(max(limit - 1, 1), 0.0)][:limit]
            )
        return list(found.values())

    def end(self, partition: int) -> int:
        """Fetch one entry at the end known so far and return the last offset before the answer's high watermark."""
        with self._probing, translated(self._address):
            if self._prober is None:
                self._prober = self._consumer(**{"fetch.message.max.bytes": 1_000, "queued.min.messages": 1})
            start = self._ends.get(partition)
            if start is None:
                start = self._low_watermark(partition)
            high = self._high_watermark(partition, start)
            self._ends[partition] = high
            return high - 1

    def floor(self, partition: int) -> int:
        """Return the higher of our record and what the broker's own retention removed."""
        recorded = self._group_offsets(self._floor_group()).get(partition, 0)
        with translated(self._address):
            low = self._low_watermark(partition)
        return max(recorded, low) - 1

    def trim(self, partition: int, upto: int) -> int:
        """Record the floor, then delete the records before it.

        Raises
        ------
        LogError
            The broker cannot delete: the floor stands, the records stay until a later trim.
        """
        slowest = [at[partition] for at in self.consumers().values() if partition in at]
        floor = self.floor(partition)
        target = min([upto, self.end(partition), *slowest])
        if target <= floor:
            return floor
        self._set_group_offsets(self._floor_group(), {partition: target + 1})
        place = At(self._address.topic, partition, target + 1)
        try:
            with translated(self._address):
                admin = AdminClient(self._address.client)  # its own: a broker that cannot delete hangs up on the client
                admin.delete_records([place], request_timeout=self._timeout_s)[place].result(self._timeout_s)
        except LogError as err:
            raise LogError(
                f"floor {target} of partition {partition} is recorded, but the broker did not delete what lies below: "
                f"{err}; trim again later, or use the topic's own retention"
            ) from err
        return target

    def register(self, consumer: str, positions: Mapping[int, int]) -> None:
        """Commit the positions as the offsets of the consumer's group."""
        if positions:
            self._set_group_offsets(self._consumer_group(consumer), {p: at + 1 for p, at in positions.items()})

    def forget(self, consumer: str) -> None:
        """Drop a consumer that will not come back, so that trimming no longer waits for it."""
        group = self._consumer_group(consumer)
        with translated(self._address):
            self._admin.delete_consumer_groups([group])[group].result(self._timeout_s)

    def consumers(self) -> dict[str, dict[int, int]]:
        """Return the offsets of all groups of this log."""
        prefix = self._consumer_group("")
        with translated(self._address):
            listing = self._admin.list_consumer_groups(request_timeout=self._timeout_s).result(self._timeout_s)
        groups = [group.group_id for group in listing.valid if group.group_id.startswith(prefix)]
        return {g.removeprefix(prefix): {p: o - 1 for p, o in self._group_offsets(g).items()} for g in groups}

    def close(self) -> None:
        """Send what is waiting and close the clients."""
        if self._producer is not None:
            self._producer.flush(self._timeout_s)
        for consumer in (self._reader, self._prober):
            if consumer is not None:
                consumer.close()
        self._reader = self._prober = self._producer = None

    def _consumer(self, **settings: Any) -> Any:
        return Consumer(
            {
                **self._address.client,
                "group.id": f"kairos:{self._address.topic}:reader",  # required by the client, never joined or committed
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "allow.auto.create.topics": False,
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 5,
                "fetch.error.backoff.ms": 50,
                **settings,
            }
        )

    def _assign(self, wanted: dict[int, int]) -> None:
        with translated(self._address):
            if self._reader is None:
                self._reader = self._consumer()
            self._reader.assign([At(self._address.topic, p, offset) for p, offset in wanted.items()])
        self._next = wanted

    def _collect(self, found: dict[int, Batch], messages: list[Any]) -> None:
        for message in messages:
            partition = message.partition()
            error = message.error()
            if error is None:
                batch = found.get(partition)
                if batch is None:
                    batch = found[partition] = Batch(partition, [], [])
                batch.positions.append(message.offset())
                batch.payloads.append(message.value())
                self._next[partition] = message.offset() + 1
            elif error.code() != KafkaError._PARTITION_EOF:
                self._next = {}  # whatever follows, the next read is assigned anew
                raise _read_error(self._address, partition, error)

    def _high_watermark(self, partition: int, start: int) -> int:
        topic = self._address.topic
        self._prober.assign([At(topic, partition, start)])
        deadline = time.monotonic() + self._timeout_s
        try:
            while (left := deadline - time.monotonic()) > 0:
                message = self._prober.poll(left)
                if message is None or message.partition() != partition:
                    continue
                error = message.error()
                if error is None or error.code() == KafkaError._PARTITION_EOF:
                    high: int = self._prober.get_watermark_offsets(At(topic, partition), cached=True)[1]
                    return max(high, int(message.offset()) + (error is None))
                raise _read_error(self._address, partition, error)
        finally:
            self._prober.unassign()
        raise LogTimeout(f"{self._address.shown} did not say in time where partition {partition} ends")

    def _low_watermark(self, partition: int) -> int:
        place = At(self._address.topic, partition)
        asked = self._admin.list_offsets({place: OffsetSpec.earliest()}, request_timeout=self._timeout_s)
        return int(asked[place].result(self._timeout_s).offset)

    def _consumer_group(self, consumer: str) -> str:
        return f"kairos:{self._address.topic}:consumer:{consumer}"

    def _floor_group(self) -> str:
        return f"kairos:{self._address.topic}:floor"

    def _set_group_offsets(self, group: str, offsets: Mapping[int, int]) -> None:
        places = [At(self._address.topic, p, offset) for p, offset in offsets.items()]
        with translated(self._address):
            changed = self._admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])
            for place in changed[group].result(self._timeout_s).topic_partitions:
                if place.error is not None:
                    raise KafkaException(place.error)

    def _group_offsets(self, group: str) -> dict[int, int]:
        places = [At(self._address.topic, p) for p in range(self.partitions)]
        with translated(self._address):
            asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, places)])
            found = asked[group].result(self._timeout_s).topic_partitions
        return {place.partition: place.offset for place in found if place.offset >= 0}


class KafkaAppender:
    """Append only. See `events.log.AsyncAppender` for the promises."""

    def __init__(self, address: Address, log_id: str, partitions: int, timeout_s: float) -> None:
        self.log_id = log_id
        self.partitions = partitions
        self._topic = address.topic
        self._timeout_s = timeout_s
        self._producer: Any = make_producer(address.client, timeout_s)
        self._closed = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="kafka-appender", daemon=True)
        self._poller.start()

    @classmethod
    async def open(cls, url: str, *, timeout_s: float = 5.0) -> KafkaAppender:
        """Open the appender of an existing topic; raises as `events.log.open_log`."""
        address = Address(url)
        admin = AdminClient({**address.client, "socket.timeout.ms": int(timeout_s * 1000)})
        log_id, partitions = await asyncio.to_thread(describe, address, admin, None, timeout_s)
        return cls(address, log_id, partitions, timeout_s)

    async def append(self, records: Sequence[tuple[int, bytes]]) -> list[int]:
        """Produce, and wait for the acknowledgements without blocking the loop."""
        if self._closed.is_set():
            raise LogError("the log's appender is closed")
        if not records:
            return []
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        delivery = Delivery(len(records), lambda: loop.call_soon_threadsafe(done.set))
        delivery.produce(self._producer, self._topic, records)
        await done.wait()
        return delivery.positions()

    async def close(self) -> None:
        """Send what is waiting, then stop the polling thread."""
        self._closed.set()
        await asyncio.to_thread(self._finish)

    def _finish(self) -> None:
        self._poller.join()
        self._producer.flush(self._timeout_s)

    def _poll(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(0.05)


def _read_error(address: Address, partition: int, error: Any) -> LogError:
    if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        return PositionLost(
            f"partition {partition} of {address.shown} has nothing at the position asked for ({error.str()}): "
            "it was trimmed, or the topic was made anew; start with an empty store to rebuild the state"
        )
    return LogError(f"partition {partition} of {address.shown} cannot be read: {error.str()}")
