"""One look at the store for one answer: values, heads, the `after` rule, and what happens when it fails. Room: serving.

The read has a short timeout; three timeouts in a row open a circuit breaker with one probe. A second read happens only
when the caller named an event by `after` and the state has not reached it yet: until it has, or `wait_ms` is over.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final, NamedTuple

from msgspec import Struct

from events.errors import StoreError, StoreTimeout
from events.schema import partition_of
from feature_store.head import Head
from feature_store.reader import Reading
from serving.ask import Advice, Ask
from serving.backends import Backends
from serving.breaker import Breaker
from serving.errors import BadRequest
from serving.metrics import Metrics
from serving.settings import ServingSettings
from serving.tokens import After, decode_after, log_hash

_NOTHING: Final = Reading(None, None, None, None)
_STEPS_S: Final = (0.001, 0.001, 0.002, 0.002, 0.004)


class Degraded(Struct):
    """The answer is less than it could be."""

    level: str  # "popular": nothing but the lists in memory; "request_only": from what the request itself said
    reason: str


class Look(NamedTuple):
    """What was seen."""

    reading: Reading
    head: Head | None = None  # of the partition that the freshness is told of
    consistency: str = ""  # "reflected" or "stale", where `after` was given
    degraded: Degraded | None = None


class Looker:
    """Reads the store for answers."""

    def __init__(self, backends: Backends, settings: ServingSettings, metrics: Metrics) -> None:
        self._backends = backends
        self._settings = settings
        self._breaker = Breaker(settings.breaker_open_ms / 1_000)
        self._metrics = metrics

    async def look(self, ask: Ask, advice: list[Advice]) -> Look:
        """Return what the store knows, or why it was not asked.

        Raises
        ------
        BadRequest
            `after` is no token.
        """
        after = decode_after(ask.after) if ask.after else None
        if not (ask.customer_id or ask.anonymous_id):
            if after is not None:
                advice.append(Advice("/after", "no_identity", "after without customer_id or anonymous_id says nothing"))
            return Look(_NOTHING, consistency="stale" if after else "")
        if not self._breaker.admits(time.monotonic()):
            return self._without(after, "store_circuit_open")
        try:
            reading, consistency = await self._read(ask, after, advice)
        except StoreTimeout:
            self._breaker.failed(time.monotonic())
            self._metrics.breaker.set(self._breaker.is_open)
            return self._without(after, "store_timeout")
        except TimeoutError:
            self._breaker.gave_up()
            return self._without(after, "timeout_ms_over")
        except StoreError:
            self._breaker.gave_up()
            return self._without(after, "store_unavailable")
        except BaseException:
            self._breaker.gave_up()
            raise
        if self._breaker.is_open:
            self._metrics.breaker.set(0)
        self._breaker.succeeded()
        return Look(reading, reading.head_c or reading.head_a, consistency)

    def _without(self, after: After | None, reason: str) -> Look:
        return Look(_NOTHING, None, "stale" if after else "", Degraded("popular", reason))

    async def _read(self, ask: Ask, after: After | None, advice: list[Advice]) -> tuple[Reading, str]:
        reader = self._backends.reader
        customer_id, anonymous_id = ask.customer_id or "", ask.anonymous_id or ""
        if ask.timeout_ms is None or ask.timeout_ms / 1_000 >= reader.timeout_s:
            reading = await reader.read(customer_id, anonymous_id)
        else:
            async with asyncio.timeout(ask.timeout_ms / 1_000):
                reading = await reader.read(customer_id, anonymous_id)
        if after is None:
            return reading, ""
        if not self._concerns(after, ask, advice):
            return reading, "stale"
        wait_ms = self._settings.wait_ms if ask.wait_ms is None else ask.wait_ms
        deadline = time.monotonic() + wait_ms / 1_000
        tries = 0
        while not _reflects(reading, after):
            step = _STEPS_S[min(tries, len(_STEPS_S) - 1)]
            if time.monotonic() + step > deadline:
                return reading, "stale"
            await asyncio.sleep(step)
            reading = await reader.read(customer_id, anonymous_id)
            tries += 1
        return reading, "reflected"

    def _concerns(self, after: After, ask: Ask, advice: list[Advice]) -> bool:
        """Whether the token's event can be about this customer at all."""
        appender = self._backends.appender
        if after.log != log_hash(appender.log_id):
            advice.append(Advice("/after", "other_log", "after is of another log than this one: it was made anew"))
            return False
        if not 0 <= after.partition < appender.partitions:
            raise BadRequest("after names no partition of this log", code="invalid_token", pointer="/after")
        ids = (ask.customer_id, ask.anonymous_id)
        if after.partition in [partition_of(i, appender.partitions) for i in ids if i]:
            return True
        advice.append(Advice("/after", "other_identity", "after is of an event of somebody else than this request"))
        return False


def _reflects(reading: Reading, after: After) -> bool:
    """Whether the customer's own position, or the partition's, has reached the event."""
    for head in (reading.head_c, reading.head_a):
        if head is not None and head.partition == after.partition and head.position >= after.position:
            return True
    return False
