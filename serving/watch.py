"""Self-protection of the intake: looks at lag and memory in the background, says when to shed. Room: serving.

Intake sheds with 429 before Redis refuses writes (`noeviction`) and before a backlog makes state worthless.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import structlog

from events.errors import KairosError
from events.log import START, EventLog, open_log
from serving.backends import Backends
from serving.errors import Overloaded
from serving.lag import Lag
from serving.metrics import Metrics
from serving.settings import ServingSettings

log = structlog.get_logger("serving")

_EVERY_S: Final = 1.0
_RETRY_AFTER_MS: Final = 2_000


class Watch:
    """Knows why intake should shed now, if it should."""

    def __init__(self, backends: Backends, settings: ServingSettings, metrics: Metrics) -> None:
        self.lag = Lag()
        self._backends = backends
        self._settings = settings
        self._metrics = metrics
        self._reason = ""
        self._detail = ""

    def admit(self) -> None:
        """Let a request in, or raise `Overloaded`."""
        if self._reason:
            self._metrics.shed.labels(self._reason).inc()
            raise Overloaded(
                f"{self._detail}: send again later, with the same event_ids", retry_after_ms=_RETRY_AFTER_MS
            )

    async def follow(self) -> None:
        """Look once a second."""
        await self._backends.connected.wait()
        ends: EventLog | None = None
        try:
            while True:
                try:
                    if ends is None:
                        ends = await asyncio.to_thread(open_log, self._settings.log_url)
                    await self._look(ends)
                except KairosError as err:
                    log.debug("watch_failed", reason=str(err))
                await asyncio.sleep(_EVERY_S)
        finally:
            if ends is not None:
                ends.close()

    async def _look(self, event_log: EventLog) -> None:
        reader = self._backends.reader
        heads = await reader.heads()
        found = await asyncio.to_thread(lambda: {p: event_log.end(p) for p in range(event_log.partitions)})
        now_ms = time.time_ns() // 1_000_000
        self.lag.saw(found, now_ms)
        lag_ms = max(self.lag.of(p, heads[p].position if p in heads else START, now_ms) for p in found)
        self._metrics.lag.set(lag_ms / 1_000)
        used, most = await reader.memory_used()
        self._judge(lag_ms, used, most)

    def _judge(self, lag_ms: int, used: int, most: int) -> None:
        settings = self._settings
        share = settings.shed_memory_share
        if most and used > share * most:
            reason, detail = "memory", f"the store has {used:,} of {most:,} bytes in use"
        elif settings.shed_memory_bytes and used > settings.shed_memory_bytes:
            reason, detail = (
                "memory",
                f"the store has {used:,} bytes in use, the limit is {settings.shed_memory_bytes:,}",
            )
        elif lag_ms > settings.shed_lag_ms:
            reason, detail = "lag", f"state is {lag_ms / 1_000:.0f} s behind the log"
        else:
            reason = detail = ""
        if reason != self._reason:
            log.warning("shedding", reason=reason, detail=detail) if reason else log.info("shedding_ended")
        self._reason, self._detail = reason, detail
