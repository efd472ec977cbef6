"""Taking events to the stack: through the API, or straight into its log. Room: cli.

Both ways keep each customer's order: over HTTP a customer always takes the same lane, and a lane has one request under
way. The encoded events are those that `cli.replaying.rows` made.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

import aiohttp
import msgspec

from cli.replaying.account import Account
from cli.replaying.items import Items, bodies
from events.dead_letters import DeadLetters
from events.errors import EventError, LogError, SettingsError
from events.letters import DeadLetter
from events.log import EventLog
from events.schema import Event, partition_of, records_of
from events.wire import decode
from events.wire_catalog import catalog_events, decode_item

MOST_EVENTS: Final = 500
MOST_BYTES: Final = 400_000
LANES: Final = 4
_WAITING: Final = 4  # batches that wait in a lane
_TRIES: Final = 60
_TIMEOUT_S: Final = 30.0


class Sending(Protocol):
    """Where events go."""

    async def items(self, items: Items) -> None:
        """Tell the catalogue."""

    async def put(self, identity: str, event: bytes) -> None:
        """Take one event, waiting while too many are on their way."""

    async def flush(self) -> None:
        """Send what is gathered, without waiting for the answer."""

    async def close(self) -> None:
        """Send what is left and wait for all answers."""


class _Lane:
    """Customers that share one connection."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.size = 0
        self.under_way = 0  # batches handed over and not yet answered
        self.queue: asyncio.Queue[list[bytes]] = asyncio.Queue(_WAITING)


class HttpSending:
    """Through ``POST /v1/events``."""

    def __init__(self, url: str, key: str, account: Account, *, historical: bool) -> None:
        self._url = url.rstrip("/")
        self._account = account
        self._head = b'{"historical":true,"events":[' if historical else b'{"events":['
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session = aiohttp.ClientSession(
            headers={**headers, "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=LANES),
        )
        self._answered = False  # at least once: a later silence is waited out
        self._lanes = [_Lane() for _ in range(LANES)]
        self._workers = [asyncio.create_task(self._work(lane)) for lane in self._lanes]

    async def items(self, items: Items) -> None:
        for count, body in bodies(items.catalogue()):
            status, answer = await self._request("PUT", "/v1/catalog/items", body)
            if status != 202:
                raise SettingsError(_refusal("the catalogue", self._url, status, answer))
            self._account.items += count - len(msgspec.json.decode(answer).get("rejected", ()))

    async def put(self, identity: str, event: bytes) -> None:
        lane = self._lanes[partition_of(identity, LANES)]
        if lane.events and (len(lane.events) == MOST_EVENTS or lane.size + len(event) > MOST_BYTES):
            await self._hand_over(lane)
        lane.events.append(event)
        lane.size += len(event) + 1

    async def flush(self) -> None:
        for lane in self._lanes:
            if lane.events:
                await self._hand_over(lane)

    async def close(self) -> None:
        try:
            await self.flush()
            while any(lane.under_way for lane in self._lanes):
                self._check()
                await asyncio.sleep(0.001)
        finally:
            for worker in self._workers:
                worker.cancel()
            await asyncio.gather(*self._workers, return_exceptions=True)
            await self._session.close()

    async def _hand_over(self, lane: _Lane) -> None:
        """Queue a lane's events; a lane that failed would never take them, so look at the workers first."""
        events, lane.events, lane.size = lane.events, [], 0
        while lane.queue.full():
            self._check()
            await asyncio.sleep(0.001)
        lane.queue.put_nowait(events)
        lane.under_way += 1
        await asyncio.sleep(0)

    def _check(self) -> None:
        for worker in self._workers:
            if worker.done() and not worker.cancelled() and (problem := worker.exception()):
                raise problem

    async def _work(self, lane: _Lane) -> None:
        while True:
            events = await lane.queue.get()
            self._account.sent += len(events)
            status, answer = await self._request(
                "POST", "/v1/events", self._head + b",".join(events) + b"]}", len(events)
            )
            if status not in (202, 422):
                raise SettingsError(_refusal("events", self._url, status, answer))
            found = _answers.decode(answer)
            account = self._account
            account.accepted += len(found.accepted)
            account.repeated += len(found.repeated)
            account.rejected += len(found.rejected)
            lane.under_way -= 1

    async def _request(self, method: str, path: str, body: bytes, events: int = 0) -> tuple[int, bytes]:
        """Send until there is an answer other than "later"; raises `LogError` when there is none for long."""
        problem = ""
        for _ in range(_TRIES):
            try:
                async with self._session.request(method, self._url + path, data=body) as response:
                    answer = await response.read()
                    self._answered = True
                    if response.status not in (429, 503):
                        return response.status, answer
                    problem = f"status {response.status}"
                    if response.status == 503:  # the log did not answer in time, perhaps: it may have taken them
                        self._account.resent += events
                    await asyncio.sleep(min(float(response.headers.get("Retry-After") or 0.5), 5.0))
            except aiohttp.ClientConnectorError as err:
                if not self._answered:
                    raise SettingsError(f"no API at {self._url}: start `kairos up`, or correct --url") from err
                problem = str(err)
                await asyncio.sleep(0.5)
            except (aiohttp.ClientError, TimeoutError) as err:
                problem = str(err) or type(err).__name__
                self._account.resent += events
                await asyncio.sleep(0.5)
        raise LogError(f"the API at {self._url} does not take events ({problem}): see `kairos status`")


class LogSending:
    """Straight into the log, each event judged by the API's own decoder; what it refuses is a dead letter here, too."""

    def __init__(self, log: EventLog, letters: DeadLetters | None, account: Account, *, historical: bool) -> None:
        self._log = log
        self._letters = letters
        self._account = account
        self._historical = historical
        self._events: list[Event] = []
        self._refused: list[DeadLetter] = []

    async def items(self, items: Items) -> None:
        told = [decode_item(msgspec.json.encode(item)) for item in items.catalogue()]
        records: list[tuple[int, bytes]] = []
        for event, _ in catalog_events(told, self._log.partitions, _now_ms()):
            records += records_of([event], self._log.partitions)
            if len(records) >= 100:
                self._log.append(records)
                records = []
        self._log.append(records)
        self._account.items += len(told)

    async def put(self, identity: str, event: bytes) -> None:  # noqa: ARG002 - the log knows its partition
        account = self._account
        account.sent += 1
        now_ms = _now_ms()
        try:
            decoded, _ = decode(event, received_ms=now_ms, historical=self._historical)
        except EventError as err:
            self._refused.append(
                DeadLetter(
                    reason=err.detail, code=err.code, pointer=err.pointer, source="intake", original=event, at_ms=now_ms
                )
            )
            account.rejected += 1
        else:
            self._events.append(decoded)
        if len(self._events) >= MOST_EVENTS:
            await self.flush()

    async def flush(self) -> None:
        if self._refused and self._letters is not None:
            self._letters.keep(self._refused)
        self._refused = []
        if self._events:
            self._log.append(records_of(self._events, self._log.partitions))
            self._account.accepted += len(self._events)
            self._events = []

    async def close(self) -> None:
        await self.flush()


class _Answer(msgspec.Struct):
    accepted: Sequence[msgspec.Raw] = ()
    repeated: Sequence[msgspec.Raw] = ()
    rejected: Sequence[msgspec.Raw] = ()


_answers = msgspec.json.Decoder(_Answer)


def _refusal(what: str, url: str, status: int, answer: bytes) -> str:
    """Return one line for an answer that ends the replay."""
    try:
        problem: Any = msgspec.json.decode(answer)
        detail = str(problem.get("detail") or problem.get("title") or "")
    except (msgspec.DecodeError, AttributeError):
        detail = ""
    hint = "; give the key in KAIROS_SECRET_KEY, or --data-dir of the stack" if status in (401, 403) else ""
    return f"{url} refused {what} with status {status}: {detail or 'no reason given'}{hint}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
