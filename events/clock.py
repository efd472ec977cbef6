"""Event time: reading it, correcting the sender's clock, keeping it within reach. Room: events, pure.

Called by `events.wire` alone. No clock is read here: received time is an argument.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Final

PAST_MS: Final = 30 * 86_400_000
FUTURE_MS: Final = 60_000

#: 1973-03-03 in epoch milliseconds; a smaller number is taken for seconds and refused.
EARLIEST_MS: Final = 100_000_000_000
LATEST_MS: Final = 253_402_300_799_999  # the end of year 9999

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def epoch_ms(time: datetime | int) -> int:
    """Return epoch milliseconds of a time with a zone, or of what already is such a number."""
    return time if isinstance(time, int) else (time - _EPOCH) // _MILLISECOND


def corrected(happened_ms: int, sent_ms: int, received_ms: int) -> int:
    """Return the true event time: the sender's clock is off by what lies between its sending and our receiving.

    >>> corrected(happened_ms=1_000, sent_ms=4_000, received_ms=100_000)  # three seconds before it was sent
    97000
    """
    return received_ms - (sent_ms - happened_ms)


def clamped(at_ms: int, received_ms: int) -> int:
    """Return the nearest time that lies within 30 days before and 60 seconds after receipt."""
    return min(max(at_ms, received_ms - PAST_MS), received_ms + FUTURE_MS)


def new_id(now_ms: int) -> str:
    """Return a UUIDv7 (RFC 9562): 48 bits of time, then 74 random bits."""
    bits = (now_ms & 0xFFFF_FFFF_FFFF) << 80 | secrets.randbits(80)
    bits = bits & ~(0xF << 76) | 0x7 << 76
    text = f"{bits & ~(0x3 << 62) | 0x2 << 62:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
