"""Fixtures that several rooms share: real servers, and the data sets where they are."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import Kafka, Valkey


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """One Valkey for the whole run; use `valkey`, which empties it."""
    server = Valkey().start()
    yield server
    server.stop()


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """An empty Valkey on a unix socket (`.url`) and TCP (`.tcp_url`)."""
    valkey_server.flush()
    return valkey_server


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A Valkey of the test's own, which it may kill and start again."""
    server = Valkey().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """A Kafka-protocol broker over TCP; take a fresh topic with `.topic_url()`."""
    broker = Kafka().start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def data() -> Path:
    """The directory of real data sets; tests that need one are skipped where it is absent."""
    directory = Path(os.environ.get("KAIROS_DATA") or Path(__file__).parents[1] / "../shared/data").resolve()
    if not directory.is_dir():
        pytest.skip(f"$KAIROS_DATA is absent ({directory})")
    return directory
