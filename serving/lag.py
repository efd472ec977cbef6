"""How far state is behind the log, from what the log's ends were when. Room: serving, pure.

Positions say only what comes before what, so lag is measured by the clock: a state that has not reached an end seen
`n` milliseconds ago is at least that far behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

_SAMPLES: Final = 120


class Lag:
    """Remembers when each partition's end was first seen."""

    def __init__(self) -> None:
        self._seen: dict[int, deque[tuple[int, int]]] = {}

    def saw(self, ends: Mapping[int, int], now_ms: int) -> None:
        """Take note of the log's ends, position by partition."""
        for partition, end in ends.items():
            samples = self._seen.setdefault(partition, deque(maxlen=_SAMPLES))
            if not samples or end != samples[-1][0]:
                samples.append((end, now_ms))

    def of(self, partition: int, position: int, now_ms: int) -> int:
        """Return by how many milliseconds a state at `position` is behind, 0 when it has all that was seen."""
        for end, seen_ms in self._seen.get(partition, ()):
            if end > position:
                return max(now_ms - seen_ms, 0)
        return 0
