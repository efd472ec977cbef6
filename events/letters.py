"""A dead letter: what could not be used, why, and the bytes as they came. Room: events, pure.

Written by intake and inside the flow's commit; kept, listed and replayed by `events.dead_letters`.
"""

from __future__ import annotations

import msgspec

from events.log import START


class DeadLetter(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One event or log entry that was set aside."""

    reason: str  # for people: field, value, remedy
    code: str  # for programs, snake_case
    source: str  # "intake": refused before the log; "flow": taken out of the log
    original: bytes  # as received
    pointer: str = ""  # JSON pointer of the field, "" for the whole
    event_id: str = ""
    at_ms: int = 0  # when intake refused it; 0 in the flow, which knows no clock
    partition: int = -1
    position: int = START
    traceback: str = ""
    truncated: bool = False  # `original` was longer than what is kept


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(DeadLetter)

encode_dead_letter = _encoder.encode
decode_dead_letter = _decoder.decode


def stream_id(position: int) -> str:
    """Return the stream id under which the flow keeps the letter of a log position: a function of the log alone."""
    after = position + 1  # "0-0" is no valid id
    return f"{after >> 20}-{after & 0xFFFFF}"
