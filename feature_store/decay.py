"""Exponentially decayed counts by forward decay. Room: feature_store, pure.

A weight is not shrunk as time passes; later events weigh more instead: an event at ``t`` adds ``2^((t - landmark)/h)``
and a reader divides by ``2^((now - landmark)/h)``. So an update is one addition, a late event lands exactly where an
early one would have, and two sums with one landmark merge by adding (Cormode, Shkapenyuk, Srivastava, Xu: "Forward
Decay", ICDE 2009). The landmark moves, and the sums are rescaled, before the exponent can overflow a double.
"""

from __future__ import annotations

from typing import Final

HALF_LIFE_MS: Final = 7 * 86_400_000
#: Half-lives between landmark and event after which the sums are rescaled (a double's exponent ends at 2^1023).
RESCALE_AFTER: Final = 400.0


def weight_at(at_ms: int, landmark_ms: int) -> float:
    """Return the weight of an event at `at_ms`; may be less than 1 for an event before the landmark."""
    return float(2.0 ** ((at_ms - landmark_ms) / HALF_LIFE_MS))


def rescale(sums: dict[int, float] | dict[str, float], factor: float) -> None:
    """Multiply each sum in place, after the landmark moved."""
    for key in sums:
        sums[key] *= factor  # type: ignore[index]


def as_of(total: float, now_ms: int, landmark_ms: int) -> float:
    """Return a sum as it stands at `now_ms`, in events: one event now counts 1, one a half-life ago 0.5."""
    exponent = (now_ms - landmark_ms) / HALF_LIFE_MS
    return total / 2.0**exponent if exponent < 1_000 else 0.0
