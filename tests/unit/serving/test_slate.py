"""Laws of the slate, and of the buffer that its impressions wait in."""

from __future__ import annotations

import asyncio

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from events.errors import LogTimeout
from events.schema import Event
from feature_store.item import ItemState
from feature_store.popular import rank
from serving.ask import Ask
from serving.catalog import Catalog
from serving.impressions import Impressions
from serving.metrics import Metrics
from serving.popular import PopularLists
from serving.slate import STEPS, Fallbacks, Slate
from serving.view import NOBODY, View

names = st.integers(0, 40).map(lambda n: f"i{n}")


@given(
    placement=st.sampled_from(sorted(STEPS)),
    told=st.lists(st.tuples(names, st.integers(-1, 2), st.booleans()), max_size=60),
    liked=st.lists(st.sampled_from(["a", "a/b", "c"]), max_size=3),
    scores=st.dictionaries(names, st.floats(0, 100), max_size=40),
    forbidden=st.sets(names, max_size=10),
    chosen=st.lists(names, max_size=5, unique=True),
    limit=st.integers(1, 60),
)
def test_a_slate_repeats_nothing_and_holds_only_what_is_allowed(
    placement: str, told: list[tuple[str, int, bool]], liked: list[str], scores: dict[str, float],
    forbidden: set[str], chosen: list[str], limit: int,
) -> None:  # fmt: skip
    catalog, metrics = Catalog(), Metrics()
    catalog.update(ItemState(name, stock=stock, hidden=hidden, category="a/b") for name, stock, hidden in told)
    popular = PopularLists(catalog, metrics)
    popular.take(rank(scores, dict.fromkeys(scores, "a"), version=1, at_ms=1, watermark_ms=1, historical=False))
    barred = catalog.rows(sorted(forbidden))
    slate = Slate(catalog, barred, limit)
    for row in catalog.rows(chosen).tolist():  # what the caller chose before: allowed and not forbidden
        if catalog.allowed[row] and row not in barred and not slate.is_full:
            slate.add(row, 1.0, "session_knn", [])
    view = View([], [], [], liked)
    slate.fill(STEPS[placement], Fallbacks(catalog, popular, Ask(placement=placement), view))  # type: ignore[arg-type]
    shown = [item.item_id for item in slate.items]
    eligible = {catalog.ids[row] for row in np.flatnonzero(catalog.allowed[: len(catalog)])} - forbidden
    assert len(set(shown)) == len(shown) == min(limit, len(eligible))
    assert set(shown) <= eligible
    assert [item.rank for item in slate.items] == list(range(len(shown)))


def test_the_nearest_category_with_a_list_answers_for_those_below_it() -> None:
    catalog = Catalog()
    popular = PopularLists(catalog, Metrics())
    lists = rank({"x": 2.0, "y": 1.0}, {"y": "home"}, version=1, at_ms=1, watermark_ms=1, historical=False)
    popular.take(lists)
    rows, scores = popular.in_category("home/kitchen/pans")
    assert ([catalog.ids[row] for row in rows], scores.tolist()) == (["y"], [1.0])
    assert len(popular.in_category("garden")[0]) == 0
    assert [catalog.ids[row] for row in popular.overall[0]] == ["x", "y"]
    assert NOBODY.categories == []


class Appender:
    """A log that takes what it is given, or nothing."""

    log_id = "log"
    partitions = 2

    def __init__(self) -> None:
        self.broken = True
        self.taken = 0

    async def append(self, records: list[tuple[int, bytes]]) -> list[int]:
        if self.broken:
            raise LogTimeout("late")
        self.taken += len(records)
        return [0] * len(records)


class Held:
    def __init__(self, appender: Appender) -> None:
        self.appender = appender


def shown(n: int) -> Event:
    return Event(event="view_item_list", event_id=f"r{n}", at_ms=1, received_ms=1, customer_id="c")


def value(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(name)


def test_a_full_buffer_drops_and_counts_and_a_log_that_is_back_takes_the_rest() -> None:
    async def scenario() -> tuple[int, float | None, float | None]:
        metrics, appender = Metrics(), Appender()
        buffer = Impressions(Held(appender), metrics, capacity=3)  # type: ignore[arg-type]
        for n in range(5):
            buffer.add(shown(n))
        await buffer.flush(1.0)  # the log is away: what waited is lost, and counted
        assert len(buffer) == 0
        appender.broken = False
        for n in range(2):
            buffer.add(shown(n))
        await buffer.flush(1.0)
        logged = value(metrics, "kairos_impressions_logged_total")
        return appender.taken, logged, value(metrics, "kairos_impressions_dropped_total")

    assert asyncio.run(scenario()) == (2, 2.0, 5.0)
