"""The Kafka log's address, its topic and its errors. Room: events. Called by `events.kafka_log` only."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import NewTopic

from events.errors import LogError, LogTimeout, SettingsError

_NO_ID: Final = ("", "AAAAAAAAAAAAAAAAAAAAAA")
_log = logging.getLogger("kairos.kafka")


class Address:
    """What a ``kafka://`` URL says: brokers, topic and further client settings."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.topic = parts.path.strip("/")
        self.shown = f"kafka://{parts.netloc.rpartition('@')[2]}/{self.topic}"
        if not parts.netloc or not self.topic or "/" in self.topic:
            raise SettingsError(f"{self.shown!r} is no log address: use kafka://host:port/topic")
        self.client: dict[str, Any] = {
            "bootstrap.servers": parts.netloc.rpartition("@")[2],
            "log.connection.close": False,
            "logger": _log,
            **dict(parse_qsl(parts.query)),
        }


def describe(address: Address, admin: Any, partitions: int | None, timeout_s: float) -> tuple[str, int]:
    """Return the topic's id and partition count, making the topic if `partitions` is given and there is none."""
    with translated(address):
        found = _find(address, admin, timeout_s)
        if found is None and partitions is not None:
            _make(address, admin, partitions, timeout_s)
            found = _find(address, admin, timeout_s)
    if found is None:
        raise LogError(f"no log at {address.shown}: start `kairos up`, or open it with a partition count to make one")
    log_id, count = str(found.topic_id), len(found.partitions)
    if log_id in _NO_ID:
        raise LogError(
            f"{address.shown} gives its topics no ids, so a topic made anew could not be told: use Kafka >= 2.8"
        )
    if partitions is not None and partitions != count:
        raise SettingsError(
            f"the log at {address.shown} has {count} partitions, not {partitions}: the count is fixed for its life; "
            f"start with --partitions {count}, or with another log"
        )
    return log_id, count


def _find(address: Address, admin: Any, timeout_s: float) -> Any:
    try:
        topics = admin.describe_topics(TopicCollection([address.topic]), request_timeout=timeout_s)
        return topics[address.topic].result(timeout_s)
    except KafkaException as err:
        if err.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise


def _make(address: Address, admin: Any, partitions: int, timeout_s: float) -> None:
    topic = NewTopic(address.topic, num_partitions=partitions, replication_factor=-1, config={"retention.ms": "-1"})
    try:
        admin.create_topics([topic], request_timeout=timeout_s)[address.topic].result(timeout_s)
    except KafkaException as err:
        if err.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


@contextlib.contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn the client's exceptions into the house's."""
    try:
        yield
    except KafkaException as err:
        error = err.args[0]
        if error.code() in (KafkaError._TIMED_OUT, KafkaError.REQUEST_TIMED_OUT, KafkaError._MSG_TIMED_OUT):
            raise LogTimeout(f"{address.shown} did not answer in time: {error.str()}") from err
        raise LogError(f"{address.shown}: {error.str()}") from err
    except TimeoutError as err:
        raise LogTimeout(f"{address.shown} did not answer in time") from err
