"""The head of a partition: how far its state has come, and the exact account of what became of each entry.

Room: feature_store, pure. Written by the commit, in the same transaction as the effects; compared byte for byte to
fence a second owner; read by serving (freshness, read-your-own-click), `kairos status` and the replay's account.
"""

from __future__ import annotations

import msgspec

from events.log import START


class Head(msgspec.Struct, array_like=True):
    """Every log entry is counted in exactly one of the five totals."""

    log_id: str = ""
    partition: int = 0
    partitions: int = 0  # of the log, fixed for its life
    position: int = START
    watermark_ms: int = 0  # greatest event time seen
    historical: bool = False  # the last shopper event was an import of the past: read features as of the watermark
    applied: int = 0  # shopper events that changed state
    duplicates: int = 0  # shopper events dropped as repeats
    dead_lettered: int = 0  # entries that are in the flow's dead letters
    catalog: int = 0  # catalogue events
    served: int = 0  # impressions that our own API wrote
    customers: int = 0  # customer values made, anonymous ones included

    @property
    def entries(self) -> int:
        """Entries accounted for since the log began."""
        return self.applied + self.duplicates + self.dead_lettered + self.catalog + self.served


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Head)

encode_head = _encoder.encode
decode_head = _decoder.decode
