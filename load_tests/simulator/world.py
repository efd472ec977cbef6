"""The world: who likes what, and what follows from being shown it. Room: load_tests, simulator.

The ground truth that a recommender is to find, so it can be measured: `relevance`, `click_probability` and
`purchase_probability` are the exact numbers that `shopping` draws with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from load_tests.simulator.catalogue import Catalogue
from load_tests.simulator.customers import Customers

CONTINUE: Final = 0.85  # probability of looking one position further down after no click
ATTENTION: Final = 0.5  # click probability of a perfectly relevant item that is looked at
SAME_SERIES, SAME_CATEGORY, ELSEWHERE = 1.0, 0.6, 0.2  # how far an item meets what the session is about
DISCOUNT_PULL: Final = 3.0  # log-odds that a full discount adds for the most price-sensitive customer

Rows = int | Sequence[int] | npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class World:
    """A catalogue and its customers, from one seed.

    Parameters
    ----------
    items, customers
        How many of each. 100,000 and 1,000,000 take about 100 MB.
    seed
        Equal seeds give equal worlds.
    """

    def __init__(self, *, items: int = 1_000, customers: int = 10_000, seed: int = 0) -> None:
        self.seed = seed
        self.catalogue = Catalogue(items, seed)
        self.customers = Customers(customers, seed)
        goods = self.catalogue
        #: float32 ``(n, TASTES)``: what a taste is multiplied with.
        self._appeal = 1.5 * goods.category_tastes[goods.category] + 0.8 * goods.brand_tastes[goods.brand]

    def relevance(self, customer: int, items: Rows, *, discount: float = 0.0) -> Floats:
        """Return how much a customer likes items, in (0, 1), whatever the session is about.

        Parameters
        ----------
        customer
            Row of the customer; -1 for a visitor of whom nothing is known (average taste).
        items
            Row or rows, shape ``(k,)``.
        discount
            Fraction off the price, in [0, 1).

        Returns
        -------
            Shape ``(k,)``.
        """
        rows = np.atleast_1d(np.asarray(items, dtype=np.int64))
        goods = self.catalogue
        liking = 0.8 * goods.quality[rows]
        sensitivity = 0.5
        if customer >= 0:
            sensitivity = float(self.customers.price_sensitivity[customer])
            liking += self._appeal[rows] @ self.customers.tastes[customer].astype(np.float32)
        liking += sensitivity * (DISCOUNT_PULL * discount - 0.6 * goods.price_z[rows])
        return np.asarray(1.0 / (1.0 + np.exp(1.0 - liking)), dtype=np.float32)

    def _relevance_of(self, customer: int, item: int, discount: float) -> float:
        """Return `relevance` of one item, without the cost of arrays of one."""
        goods = self.catalogue
        liking, sensitivity = 0.8 * float(goods.quality[item]), 0.5
        if customer >= 0:
            sensitivity = float(self.customers.price_sensitivity[customer])
            liking += float(self._appeal[item] @ self.customers.tastes[customer].astype(np.float32))
        liking += sensitivity * (DISCOUNT_PULL * discount - 0.6 * float(goods.price_z[item]))
        return 1.0 / (1.0 + math.exp(1.0 - liking))

    def attraction(self, customer: int, items: Rows, *, intent: int = -1, discount: float = 0.0) -> Floats:
        """Return the probability of a click on items that are looked at, ``(k,)``.

        `intent` is the row that the session is about: items of its series attract fully, of its category somewhat
        less, others little. Without one (-1) all count as of the right category.
        """
        rows = np.atleast_1d(np.asarray(items, dtype=np.int64))
        relevance = self.relevance(customer, rows, discount=discount)
        if intent < 0:
            return ATTENTION * SAME_CATEGORY * relevance
        start, end = self.catalogue.series_of(intent)
        first, last = self.catalogue.category_of(intent)
        fit = np.where((rows >= first) & (rows < last), SAME_CATEGORY, ELSEWHERE)
        fit = np.where((rows >= start) & (rows < end), SAME_SERIES, fit)
        return (ATTENTION * fit * relevance).astype(np.float32)

    def click_probability(
        self, customer: int, item: int, position: int, *, intent: int = -1, discount: float = 0.0
    ) -> float:
        """Return the probability that an item at a position (from 0) is clicked, given no click above it.

        The cascade of Craswell et al. (2008): the eye goes down the slate, stops at a click, and after each item
        without one goes on with probability `CONTINUE`.
        """
        attraction = self.attraction(customer, item, intent=intent, discount=discount)
        return float(CONTINUE**position * attraction[0])

    def purchase_probability(self, customer: int, item: int, *, discount: float = 0.0) -> float:
        """Return the probability that an item that is viewed goes into the cart."""
        return 0.3 * self._relevance_of(customer, item, discount)

    def interest(self, customer: int) -> npt.NDArray[np.float64]:
        """Return the cumulated probabilities of the categories that a session of this customer is about, ``(c,)``."""
        goods = self.catalogue
        weights = goods.category_shares
        if customer >= 0:
            taste = self.customers.tastes[customer].astype(np.float32)
            weights = weights * np.exp(2.0 * (goods.category_tastes @ taste))
        cumulated = np.cumsum(weights)
        return np.asarray(cumulated / cumulated[-1])
