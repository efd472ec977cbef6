"""What was shown, on its way to the log: a bounded buffer that no answer waits for. Room: serving.

An impression is a `view_item_list` event with `recommendation_id`, positions and the property `served`, by which the
account tells our own entries from the shoppers'. When the log does not take them the buffer fills; what then does not
fit is dropped and counted. A batch of unknown outcome is sent again, so an impression may stand in the log twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import structlog

from events.errors import KairosError
from events.schema import Event, records_of
from serving.backends import Backends
from serving.metrics import Metrics

log = structlog.get_logger("serving")

_EVERY_S: Final = 0.02
_BATCH: Final = 500
_RETRY_S: Final = 0.5


class Impressions:
    """The buffer."""

    def __init__(self, backends: Backends, metrics: Metrics, capacity: int) -> None:
        self._backends = backends
        self._metrics = metrics
        self._capacity = capacity
        self._waiting: deque[Event] = deque()
        self._news = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, event: Event) -> None:
        """Take an impression, or drop it if the buffer is full."""
        if len(self._waiting) >= self._capacity:
            self._metrics.impressions_dropped.inc()
            return
        self._waiting.append(event)
        if not self._news.is_set():
            self._news.set()

    async def follow(self) -> None:
        """Append batches for as long as the application lives: what came together goes together."""
        while True:
            await self._news.wait()
            await asyncio.sleep(_EVERY_S)
            self._news.clear()
            if not await self._send():
                await asyncio.sleep(_RETRY_S)
            if self._waiting:
                self._news.set()

    async def flush(self, within_s: float) -> None:
        """Send what waits, at shutdown; what does not go in time is counted as dropped."""
        try:
            async with asyncio.timeout(within_s):
                while self._waiting and await self._send():
                    pass
        except TimeoutError:
            log.debug("impressions_not_flushed", left=len(self._waiting))
        self._metrics.impressions_dropped.inc(len(self._waiting))
        self._waiting.clear()

    async def _send(self) -> bool:
        """Append one batch; it leaves the buffer when the log has it."""
        batch = [self._waiting[i] for i in range(min(_BATCH, len(self._waiting)))]
        try:
            appender = self._backends.appender
            await appender.append(records_of(batch, appender.partitions))
        except KairosError as err:
            log.debug("impressions_not_appended", reason=str(err))
            return False
        for _ in batch:
            self._waiting.popleft()
        self._metrics.impressions.inc(len(batch))
        return True
