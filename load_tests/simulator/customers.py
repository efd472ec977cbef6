"""The shop's customers as arrays: tastes, price sensitivity, activity, life cycles. Room: load_tests, simulator.

1,000,000 customers take about 60 MB. A day is an int, 0 the day on which a simulation of the present begins; history
plays on negative days.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from load_tests.simulator.catalogue import TASTES

NEW_DAYS: Final = 14
LAPSING_DAYS: Final = 30


class Stage(IntEnum):
    """Where a customer stands in the life cycle."""

    UNBORN = 0  # has not found the shop yet
    NEW = 1
    ACTIVE = 2
    LAPSING = 3  # the last month before leaving: comes ever less
    LAPSED = 4
    WON_BACK = 5


#: Visits relative to the customer's own activity, by stage.
PACE: Final = np.array([0.0, 1.5, 1.0, 0.4, 0.0, 0.8], dtype=np.float32)


class Customers:
    """Columnar customers; row *r* is customer ``c%07d`` of *r*.

    Attributes
    ----------
    tastes
        float16 ``(n, TASTES)``, unit length times 1.6: what the customer likes, in the space of categories and brands.
    price_sensitivity
        float32 ``(n,)`` in [0, 1].
    activity
        float32 ``(n,)``, Pareto with shape 1.3: relative frequency of visits while active.
    born, leaves, returns
        int16 ``(n,)`` days; `returns` is 32,767 for who never comes back.
    """

    def __init__(self, count: int, seed: int) -> None:
        if count < 1:
            raise ValueError(f"a shop needs at least one customer, got {count}")
        rng = np.random.default_rng([seed, 2])
        self.count = count
        self.tastes = np.empty((count, TASTES), np.float16)
        for start in range(0, count, 65_536):  # in blocks: the float64 of a million customers would be 64 MB
            block = rng.standard_normal((min(65_536, count - start), TASTES), dtype=np.float32)
            self.tastes[start : start + len(block)] = 1.6 * block / np.linalg.norm(block, axis=1, keepdims=True)
        self.price_sensitivity = rng.beta(2.0, 2.0, count).astype(np.float32)
        self.activity = np.minimum(1.0 + rng.pareto(1.3, count), 500.0).astype(np.float32)
        self.born = np.maximum(-700, 120 - rng.exponential(300, count)).astype(np.int16)
        stays = np.minimum(20 + rng.exponential(260, count), 10_000)
        self.leaves = (self.born + stays).astype(np.int16)
        away = self.leaves + np.minimum(30 + rng.exponential(90, count), 10_000)
        self.returns = np.where(rng.random(count) < 0.3, away, 32_767).astype(np.int16)
        self.mobile = rng.random(count) < 0.6
        self._day = np.iinfo(np.int64).min
        self._visits = np.empty(0)

    def customer_id(self, row: int) -> str:
        """Return the id of a row."""
        return f"c{row:07d}"

    def device_id(self, row: int) -> str:
        """Return the anonymous id of the customer's own device."""
        return f"a-{row * 2_654_435_761 % (1 << 32):08x}"

    def stage(self, day: int) -> npt.NDArray[np.uint8]:
        """Return every customer's `Stage` on a day, ``(n,)``."""
        stage = np.full(self.count, Stage.ACTIVE, np.uint8)
        stage[day < self.born.astype(np.int32) + NEW_DAYS] = Stage.NEW
        stage[day < self.born] = Stage.UNBORN
        stage[day >= self.leaves.astype(np.int32) - LAPSING_DAYS] = Stage.LAPSING
        stage[day >= self.leaves] = Stage.LAPSED
        stage[day >= self.returns] = Stage.WON_BACK
        return stage

    def visitor(self, uniform: float, day: int) -> int:
        """Draw who comes on a day: a row, by activity and stage; `uniform` is in [0, 1)."""
        if day != self._day:
            self._visits = np.cumsum(self.activity * PACE[self.stage(day)], dtype=np.float64)
            self._day = day
        if not self._visits[-1] > 0.0:  # a handful of customers, all away: one of them comes all the same
            return int(uniform * self.count)
        return min(int(np.searchsorted(self._visits, uniform * self._visits[-1], side="right")), self.count - 1)
