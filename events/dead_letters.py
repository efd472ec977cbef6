"""Where dead letters are kept, and how they are looked at and replayed. Room: events.

Intake writes what it refuses to `{intake}dead` (`IntakeLetters`); a flow writes what it cannot use to `{pN}dead` inside
its commit. Both are streams in the state store, field ``d``. Tools use `DeadLetters`. Absent: the letter itself
(`events.letters`) and the command line (`cli.dead_letters`).

A replay judges a letter anew and appends it to the log. It first claims the letter (`…dead:claims`, so that two
replays at once do not both send it), then removes letter and claim in one transaction. A replay that dies in between
leaves a claim; after `CLAIM_MS` another replay may take it over, and because the event keeps its id the flow drops a
second copy.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from events import wire
from events.errors import EventError, LogError, SettingsError, StoreError, StoreTimeout
from events.letters import DeadLetter, decode_dead_letter, encode_dead_letter
from events.log import EventLog
from events.redis_protocol import shown
from events.schema import Event, decode_event, records_of

INTAKE: Final = "{intake}dead"
KEEP_BYTES: Final = 32_768  # of an original: what an event may have
KEEP_LETTERS: Final = 100_000  # of intake, about; the oldest go first, so that garbage cannot fill the store
CLAIM_MS: Final = 60_000
_PAGE: Final = 500

# The letter must still be there: another replay may have removed it, and its claim, since it was read.
_CLAIM: Final = """
if #redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1]) == 0 then return 0 end
local at = redis.call('HGET', KEYS[1], ARGV[1])
if at and tonumber(ARGV[2]) - tonumber(at) < tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""


class Kept(NamedTuple):
    """A letter and the id by which tools name it: ``intake:<stream id>`` or ``p3:<stream id>``."""

    id: str
    letter: DeadLetter


class Outcome(NamedTuple):
    """What became of one letter in a replay; `problem` is empty where it went to the log."""

    id: str
    event_id: str
    problem: str


def capped(letter: DeadLetter) -> DeadLetter:
    """Return the letter with at most `KEEP_BYTES` of its original, and a flag where that is not all."""
    if len(letter.original) <= KEEP_BYTES:
        return letter
    return msgspec.structs.replace(letter, original=letter.original[:KEEP_BYTES], truncated=True)


class IntakeLetters:
    """Intake's side, on the event loop: write only."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    @classmethod
    async def open(cls, url: str, *, timeout_s: float = 1.0) -> IntakeLetters:
        """Prepare to write to the store at `url`; connects with the first letter."""
        with _usable(url):
            client = redis.asyncio.Redis.from_url(url, **_settings(AsyncRetry, timeout_s))
        return cls(client, url)

    async def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters, in one round trip.

        Raises
        ------
        StoreError
            They could not be kept.
        """
        pipeline = self._client.pipeline(transaction=False)
        _queue(pipeline, letters)
        with _translated(self._url):
            await pipeline.execute()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class DeadLetters:
    """The tools' side, blocking: all letters of intake and of the flows of all partitions."""

    def __init__(self, url: str, partitions: int, *, timeout_s: float = 5.0) -> None:
        self._url = url
        self._streams = {"intake": INTAKE} | {f"p{p}": f"{{p{p}}}dead" for p in range(partitions)}
        with _usable(url):
            self._client: Any = redis.Redis.from_url(url, **_settings(Retry, timeout_s))

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what a tool refused in intake's stead."""
        pipeline = self._client.pipeline(transaction=False)
        _queue(pipeline, letters)
        with _translated(self._url):
            pipeline.execute()

    def counts(self) -> dict[str, int]:
        """Return how many letters are kept, by stream: ``intake``, ``p0`` …"""
        pipeline = self._client.pipeline(transaction=False)
        for key in self._streams.values():
            pipeline.xlen(key)
        with _translated(self._url):
            return dict(zip(self._streams, pipeline.execute(), strict=True))

    def newest(self, *, limit: int = 20, source: str = "", code: str = "") -> list[Kept]:
        """Return the newest letters, newest first.

        Parameters
        ----------
        source
            ``intake``, ``flow`` (any partition) or one stream such as ``p3``; all if empty.
        code
            Only letters of this code.
        """
        found: list[Kept] = []
        for stream in self._chosen(source):
            matching = (kept for kept in self._walk(stream) if not code or kept.letter.code == code)
            found += [kept for _, kept in zip(range(limit), matching, strict=False)]
        return sorted(found, key=_age, reverse=True)[:limit]

    def show(self, letter_id: str) -> DeadLetter:
        """Return one letter.

        Raises
        ------
        SettingsError
            The id names no kept letter.
        """
        letter = self._get(*self._parsed(letter_id))
        if letter is None:
            raise SettingsError(
                f"no dead letter {letter_id} is kept (replayed, perhaps): see `kairos dead-letters list`"
            )
        return letter

    def ids(self, source: str = "") -> list[str]:
        """Return the ids of all kept letters, oldest first."""
        return [kept.id for stream in self._chosen(source) for kept in reversed(list(self._walk(stream)))]

    def replay(self, letter_ids: Sequence[str], log: EventLog) -> Iterator[Outcome]:
        """Judge letters anew and append those that pass to the log, each at most once; yield what became of each."""
        for letter_id in letter_ids:
            stream, entry = self._parsed(letter_id)
            letter = self._get(stream, entry)
            try:
                if letter is None:
                    raise EventError("it is not kept any more: replayed, perhaps")
                event = revived(letter, letter_id)
                if not self._claim(stream, entry):
                    raise EventError("another replay is sending it, or has sent it")
                log.append(records_of([event], log.partitions))
            except EventError as err:
                yield Outcome(letter_id, letter.event_id if letter else "", err.detail)
            except LogError as err:  # perhaps it is in the log: the claim stays, and the flow knows a repeat by its id
                yield Outcome(letter_id, event.event_id, f"{err}; replay again after {CLAIM_MS // 1000} s")
            else:
                self._remove(stream, entry)
                yield Outcome(letter_id, event.event_id, "")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _chosen(self, source: str) -> list[str]:
        chosen = [s for s in self._streams if source in ("", s) or (source == "flow" and s != "intake")]
        if not chosen:
            raise SettingsError(f"--source {source!r}: use intake, flow or one of {', '.join(self._streams)}")
        return chosen

    def _parsed(self, letter_id: str) -> tuple[str, str]:
        stream, _, entry = letter_id.partition(":")
        ms, dash, seq = entry.partition("-")
        if stream not in self._streams or not (dash and ms.isdigit() and seq.isdigit()):
            raise SettingsError(f"{letter_id!r} is no id of a dead letter: write it as `list` does, intake:… or p3:…")
        return stream, entry

    def _get(self, stream: str, entry: str) -> DeadLetter | None:
        with _translated(self._url):
            found = self._client.xrange(self._streams[stream], entry, entry)
        return decode_dead_letter(found[0][1][b"d"]) if found else None

    def _walk(self, stream: str) -> Iterator[Kept]:
        """Yield a stream's letters, newest first."""
        last = "+"
        while True:
            with _translated(self._url):
                page = self._client.xrevrange(self._streams[stream], last, "-", count=_PAGE)
            for entry, fields in page:
                yield Kept(f"{stream}:{entry.decode()}", decode_dead_letter(fields[b"d"]))
            if len(page) < _PAGE:
                return
            last = f"({page[-1][0].decode()}"

    def _claim(self, stream: str, entry: str) -> bool:
        with _translated(self._url):
            key = self._streams[stream]
            return bool(self._client.eval(_CLAIM, 2, f"{key}:claims", key, entry, str(_now_ms()), str(CLAIM_MS)))

    def _remove(self, stream: str, entry: str) -> None:
        pipeline = self._client.pipeline(transaction=True)
        pipeline.xdel(self._streams[stream], entry)
        pipeline.hdel(f"{self._streams[stream]}:claims", entry)
        with _translated(self._url):
            pipeline.execute()


def _queue(pipeline: Any, letters: Sequence[DeadLetter]) -> None:
    for letter in letters:
        pipeline.xadd(INTAKE, {b"d": encode_dead_letter(capped(letter))}, maxlen=KEEP_LETTERS, approximate=True)


def revived(letter: DeadLetter, letter_id: str) -> Event:
    """Return the event of a letter, judged by today's rules as of the time when it first came.

    Raises
    ------
    EventError
        It still cannot be used.
    """
    if letter.truncated:
        raise EventError("the original was too large to be kept whole: send the event again from its source")
    if letter.source == "flow":
        return _reread(letter)
    event = wire.decode(letter.original, received_ms=letter.at_ms or _now_ms()).event
    if not _has_event_id(letter.original):
        event.event_id = letter_id  # not a fresh one: a second copy must be known as a repeat
    return event


def _reread(letter: DeadLetter) -> Event:
    try:
        event = decode_event(letter.original)
    except msgspec.DecodeError as err:
        raise EventError(f"the log entry is still not readable: {err}", code=letter.code) from err
    if not (event.customer_id or event.anonymous_id or event.catalog):
        raise EventError("the entry names neither customer, visitor nor item, so it has no partition", code=letter.code)
    return event


def _has_event_id(original: bytes) -> bool:
    fields: Mapping[str, Any] = msgspec.json.decode(original)
    return bool(fields.get("event_id"))


def _age(kept: Kept) -> tuple[int, int]:
    """Return what sorts letters by time: intake's clock, or the log's, which is in the id where the log is Redis."""
    ms, _, seq = kept.id.partition(":")[2].partition("-")
    return int(ms), int(seq)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _settings(retry: Any, timeout_s: float) -> dict[str, Any]:
    return {
        "protocol": 2,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": retry(NoBackoff(), 0),
        "retry_on_error": [],
    }


@contextlib.contextmanager
def _usable(url: str) -> Iterator[None]:
    try:
        yield
    except ValueError as err:
        raise SettingsError(f"{shown(url)!r} is no store address: use redis://host:port or unix:///path") from err


@contextlib.contextmanager
def _translated(url: str) -> Iterator[None]:
    """Turn the client's exceptions into the house's."""
    try:
        yield
    except redis.TimeoutError as err:
        raise StoreTimeout(f"the store at {shown(url)} did not answer in time") from err
    except redis.ConnectionError as err:
        raise StoreError(f"no store at {shown(url)}: {err}; start it with `kairos up`, or correct --store") from err
    except redis.RedisError as err:
        raise StoreError(f"the store at {shown(url)} refused: {err}") from err
