"""The API as a process, beside a real flow and a store that stops: what a shop page sees when things go wrong."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from events.errors import SettingsError
from events.log import open_log
from events.schema import decode_event, records_of
from serving.app import create_app
from serving.settings import ServingSettings
from tests.api import PARTITIONS, ProcessApi, Shop, ids
from tests.builders import an_event
from tests.flows import Flow, drained
from tests.servers import Valkey

# Generous beside the product's 100 ms: a loaded test machine must not decide.
SLOW_S = 2.0


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    server = Valkey().start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def api(server: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessApi]:
    Shop(server).close()
    server.flush()
    open_log(server.url, partitions=PARTITIONS).close()
    api = ProcessApi(server.url, tmp_path_factory.mktemp("data"), KAIROS_SECRET_KEY="s3cret")
    yield api
    if api.process.poll() is None:
        api.stop()


@pytest.fixture(scope="module")
def client(api: ProcessApi) -> Iterator[httpx.Client]:
    client = api.client()
    yield client
    client.close()


@pytest.fixture(scope="module")
def flow(server: Valkey, api: ProcessApi) -> Iterator[Flow]:
    flow = Flow(server.url, server.url, range(PARTITIONS))
    log = open_log(server.url)
    log.append(records_of([an_event(customer_id=f"c{n}") for n in range(40)], PARTITIONS))
    drained(log, server.url)
    log.close()
    yield flow
    flow.stop()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """SIGSTOP a process for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_click_is_in_the_next_answer(client: httpx.Client, flow: Flow, server: Valkey) -> None:
    items = [{"item_id": f"i{n}", "category": f"c{n % 2}", "title": f"thing {n}"} for n in range(6)]
    put = client.put("/v1/catalog/items", json={"items": items}, headers={"authorization": "Bearer s3cret"})
    assert put.status_code == 202
    for item in range(6):
        click = {"event": "view_item", "event_id": f"k{item}", "customer_id": "ann", "item_id": f"i{item}"}
        (accepted,) = client.post("/v1/events", json=click).json()["accepted"]
        asked = {"customer_id": "ann", "after": accepted["after"], "wait_ms": 1_000}
        answer = client.post("/v1/recommendations", json=asked)
        assert answer.json()["consistency"] == "reflected"
        profile = client.get("/v1/customers/ann").json()
        assert profile["features"]["session"]["items"][-1] == f"i{item}"


def test_the_account_of_a_shop_and_of_its_impressions(client: httpx.Client, flow: Flow, server: Valkey) -> None:
    deadline = time.monotonic() + 20
    while not ids(client.get("/v1/recommendations")):  # the catalogue is on its way; an empty slate is no impression
        assert time.monotonic() < deadline
        time.sleep(0.02)
    log = open_log(server.url)
    before = drained(log, server.url)
    sent = [{"event": "page_view", "event_id": f"a{n % 90}", "customer_id": f"c{n % 90 % 7}"} for n in range(100)]
    for start in range(0, 100, 10):
        client.post("/v1/events", json={"events": sent[start : start + 10]})
    shown = [ids(client.post("/v1/recommendations", json={"customer_id": f"c{n}"})) for n in range(5)]
    assert all(shown)
    deadline = time.monotonic() + 20
    while True:
        after = drained(log, server.url)
        served = sum(head.served for head in after.values())
        if served >= 5 and served == _impressions(client):
            break
        assert time.monotonic() < deadline, f"{served} served, {_impressions(client)} logged"
        time.sleep(0.05)
    log.close()
    grown = {
        name: sum(getattr(h, name) for h in after.values()) - sum(getattr(h, name) for h in before.values())
        for name in ("applied", "duplicates", "dead_lettered")
    }
    assert grown == {"applied": 90, "duplicates": 10, "dead_lettered": 0}


def _impressions(client: httpx.Client) -> int:
    (line,) = [x for x in client.get("/metrics").text.splitlines() if x.startswith("kairos_impressions_logged_total ")]
    return int(float(line.split()[1]))


def test_a_store_that_stops_degrades_answers_and_comes_back_by_itself(client: httpx.Client, server: Valkey) -> None:
    asked = {"customer_id": "ann", "limit": 3}
    healthy = client.post("/v1/recommendations", json=asked)
    assert healthy.json()["degraded"] is None
    with stopped(server.pid):
        reasons = []
        for _ in range(6):
            began = time.monotonic()
            answer = client.post("/v1/recommendations", json=asked)
            assert time.monotonic() - began < SLOW_S
            assert len(ids(answer)) == 3
            assert answer.json()["degraded"]["level"] == "popular"
            reasons.append(answer.json()["degraded"]["reason"])
        assert reasons[:3] == ["store_timeout"] * 3
        assert "store_circuit_open" in reasons[3:]
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        refused = client.post("/v1/events", json={"event": "page_view", "customer_id": "ann"})
        assert (refused.status_code, refused.json()["code"]) == (503, "log_timeout")
        assert refused.headers["retry-after"] == "1"
    deadline = time.monotonic() + 20
    while client.post("/v1/recommendations", json=asked).json()["degraded"] is not None:
        assert time.monotonic() < deadline, "it did not come back"
        time.sleep(0.05)
    assert client.post("/v1/events", json={"event": "page_view", "customer_id": "ann"}).status_code == 202


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\xff\xfe garbage \r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n{}",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\xff\xfe\x00{",
        b"GET /v1/recommendations?limit=%FF%FE HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/customers/%00%0a%FF HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/recommendations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Request-ID: \xc3\xa4\r\n\r\n{}",
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + b"[" * 30_000,
    ],
)
def test_garbage_is_answered_with_a_client_error_or_an_answer(client: httpx.Client, raw: bytes) -> None:
    host, port = client.base_url.host, client.base_url.port
    assert port is not None
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(raw)
        status = int(connection.recv(65_536).split(b" ", 2)[1])
    assert status < 500
    assert client.get("/livez").status_code == 200


def test_a_clean_stop_writes_the_last_impressions(server: Valkey, api: ProcessApi, client: httpx.Client) -> None:
    answers = [client.post("/v1/recommendations", json={"customer_id": "last"}).json() for _ in range(3)]
    code, output = api.stop()
    assert code in (0, -signal.SIGTERM), output
    assert "Traceback" not in output
    log = open_log(server.url)
    batches = log.read(dict.fromkeys(range(PARTITIONS), -1), limit=100_000)
    events = [decode_event(payload) for batch in batches for payload in batch.payloads]
    log.close()
    assert {a["recommendation_id"] for a in answers} <= {e.recommendation_id for e in events}


def test_an_address_that_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="http://nowhere"):
        create_app(ServingSettings(log_url="http://nowhere", store_url="unix:///s", data_dir=tmp_path))
