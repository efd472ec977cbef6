"""The traffic driver against a pretended API that checks events as the real one does: the account is exact."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from events.errors import EventError
from events.wire import decode, split_body
from load_tests.account import TrafficReport
from load_tests.prepare import RefusedError, load_catalogue, send_events
from load_tests.simulator import World
from load_tests.traffic import play

Serving = Callable[..., Any]


class Api:
    """Accepts what `events.wire` accepts, recommends the viewed item's neighbours, remembers everything."""

    def __init__(self, *, stale: bool = False, degraded: bool = False, fail_every: int = 0) -> None:
        self.stale, self.degraded, self.fail_every = stale, degraded, fail_every
        self.ids: Counter[str] = Counter()
        self.rejected = self.asks = self.with_after = 0
        self.paths: Counter[str] = Counter()

    async def __call__(self, number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        path = head.split(b" ", 2)[1].decode()
        self.paths[path] += 1
        if self.fail_every and number % self.fail_every == 0:
            self._answer(writer, 503, {})
        elif path == "/v1/events":
            self._events(body, writer)
        else:
            self._recommend(msgspec.json.decode(body), writer)

    def _events(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        split, accepted, rejected = split_body(body), [], []
        for index, raw in enumerate(split.events):
            try:
                event = decode(raw, received_ms=1_790_000_000_000, sent_at=split.sent_at).event
            except EventError as err:
                rejected.append({"index": index, "problem": str(err)})
                self.rejected += 1
            else:
                self.ids[event.event_id] += 1
                accepted.append({"event_id": event.event_id, "after": f"t-{event.event_id}"})
        self._answer(writer, 202 if accepted else 422, {"accepted": accepted, "repeated": [], "rejected": rejected})

    def _recommend(self, ask: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.asks += 1
        self.with_after += "after" in ask
        known = ask.get("item_ids")
        first, source = (int(known[0][1:]), "session_knn") if known else (0, "popular")
        items = [{"item_id": f"i{(first + i) % 500:06d}", "source": source} for i in range(1, 6)]
        slate = {"recommendation_id": "r", "items": items, "degraded": {"level": "popular"} if self.degraded else None}
        if self.stale and "after" in ask:
            slate["consistency"] = "stale"
        self._answer(writer, 200, slate)

    def _answer(self, writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
        data = msgspec.json.encode(body)
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)


def run(serving: Serving, api: Api, **more: Any) -> TrafficReport:
    world = World(items=500, customers=2_000, seed=1)
    with serving(api) as url:
        return asyncio.run(play(url, seconds=1.6, rate=250.0, seed=5, world=world, pace_s=0.2, **more))


def test_the_account_equals_what_the_api_saw(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("load_tests.traffic.BROKEN", 0.1)
    monkeypatch.setattr("load_tests.traffic.REPEATED", 0.1)
    api = Api()
    ticks: list[int] = []
    report = run(serving, api, on_tick=lambda so_far: ticks.append(so_far.events_sent))
    assert report.events_sent == api.ids.total() + api.rejected == report.accepted + report.rejected
    assert report.rejected == report.expected_rejected == api.rejected > 0
    assert api.ids.total() - len(api.ids) == report.repeats_sent > 0
    assert report.unknown == 0
    assert not report.errors
    assert ticks == sorted(ticks)
    assert len(ticks) >= 2


def test_about_as_many_events_are_sent_as_the_rate_says(serving: Serving) -> None:
    report = run(serving, Api())
    assert 0.7 * 400 < report.events_sent < 1.3 * 400


def test_slates_are_counted_by_what_they_are(serving: Serving) -> None:
    api = Api()
    report = run(serving, api)
    assert api.asks >= report.answers > 50
    assert 0.3 < report.personalised_share < 1.0
    assert report.degraded == 0
    assert report.clicks > 0
    assert report.freshness.count == api.with_after > 0
    assert report.summary()["answer_ms"]["count"] == report.answers


def test_stale_and_degraded_answers_are_counted(serving: Serving) -> None:
    api = Api(stale=True, degraded=True)
    report = run(serving, api)
    assert report.degraded_share == 1.0
    assert report.stale == api.with_after
    assert report.freshness.count == 0


def test_a_refused_request_is_tried_again_and_counted_once(serving: Serving) -> None:
    api = Api(fail_every=25)
    report = run(serving, api)
    assert report.errors["503"] > 0
    assert report.unknown == 0
    assert report.events_sent == api.ids.total() + api.rejected


def test_a_catalogue_is_loaded_whole(serving: Serving) -> None:
    seen: list[dict[str, Any]] = []

    async def take(number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        assert b"Authorization: Bearer k" in head
        seen.extend(msgspec.json.decode(body)["items"])
        writer.write(b"HTTP/1.1 202 OK\r\nContent-Length: 2\r\n\r\n{}")

    catalogue = World(items=1_234, customers=1).catalogue
    with serving(take) as url:
        assert asyncio.run(load_catalogue(url, catalogue, key="k")) == 1_234
    assert sorted(item["item_id"] for item in seen) == [catalogue.item_id(row) for row in range(1_234)]


def test_a_refusal_while_preparing_says_what_was_answered(serving: Serving) -> None:
    async def refuse(number: int, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nno key")

    with serving(refuse) as url, pytest.raises(RefusedError, match="403: no key"):
        asyncio.run(send_events(url, [{"event": "view_item"}]))
