"""The API for tests: in a thread of the test process (its parts can be looked at), or as a process of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from events.log import open_log
from events.schema import CatalogItem, Event, partition_of
from feature_store import keys
from feature_store.codec import encode_customer, encode_item
from feature_store.customer import Customer, apply
from feature_store.head import Head, encode_head
from feature_store.item import ItemState, update
from feature_store.popular import encode_popular, rank
from serving.app import create_app
from serving.settings import ServingSettings
from tests.servers import Valkey, free_port

ROOT = Path(__file__).parents[1]
PARTITIONS = 4


class Shop:
    """What a flow would have written, put into the store by hand."""

    def __init__(self, valkey: Valkey) -> None:
        self.url = valkey.url
        self.client = valkey.client()
        log = open_log(valkey.url, partitions=PARTITIONS)
        self.log_id = log.log_id
        log.close()
        self.head()

    def head(self, **fields: Any) -> None:
        """Write the same head to each partition."""
        for p in range(PARTITIONS):
            head = Head(self.log_id, p, PARTITIONS, **fields)
            self.client.set(keys.position(p), encode_head(head))

    def customer(self, events: Iterable[Event]) -> None:
        """Write a customer who did this."""
        customer = Customer()
        for event in events:
            apply(customer, event)
            name = event.customer_id or event.anonymous_id
            p = partition_of(name, PARTITIONS)
            key = keys.customer(p, name) if event.customer_id else keys.anonymous(p, name)
        self.client.set(key, encode_customer(customer))

    def items(self, *told: CatalogItem) -> None:
        """Write items as the catalogue tells of them, and their changes."""
        for item in told:
            state = ItemState(item.item_id)
            update(state, item, now_ms())
            p = partition_of(item.item_id, PARTITIONS)
            self.client.hset(keys.items(p), item.item_id, encode_item(state))
            self.client.xadd(keys.changes(p), {item.item_id: encode_item(state)})

    def popular(self, scores: Mapping[str, float], category_of: Mapping[str, str]) -> None:
        """Publish popularity lists."""
        now = now_ms()
        lists = rank(scores, category_of, version=now, at_ms=now, watermark_ms=now, historical=False)
        self.client.set(keys.POPULAR, encode_popular(lists))

    def close(self) -> None:
        self.client.close()


class ThreadApi:
    """The application under uvicorn, in a thread."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        config = uvicorn.Config(app, port=port, log_config=None, access_log=False, timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()), daemon=True)

    def start(self) -> httpx.Client:
        """Start; return a client that waits until the application is ready."""
        self._thread.start()
        client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
        ready(client)
        return client

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


class ProcessApi:
    """`kairos api` as a process of its own, with whatever environment."""

    def __init__(self, valkey_url: str, data_dir: Path, **environment: str) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        words = ["api", "--log", valkey_url, "--store", valkey_url, "--data-dir", str(data_dir), "--port", str(port)]
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("KAIROS_")}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", *words],
            cwd=ROOT, env={**inherited, **environment, "PYTHONPATH": str(ROOT)},
            stdout=self._output, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def client(self) -> httpx.Client:
        """Return a client once the process is ready."""
        client = httpx.Client(base_url=self.url, timeout=10, trust_env=False)
        ready(client, seconds=60)
        return client

    def stop(self) -> tuple[int, str]:
        """SIGTERM; return exit code and output."""
        self.process.terminate()
        code = self.process.wait(20)
        self._output.seek(0)
        said = self._output.read().decode()
        self._output.close()
        return code, said


def make_app(valkey: Valkey, data_dir: Path, **settings: Any) -> FastAPI:
    return create_app(ServingSettings(log_url=valkey.url, store_url=valkey.url, data_dir=data_dir, **settings))


def ready(client: httpx.Client, *, seconds: float = 30) -> None:
    """Wait until /readyz says so."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            answer = client.get("/readyz")
            if answer.status_code == 200:
                return
            last = answer.text
        except httpx.TransportError as err:
            last = err
        time.sleep(0.05)
    raise AssertionError(f"the API is not ready after {seconds} s: {last}")


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def ids(answer: httpx.Response) -> list[str]:
    """Return the item ids of a slate."""
    assert answer.status_code == 200, answer.text
    return [item["item_id"] for item in answer.json()["items"]]


def sources(answer: httpx.Response) -> Sequence[str]:
    return [item["source"] for item in answer.json()["items"]]
