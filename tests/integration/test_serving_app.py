"""The application over HTTP with a real store; state is put there by hand, the flow has tests of its own."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from events.dead_letters import DeadLetters
from events.log import open_log
from events.schema import CatalogItem, Event, decode_event, partition_of
from models import registry, training
from models.sessions import Sessions
from serving.app import create_app
from serving.settings import ServingSettings
from tests.api import PARTITIONS, Shop, ThreadApi, ids, make_app, now_ms, sources
from tests.builders import a_line, an_event
from tests.servers import Valkey

ITEMS = [
    CatalogItem(item_id=f"i{n}", title=f"{'red' if n % 2 else 'blue'} pan {n}", category=f"home/c{n % 3}", brand="B",
                price_micros=(n + 1) * 1_000_000, currency="EUR", stock=5)
    for n in range(30)
]  # fmt: skip


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two versions of a toy model; the first is active. Item n is followed by item n + 1."""
    directory = tmp_path_factory.mktemp("data")
    first = _trained(directory, step=1)
    _trained(directory, step=2)
    registry.activate(directory, first.parent.name, first.name)
    return directory


def _trained(directory: Path, *, step: int) -> Path:
    rows = np.concatenate([(np.arange(4) * step + n) % 30 for n in range(400)]).astype(np.int32)
    sessions = Sessions(
        np.arange(401, dtype=np.int64) * 4, rows, np.arange(400, dtype=np.int64) * 1_000, [f"i{n}" for n in range(30)]
    )
    return training.train(sessions, directory, budget_s=0.5)


@pytest.fixture
def start(valkey: Valkey, tmp_path: Path) -> Iterator[Callable[..., httpx.Client]]:
    """Starts an application with given settings; its ThreadApi hangs on the client as `.api`."""
    with contextlib.ExitStack() as stack:

        def starting(**settings: Any) -> httpx.Client:
            settings.setdefault("data_dir", tmp_path)
            api = ThreadApi(make_app(valkey, **settings))
            client = api.start()
            stack.callback(api.stop)
            stack.callback(client.close)
            return client

        yield starting


@pytest.fixture
def shop(valkey: Valkey) -> Iterator[Shop]:
    shop = Shop(valkey)
    yield shop
    shop.close()


def entries(valkey: Valkey) -> list[Event]:
    log = open_log(valkey.url)
    batches = log.read(dict.fromkeys(range(PARTITIONS), -1), limit=10_000)
    log.close()
    return [decode_event(payload) for batch in batches for payload in batch.payloads]


def letters(valkey: Valkey) -> list[Any]:
    kept = DeadLetters(valkey.url, PARTITIONS)
    found = [entry.letter for entry in kept.newest(limit=1_000)]
    kept.close()
    return found


def until(condition: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)
    return found


def test_each_event_of_a_batch_is_judged_by_itself(
    shop: Shop, valkey: Valkey, start: Callable[..., httpx.Client]
) -> None:
    client = start()
    good = {"event": "view_item", "event_id": "e1", "customer_id": "c1", "item_id": "i1", "timestamp": now_ms()}
    broken = [{"event": "view", "event_id": "e2", "customer_id": "c1"}, 7, {**good, "event_id": "e4", "price": "x"}]
    answer = client.post("/v1/events", json={"events": [good, *broken, good, {**good, "event_id": "e6", "colour": 1}]})
    assert answer.status_code == 202
    told = answer.json()
    assert [a["event_id"] for a in told["accepted"]] == ["e1", "e6"]
    assert told["repeated"] == [{"index": 4, "event_id": "e1"}]
    assert [(r["index"], r["event_id"], r["problem"]["code"]) for r in told["rejected"]] == [
        (1, "e2", "unknown_event"), (2, "", "invalid_value"), (3, "e4", "invalid_value"),
    ]  # fmt: skip
    assert [(w["index"], w["code"]) for w in told["warnings"]] == [(5, "unknown_field")]
    assert [e.event_id for e in entries(valkey)] == ["e1", "e6"]
    kept = {letter.event_id: letter for letter in letters(valkey)}
    assert kept["e2"].source == "intake"
    assert msgspec.json.decode(kept["e2"].original) == broken[0]
    assert (kept[""].original, kept["e4"].pointer) == (b"7", "/price")


def test_a_single_event_a_beacon_and_a_refusal(shop: Shop, valkey: Valkey, start: Callable[..., httpx.Client]) -> None:
    client = start()
    single = client.post("/v1/events", json={"event": "page_view", "event_id": "a", "anonymous_id": "v"})
    assert single.status_code == 202
    beacon = client.post(
        "/v1/events", content=b'{"event":"page_view","event_id":"b","anonymous_id":"v"}',
        headers={"content-type": "text/plain;charset=UTF-8", "origin": "https://shop.example"},
    )  # fmt: skip
    assert (beacon.status_code, beacon.headers["access-control-allow-origin"]) == (202, "*")
    refused = client.post("/v1/events", json={"event": "page_view"})
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/problem+json")
    told = refused.json()
    assert (told["code"], told["accepted"], len(told["rejected"])) == ("no_identity", [], 1)
    assert told["request_id"] == refused.headers["x-request-id"]
    assert [e.event_id for e in entries(valkey)] == ["a", "b"]
    assert [letter.code for letter in letters(valkey)] == ["no_identity"]


def test_the_catalogue_is_written_to_the_log_and_stamped_on_events(
    shop: Shop, valkey: Valkey, start: Callable[..., httpx.Client]
) -> None:
    shop.items(CatalogItem(item_id="i1", category="home/pans", brand="B", price_micros=5_000_000, currency="EUR"))
    client = start()
    sent = [{"item_id": f"n{n}", "title": "new"} for n in range(120)] + [{"item_id": ""}]
    answer = client.put("/v1/catalog/items", json={"items": sent})
    assert answer.status_code == 202
    assert len(answer.json()["accepted"]) == 120
    assert [r["index"] for r in answer.json()["rejected"]] == [120]
    told = entries(valkey)
    assert {e.event for e in told} == {"catalog_updated"}
    assert sorted(c.item_id for e in told for c in e.catalog) == sorted(f"n{n}" for n in range(120))
    client.post("/v1/events", json={"event": "view_item", "event_id": "v", "customer_id": "c", "item_id": "i1"})
    (view,) = [e for e in entries(valkey) if e.event == "view_item"]
    assert (view.items, view.currency) == (
        [a_line("i1", category="home/pans", brand="B", price_micros=5_000_000)],
        "EUR",
    )
    item = client.get("/v1/catalog/items/i1").json()
    assert (item["price"], item["category"], item["price_history"][0]["price"]) == (5.0, "home/pans", 5.0)
    assert client.get("/v1/catalog/items/none").status_code == 404
    assert client.put("/v1/catalog/items", json={"items": [{}]}).status_code == 422


def test_keys_guard_what_they_should(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    client = start(secret_key="s3cret", publishable_key="pub")
    event = {"event": "page_view", "customer_id": "c", "timestamp": 1_600_000_000_000}
    secret = {"authorization": "Bearer s3cret"}
    pub = {"x-api-key": "pub"}
    past = {"historical": True, "events": [event]}
    statuses = [
        client.post("/v1/events", json=event).status_code,
        client.post("/v1/events", json=event, headers=pub).status_code,
        client.post("/v1/events", json=past, headers=pub).status_code,
        client.post("/v1/events", json=past, headers=secret).status_code,
        client.put("/v1/catalog/items", json={"items": [{"item_id": "x"}]}).status_code,
        client.put("/v1/catalog/items", json={"items": [{"item_id": "x"}]}, headers=pub).status_code,
        client.put("/v1/catalog/items", json={"items": [{"item_id": "x"}]}, headers=secret).status_code,
        client.get("/v1/customers/c", headers={"authorization": "Bearer wrong"}).status_code,
        client.get("/v1/recommendations").status_code,
        client.get("/v1/recommendations", headers=pub).status_code,
        client.get("/livez").status_code,
    ]
    assert statuses == [401, 202, 403, 202, 401, 403, 202, 401, 401, 200, 200]
    assert client.post("/v1/events", json=event).headers["www-authenticate"].startswith("Bearer")


def test_without_a_secret_key_the_past_cannot_be_imported(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    answer = start().post("/v1/events", json={"historical": True, "events": [{}]})
    assert (answer.status_code, answer.json()["code"]) == (403, "no_secret_key")


def test_a_known_session_is_answered_by_the_model(
    shop: Shop, valkey: Valkey, start: Callable[..., httpx.Client], model_dir: Path
) -> None:
    shop.items(*ITEMS)
    shop.customer([an_event(items=["i3"], at_ms=now_ms() - 2_000), an_event(items=["i4"], at_ms=now_ms() - 1_000)])
    shop.head(position=77, watermark_ms=now_ms() - 1_000)
    client = start(data_dir=model_dir)
    answer = client.post(
        "/v1/recommendations", json={"customer_id": "c1", "limit": 6, "surprise": 1}, headers={"x-request-id": "mine"}
    )
    told = answer.json()
    assert ids(answer)[0] == "i5"
    assert len(set(ids(answer))) == 6
    assert told["model"]["name"] == "sessions"
    assert (told["degraded"], told["request_id"], answer.headers["x-request-id"]) == (None, "mine", "mine")
    assert [w["code"] for w in told["warnings"]] == ["unknown_field"]
    assert told["items"][0]["source"] in {"session_knn", "co_occurrence", "embedding", "session_memory"}
    assert all(item["reasons"] for item in told["items"])
    assert [item["rank"] for item in told["items"]] == list(range(6))
    assert told["freshness"]["watermark"].endswith("Z")
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["server-timing"].startswith("read;dur=")
    impression = until(lambda: [e for e in entries(valkey) if e.event == "view_item_list"])[0]
    assert impression.recommendation_id == told["recommendation_id"]
    assert impression.properties == {"served": True, "placement": "home"}
    assert [(line.item_id, line.position) for line in impression.items] == [(i, n) for n, i in enumerate(ids(answer))]


def test_filters_hold_for_every_source(shop: Shop, start: Callable[..., httpx.Client], model_dir: Path) -> None:
    shop.items(*ITEMS)
    shop.items(CatalogItem(item_id="i5", stock=0), CatalogItem(item_id="i6", hidden=True))
    shop.popular({f"i{n}": 100.0 - n for n in range(30)}, {})
    history = [
        an_event(items=["i4"], at_ms=now_ms() - 9_000),
        an_event("purchase", items=["i7"], at_ms=now_ms() - 8_000),
    ]
    shop.customer(history)
    client = start(data_dir=model_dir)
    until(lambda: client.get("/v1/recommendations").json()["items"][0]["source"] == "popular")
    body = {"customer_id": "c1", "limit": 500, "exclude_item_ids": ["i8", "nowhere"]}
    slate = ids(client.post("/v1/recommendations", json=body))
    assert sorted(slate) == sorted({f"i{n}" for n in range(30)} - {"i5", "i6", "i7", "i8"})
    body = {"placement": "item", "item_ids": ["i4"], "limit": 500}
    assert "i4" not in ids(client.post("/v1/recommendations", json=body))
    assert "i4" in ids(client.post("/v1/recommendations", json={"customer_id": "c1", "limit": 500})), (
        "its own earlier item"
    )


def test_a_cold_customer_gets_what_is_popular_where_they_look(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    shop.items(*ITEMS)
    shop.popular({f"i{n}": 100.0 - n for n in range(30)}, {f"i{n}": f"home/c{n % 3}" for n in range(30)})
    client = start()
    cold = until(lambda: (a := client.get("/v1/recommendations")) and "popular" in sources(a) and a)
    assert ids(cold) == [f"i{n}" for n in range(10)]
    assert set(sources(cold)) == {"popular"}
    assert cold.json()["model"] is None
    anchored = client.post("/v1/recommendations", json={"placement": "item", "item_ids": ["i2"], "limit": 3})
    assert ids(anchored) == ["i5", "i8", "i11"]
    assert set(sources(anchored)) == {"popular_in_category"}
    assert anchored.json()["items"][0]["reasons"] == ["popular in home/c2"]
    event = {"event": "view_item", "item_id": "i1", "event_id": "x"}
    liking = client.post("/v1/recommendations", json={"customer_id": "new", "events": [event], "limit": 2})
    assert ids(liking) == ["i1", "i4"], "the event of the call was stamped with its category"


def test_a_shop_on_its_first_day_shows_its_catalogue(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    client = start()
    assert ids(client.get("/v1/recommendations")) == []
    shop.items(*ITEMS[:3])
    slate = until(lambda: (a := client.get("/v1/recommendations")) and len(ids(a)) == 3 and a)
    assert set(sources(slate)) == {"catalog"}


def test_search_finds_and_orders_for_the_customer(
    shop: Shop, start: Callable[..., httpx.Client], model_dir: Path
) -> None:
    shop.items(*ITEMS)
    client = start(data_dir=model_dir)
    asked = {"placement": "search", "query": "red pan", "limit": 30}
    found = client.post("/v1/recommendations", json=asked)
    assert set(ids(found)[:15]) == {f"i{n}" for n in range(1, 30, 2)}
    event = {"event": "view_item", "item_id": "i16", "event_id": "x"}
    mine = client.post("/v1/recommendations", json={**asked, "customer_id": "c", "events": [event]})
    assert ids(mine)[0] == "i17", "what follows i16 and matches"
    nothing = client.post("/v1/recommendations", json={"placement": "search", "query": "sofa"})
    assert [w["code"] for w in nothing.json()["warnings"]] == ["nothing_matched"]


def test_the_cart_is_not_recommended_to_itself(shop: Shop, start: Callable[..., httpx.Client], model_dir: Path) -> None:
    shop.items(*ITEMS)
    shop.customer([an_event("add_to_cart", items=["i3"], at_ms=now_ms() - 1_000)])
    client = start(data_dir=model_dir)
    slate = ids(client.post("/v1/recommendations", json={"placement": "cart", "customer_id": "c1"}))
    assert slate[0] == "i4"
    assert "i3" not in slate


def test_after_is_reflected_or_the_answer_says_stale(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    client = start()
    accepted = client.post("/v1/events", json={"event": "page_view", "event_id": "p", "customer_id": "c1"}).json()
    after = accepted["accepted"][0]["after"]
    asked = {"customer_id": "c1", "after": after, "wait_ms": 30}
    assert client.post("/v1/recommendations", json=asked).json()["consistency"] == "stale"
    threading.Timer(0.1, lambda: shop.head(position=2**62)).start()
    waited = client.post("/v1/recommendations", json={**asked, "wait_ms": 1_000}).json()
    assert waited["consistency"] == "reflected"
    assert "consistency" not in client.post("/v1/recommendations", json={"customer_id": "c1"}).json()
    other = next(f"c{n}" for n in range(99) if partition_of(f"c{n}", PARTITIONS) != partition_of("c1", PARTITIONS))
    foreign = client.post("/v1/recommendations", json={**asked, "customer_id": other}).json()
    assert (foreign["consistency"], foreign["warnings"][0]["code"]) == ("stale", "other_identity")
    mangled = client.post("/v1/recommendations", json={**asked, "after": after[:-2] + "xx"})
    assert (mangled.status_code, mangled.json()["code"]) == (400, "invalid_token")


def test_a_model_is_swapped_while_answers_go_on(
    shop: Shop, start: Callable[..., httpx.Client], model_dir: Path, tmp_path: Path
) -> None:
    shop.items(*ITEMS)
    client = start(data_dir=model_dir)
    first, second = registry.versions(model_dir)
    body = {"placement": "item", "item_ids": ["i10"], "limit": 5}
    seen: list[tuple[str, str]] = []

    def ask() -> str:
        answer = client.post("/v1/recommendations", json=body)
        seen.append((answer.json()["model"]["version"], ids(answer)[0]))
        return seen[-1][0]

    assert ask() == first[1]
    registry.activate(model_dir, *second)
    until(lambda: ask() == second[1])
    (model_dir / "models" / "active").write_text("sessions/nonsense\n")
    until(lambda: 'kairos_model_loads_total{outcome="failed"} 1.0' in client.get("/metrics").text)
    assert ask() == second[1], "a version that cannot be loaded changes nothing"
    registry.activate(model_dir, *first)
    until(lambda: ask() == first[1])
    assert set(seen) == {(first[1], "i11"), (second[1], "i12")}


def test_a_model_that_breaks_is_no_reason_for_an_empty_page(
    shop: Shop, valkey: Valkey, model_dir: Path, tmp_path: Path
) -> None:
    shop.items(*ITEMS)
    api = ThreadApi(make_app(valkey, model_dir))
    client = api.start()
    body = {"placement": "item", "item_ids": ["i10"], "limit": 5}
    assert client.post("/v1/recommendations", json=body).json()["degraded"] is None
    api.app.state.models.active.recommender.index = None
    broken = client.post("/v1/recommendations", json=body)
    assert len(ids(broken)) == 5
    assert broken.json()["degraded"] == {"level": "popular", "reason": "model_failed"}
    client.close()
    api.stop()


def test_a_store_that_is_killed_and_started_again_loses_no_accepted_event(own_valkey: Valkey, tmp_path: Path) -> None:
    shop = Shop(own_valkey)
    shop.items(*ITEMS[:3])
    shop.close()
    api = ThreadApi(make_app(own_valkey, tmp_path))
    client = api.start()
    sent: list[str] = []

    def send(n: int) -> int:
        event = {"event": "page_view", "event_id": f"e{n}", "customer_id": f"c{n}"}
        answer = client.post("/v1/events", json=event)
        sent.extend(accepted["event_id"] for accepted in answer.json().get("accepted", ()))
        return answer.status_code

    assert {send(n) for n in range(50)} == {202}
    own_valkey.kill()
    assert {send(n) for n in range(50, 55)} == {503}
    slate = client.post("/v1/recommendations", json={"customer_id": "c1", "limit": 2})
    assert len(ids(slate)) == 2
    assert slate.json()["degraded"] == {"level": "popular", "reason": "store_unavailable"}
    own_valkey.start()
    until(lambda: send(60) == 202)
    until(lambda: client.post("/v1/recommendations", json={"customer_id": "c1"}).json()["degraded"] is None)
    assert client.get("/readyz").status_code == 200
    found = {e.event_id for e in entries(own_valkey) if e.event == "page_view"}
    assert set(sent) <= found
    client.close()
    api.stop()


def test_the_profile_shows_features_by_name(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    shop.customer([an_event(items=["i1"], at_ms=now_ms(), customer_id="team/a:1")])
    client = start()
    told = client.get("/v1/customers/team%2Fa:1").json()
    assert told["customer_id"] == "team/a:1"
    assert told["features"]["counts"] == {"view_item": 1}
    missing = client.get("/v1/customers/nobody")
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")


def test_a_full_store_sheds_events_and_says_when_to_come_again(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    client = start(shed_memory_bytes=1)
    event = {"event": "page_view", "customer_id": "c"}
    shed = until(lambda: (a := client.post("/v1/events", json=event)).status_code == 429 and a)
    assert (shed.headers["retry-after"], shed.json()["code"], shed.json()["retry_after_ms"]) == (
        "2",
        "overloaded",
        2000,
    )
    assert client.get("/v1/recommendations").status_code == 200


def test_every_refusal_is_a_problem(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    client = start()
    form = {"content-type": "application/x-www-form-urlencoded"}
    calls = [
        client.get("/nowhere"), client.delete("/v1/events"), client.post("/v1/events", content=b"{"),
        client.post("/v1/events", content=b"a=1", headers=form), client.post("/v1/events", content=b" " * 600_000),
        client.post("/v1/events?debug=1", json={}), client.get("/v1/recommendations?lim=1"),
        client.get("/v1/recommendations?limit=0"), client.post("/v1/recommendations", json=[]),
        client.post("/v1/events", json={}, headers={"content-encoding": "gzip"}),
        client.post("/v1/events", content=iter([b" " * 300_000] * 2)),
    ]  # fmt: skip
    assert [c.status_code for c in calls] == [404, 405, 400, 415, 413, 400, 400, 422, 422, 415, 413]
    for call in calls:
        assert call.headers["content-type"] == "application/problem+json"
        told = call.json()
        assert {"type", "title", "status", "detail", "code", "request_id"} <= told.keys()
        assert told["request_id"] == call.headers["x-request-id"]


def test_only_widget_paths_answer_other_origins(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    client = start(cors_origins=("https://shop.example",))
    asking = {"origin": "https://shop.example", "access-control-request-method": "POST"}
    allowed = client.options("/v1/recommendations", headers=asking)
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    assert "access-control-allow-origin" not in client.get("/v1/customers/c", headers=asking).headers
    other = client.post("/v1/recommendations", json={}, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_the_state_of_a_historical_import_is_read_as_of_its_end(shop: Shop, start: Callable[..., httpx.Client]) -> None:
    then = 1_600_000_000_000
    shop.items(*ITEMS)
    shop.customer([an_event(items=["i3"], at_ms=then)])
    shop.head(position=5, watermark_ms=then + 60_000, historical=True)
    told = start().get("/v1/customers/c1").json()
    assert told["as_of"] == "2020-09-13T12:27:40.000Z"
    assert told["features"]["session"]["live"] is True


def test_an_application_without_its_parts_still_answers(tmp_path: Path) -> None:
    app = create_app(ServingSettings(log_url="unix:///nowhere", store_url="unix:///nowhere", data_dir=tmp_path))
    api = ThreadApi(app)
    api._thread.start()
    with httpx.Client(base_url=api.url, timeout=10, trust_env=False) as client:
        until(lambda: _answers(client))
        assert client.get("/readyz").status_code == 503
        slate = client.post("/v1/recommendations", json={"customer_id": "c"})
        assert (slate.status_code, slate.json()["degraded"]["reason"]) == (200, "store_unavailable")
        event = client.post("/v1/events", json={"event": "page_view", "customer_id": "c"})
        assert (event.status_code, event.headers["retry-after"]) == (503, "1")
    api.stop()


def _answers(client: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return client.get("/livez").status_code == 200
    return False
