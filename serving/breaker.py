"""A circuit breaker: after three timeouts in a row the store is left alone, then probed by one. Room: serving, pure.

While it is open answers come from memory at once, instead of each waiting for the timeout. Time is an argument.
"""

from __future__ import annotations

from typing import Final

FAILURES: Final = 3


class Breaker:
    """Closed: all pass. Open: none, until `open_s` is over; then one probe, whose outcome closes or opens anew."""

    def __init__(self, open_s: float) -> None:
        self._open_s = open_s
        self._failures = 0
        self._until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        return self._failures >= FAILURES

    def admits(self, now_s: float) -> bool:
        """Whether this request may ask the store; says yes to one probe at a time."""
        if self._failures < FAILURES:
            return True
        if self._probing or now_s < self._until:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        self._failures = 0
        self._probing = False

    def failed(self, now_s: float) -> None:
        self._failures += 1
        self._probing = False
        self._until = now_s + self._open_s

    def gave_up(self) -> None:
        """The request ended without an outcome (its caller left): the next may probe."""
        self._probing = False
