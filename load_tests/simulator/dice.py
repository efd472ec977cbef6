"""Seeded randomness, one draw at a time. Room: load_tests, simulator.

A session draws a few dozen numbers; a NumPy call for each costs microseconds, so uniforms are drawn in blocks and
handed out as Python floats. Each session has dice of its own (seed, number of the session): what it does depends
on nothing that happens beside it, however the sessions interleave.
"""

from __future__ import annotations

import math

import numpy as np


class Dice:
    """Draws that are equal for equal seeds.

    Parameters
    ----------
    seed
        One or more non-negative ints, for example ``Dice(seed, session_number)``.
    """

    __slots__ = ("_block", "_generator", "_size")

    def __init__(self, *seed: int) -> None:
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        self._block: list[float] = []
        self._size = 32

    def uniform(self) -> float:
        """Return a float in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(self._size).tolist()
            self._size = min(self._size * 2, 4096)
        return self._block.pop()

    def chance(self, probability: float) -> bool:
        """Say yes with the given probability."""
        return self.uniform() < probability

    def below(self, count: int) -> int:
        """Return an int in [0, count)."""
        return int(self.uniform() * count)

    def between(self, low: float, high: float) -> float:
        """Return a float in [low, high)."""
        return low + (high - low) * self.uniform()

    def exponential(self, mean: float) -> float:
        """Return a positive float of the given mean."""
        return -mean * math.log(1.0 - self.uniform())

    def bits(self, count: int) -> int:
        """Return an int of `count` random bits (at most 52)."""
        return int(self.uniform() * (1 << count))
