"""The log and the store as this process holds them: connected by themselves, whenever they come. Room: serving.

An API process starts whether or not its parts are there: until then intake answers 503 and recommendations come from
memory. `tasks` run for the life of the application (`serving.app`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from events.dead_letters import IntakeLetters
from events.errors import KairosError, LogError, StoreError
from events.log import AsyncAppender, open_appender
from feature_store.reader import StateReader
from serving.settings import ServingSettings

log = structlog.get_logger("serving")

_T = TypeVar("_T")
_RETRY_S = (0.1, 0.2, 0.5, 1.0)


class Backends:
    """Holds the appender and the reader once they are open."""

    def __init__(self, settings: ServingSettings) -> None:
        self._settings = settings
        self._appender: AsyncAppender | None = None
        self._reader: StateReader | None = None
        self._letters: IntakeLetters | None = None
        self.connected = asyncio.Event()

    @property
    def appender(self) -> AsyncAppender:
        """The log's appender; raises `LogError` while there is none."""
        if self._appender is None:
            raise LogError("the event log is not connected yet: try again shortly")
        return self._appender

    @property
    def reader(self) -> StateReader:
        """The store's reader; raises `StoreError` while there is none."""
        if self._reader is None:
            raise StoreError("the state store is not connected yet: try again shortly")
        return self._reader

    @property
    def letters(self) -> IntakeLetters:
        """Where refused events are kept; raises `StoreError` while there is none."""
        if self._letters is None:
            raise StoreError("the dead letters are not connected yet: try again shortly")
        return self._letters

    async def connect(self) -> None:
        """Open both, for as long as it takes; the partition count and the log's id come from the log."""
        settings = self._settings
        self._letters = await IntakeLetters.open(settings.store_url)
        appender = await _patiently("log", lambda: open_appender(settings.log_url))
        self._appender = appender
        reader = await StateReader.open(settings.store_url, appender.partitions, timeout_ms=settings.store_timeout_ms)
        await _patiently("store", reader.heads)
        self._reader = reader
        self.connected.set()

    async def close(self) -> None:
        if self._appender is not None:
            await self._appender.close()
        if self._reader is not None:
            await self._reader.close()
        if self._letters is not None:
            await self._letters.close()


async def _patiently(part: str, opening: Callable[[], Awaitable[_T]]) -> _T:
    attempt = 0
    while True:
        try:
            return await opening()
        except KairosError as err:
            if attempt == 0:
                log.warning("backend_unreachable", part=part, reason=str(err))
            await asyncio.sleep(_RETRY_S[min(attempt, len(_RETRY_S) - 1)])
            attempt += 1
