"""How a replay sends over HTTP: in batches, each customer in order, patient with a server that says "later"."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from cli.replaying.account import Account, judge
from cli.replaying.sending import HttpSending
from events.errors import SettingsError


class Intake:
    """A server that remembers what it took, and answers the first requests as told."""

    def __init__(self, *first: Callable[[web.Request], web.Response]) -> None:
        self.first = list(first)
        self.bodies: list[dict[str, Any]] = []
        self.sizes: list[int] = []
        self.keys: set[str | None] = set()

    async def take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        if self.first:
            return self.first.pop(0)(request)
        body = msgspec.json.decode(raw)
        self.bodies.append(body)
        self.sizes.append(len(raw))
        self.keys.add(request.headers.get("Authorization"))
        accepted = [{"event_id": event["event_id"], "after": "x"} for event in body["events"]]
        return web.json_response({"accepted": accepted, "repeated": [], "rejected": [], "warnings": []}, status=202)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        application = web.Application(client_max_size=1_000_000)
        application.router.add_post("/v1/events", self.take)
        server = TestServer(application)
        await server.start_server()
        try:
            yield str(server.make_url(""))
        finally:
            await server.close()


def send(intake: Intake, events: list[dict[str, Any]], *, key: str = "", historical: bool = False) -> Account:
    account = Account(files=[])

    async def run() -> None:
        async with intake.serving() as url:
            sending = HttpSending(url, key, account, historical=historical)
            try:
                for event in events:
                    await sending.put(event["customer_id"], msgspec.json.encode(event))
            finally:
                await sending.close()

    asyncio.run(run())
    return account


def some(count: int, *, padding: int = 0) -> list[dict[str, Any]]:
    return [{"event_id": f"e{n}", "customer_id": f"c{n % 97}", "n": n, "pad": "x" * padding} for n in range(count)]


def test_batches_are_full_and_each_customer_stays_in_order() -> None:
    intake = Intake()
    account = send(intake, some(10_000))
    assert (account.sent, account.accepted, account.resent) == (10_000, 10_000, 0)
    assert max(len(body["events"]) for body in intake.bodies) == 500
    assert len(intake.bodies) <= 24, "four lanes, each with one batch that is not full"
    by_customer: dict[str, list[int]] = defaultdict(list)
    for body in intake.bodies:
        for event in body["events"]:
            by_customer[event["customer_id"]].append(event["n"])
    assert all(numbers == sorted(numbers) for numbers in by_customer.values())


def test_large_events_make_small_batches() -> None:
    intake = Intake()
    assert send(intake, some(300, padding=20_000)).accepted == 300
    assert max(intake.sizes) <= 401_000


def test_an_import_says_so_and_brings_its_key() -> None:
    intake = Intake()
    send(intake, some(3), key="k1", historical=True)
    assert [body["historical"] for body in intake.bodies] == [True] * len(intake.bodies)
    assert intake.keys == {"Bearer k1"}
    intake = Intake()
    send(intake, some(3))
    assert "historical" not in intake.bodies[0]
    assert intake.keys == {None}


def test_a_busy_server_is_asked_again_and_nothing_is_sent_twice() -> None:
    def later(_: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "0.05"})

    account = send(Intake(later, later), some(700))
    assert (account.sent, account.accepted, account.resent) == (700, 700, 0)


def test_a_server_without_its_log_may_have_taken_the_events() -> None:
    account = send(Intake(lambda _: web.Response(status=503, headers={"Retry-After": "0.05"})), some(4))
    assert (account.sent, account.accepted) == (4, 4)
    assert 1 <= account.resent <= 4


def test_an_answer_that_was_lost_is_sent_again_and_counted() -> None:
    def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    intake = Intake(hang_up)
    account = send(intake, some(4))
    assert (account.sent, account.accepted) == (4, 4)
    assert 1 <= account.resent <= 4


def test_a_refusal_ends_the_replay_with_the_servers_words() -> None:
    def no(_: web.Request) -> web.Response:
        return web.json_response({"detail": "send the secret key"}, status=401)

    with pytest.raises(SettingsError, match="status 401: send the secret key; give the key in KAIROS_"):
        send(Intake(*[no] * 10), some(5_000))


@pytest.mark.parametrize(
    ("applied", "duplicates", "rejected", "resent", "exact"),
    [
        (9, 0, 1, 0, True),
        (10, 0, 0, 0, True),
        (8, 2, 0, 0, True),
        (9, 0, 0, 0, False),
        (11, 0, 0, 0, False),
        (10, 3, 0, 3, True),
        (10, 4, 0, 3, False),
        (9, 0, 0, 3, False),
    ],
)
def test_the_account_is_exact_only_if_each_event_is_found(
    applied: int, duplicates: int, rejected: int, resent: int, exact: bool
) -> None:
    account = Account(files=[], sent=10, rejected=rejected, resent=resent, applied=applied, duplicates=duplicates)
    account.dead_lettered = rejected
    judge(account)
    assert account.exact is exact
    assert bool(account.problem) is not exact
