"""The `after` token: where in the log an accepted event stands, opaque to callers. Room: serving, pure.

22 bytes in base64url: 64 bits of the log id's hash, the partition, the position, a checksum. It is no secret and gives
no right; the checksum only tells a mangled token from an old one.
"""

from __future__ import annotations

import base64
import binascii
import struct
from typing import Final, NamedTuple

import xxhash

from serving.errors import BadRequest

_LAYOUT: Final = struct.Struct(">QHq")
_BYTES: Final = _LAYOUT.size + 4


class After(NamedTuple):
    """A place in a log."""

    log: int  # hash of the log id, `log_hash`
    partition: int
    position: int


def log_hash(log_id: str) -> int:
    return xxhash.xxh3_64_intdigest(log_id.encode())


def encode_after(after: After) -> str:
    """Return the token of a place."""
    body = _LAYOUT.pack(*after)
    return base64.urlsafe_b64encode(body + xxhash.xxh32_digest(body)).rstrip(b"=").decode()


def decode_after(token: str) -> After:
    """Return the place that a token names.

    Raises
    ------
    BadRequest
        No token of ours.
    """
    try:
        data = base64.b64decode(token.encode("ascii") + b"==", altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        data = b""
    body, checksum = data[: _LAYOUT.size], data[_LAYOUT.size :]
    if len(data) != _BYTES or xxhash.xxh32_digest(body) != checksum:
        detail = "after is no token of ours: send it as POST /v1/events gave it, or leave it out"
        raise BadRequest(detail, code="invalid_token", pointer="/after")
    return After(*_LAYOUT.unpack(body))
