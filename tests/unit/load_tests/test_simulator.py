"""The simulated shop: equal seeds, plausible behaviour, and that slates matter."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest

from events.errors import EventError
from events.wire import decode, split_body
from load_tests.simulator import Dice, Shown, Stage, World, deliveries, history, shop
from load_tests.simulator.history import inventory
from load_tests.simulator.shopping import Plan
from load_tests.simulator.stream import BURST_EVERY, plans
from load_tests.simulator.wire import BREAKAGES, break_event, stamp

NOW_MS = 1_790_000_000_000


@pytest.fixture(scope="module")
def world() -> World:
    return World(items=1_000, customers=5_000, seed=3)


def test_two_runs_of_a_seed_are_equal_byte_for_byte(world: World) -> None:
    again = World(items=1_000, customers=5_000, seed=3)
    first = deliveries(world, sessions=150, start_ms=NOW_MS, seed=7)
    assert first == deliveries(again, sessions=150, start_ms=NOW_MS, seed=7)
    assert first != deliveries(again, sessions=150, start_ms=NOW_MS, seed=8)


def test_history_is_deterministic_ordered_and_in_the_past(world: World) -> None:
    past = list(history(world, days=3, sessions_per_day=50, end_ms=NOW_MS, seed=1))
    assert past == list(history(world, days=3, sessions_per_day=50, end_ms=NOW_MS, seed=1))
    assert 100 < len(past) <= 150
    for events in past:
        times = [event["timestamp"] for event in events]
        assert times == sorted(times)
        assert times[-1] < "2026-09-21T14:13:20.000Z"
    ids = [event["event_id"] for events in past for event in events]
    assert len(ids) == len(set(ids))


def test_history_table_has_one_row_per_event_and_item(world: World, tmp_path: Any) -> None:
    import pyarrow.parquet as pq

    from load_tests.simulator import write_history

    rows = write_history(tmp_path / "past.parquet", world, days=1, sessions_per_day=40, end_ms=NOW_MS)
    table = pq.read_table(tmp_path / "past.parquet").to_pylist()
    expected = [
        (line["item_id"], event["event"])
        for events in history(world, days=1, sessions_per_day=40, end_ms=NOW_MS)
        for event in events
        for line in event.get("items", ())
    ]
    assert len(table) == rows
    assert Counter((row["item_id"], row["event"]) for row in table) == Counter(expected)


def test_the_inventory_shows_every_item_once(world: World) -> None:
    sessions = list(inventory(world, at_ms=NOW_MS))
    seen = [event["items"][0]["item_id"] for events in sessions for event in events]
    assert sorted(seen) == [world.catalogue.item_id(row) for row in range(1_000)]
    assert max(map(len, sessions)) == 10


def test_traffic_has_everything_that_a_shop_sees(world: World) -> None:
    traffic = deliveries(world, sessions=600, start_ms=NOW_MS, seed=1)
    bodies = [msgspec.json.decode(delivery.body) for delivery in traffic]
    events = [event for body in bodies for event in (body.get("events", [body])) if isinstance(event, dict)]
    names = Counter(event.get("event") for event in events)
    assert {"view_item", "search", "add_to_cart", "begin_checkout", "purchase", "refund", "login"} <= set(names)
    assert any("bot" in event.get("context", {}).get("user_agent", "") for event in events)
    assert any(delivery.late for delivery in traffic)
    assert any(delivery.repeats for delivery in traffic)
    assert any(delivery.beacon for delivery in traffic)
    assert len({label for delivery in traffic for label in delivery.broken}) >= 5
    assert any("customer_id" not in event and "anonymous_id" in event for event in events)


def test_repeats_have_the_id_of_the_event_that_they_repeat(world: World) -> None:
    traffic = deliveries(world, sessions=300, start_ms=NOW_MS, seed=2)
    seen: Counter[str] = Counter()
    repeats = 0
    for delivery in traffic:
        body = msgspec.json.decode(delivery.body)
        for event in body.get("events", [body]):
            if isinstance(event, dict) and not delivery.broken:
                seen[event["event_id"]] += 1
        repeats += delivery.repeats
    assert repeats > 0
    assert sum(count - 1 for count in seen.values()) == repeats


def test_late_batches_carry_their_true_times(world: World) -> None:
    late = [d for d in deliveries(world, sessions=400, start_ms=NOW_MS, seed=4) if d.late]
    for delivery in late:
        events = msgspec.json.decode(delivery.body)
        first = next(e for e in events.get("events", [events]) if isinstance(e, dict) and "sent_at" in e)
        assert first["timestamp"] < first["sent_at"]


def test_a_burst_comes_for_one_item(world: World) -> None:
    focus = [who.focus for (who, _), _ in zip(plans(world, 5), range(BURST_EVERY), strict=False)]
    assert set(focus[:-80]) == {-1}
    assert len({row for row in focus[-80:] if row >= 0}) == 1


@pytest.mark.parametrize("label", sorted(BREAKAGES))
def test_a_broken_event_differs_from_the_one_that_it_was(world: World, label: str) -> None:
    event = stamp({"event": "view_item", "customer_id": "c1", "items": [{"item_id": "i000001"}]}, NOW_MS, Dice(1))
    assert BREAKAGES[label](event) != event


@pytest.mark.parametrize("label", sorted(BREAKAGES))
def test_every_breakage_is_refused_by_the_intake(label: str) -> None:
    event = stamp({"event": "view_item", "customer_id": "c1", "items": [{"item_id": "i000001"}]}, NOW_MS, Dice(1))
    with pytest.raises(EventError):
        decode(msgspec.json.encode(BREAKAGES[label](event)), received_ms=NOW_MS)


def test_everything_that_is_not_broken_is_accepted_without_a_warning(world: World) -> None:
    for delivery in deliveries(world, sessions=200, start_ms=NOW_MS, seed=6):
        body = split_body(delivery.body)
        refused = 0
        for raw in body.events:
            try:
                decoded = decode(raw, received_ms=delivery.at_ms)
            except EventError:
                refused += 1
            else:
                assert decoded.notices == []
        assert refused == len(delivery.broken)


def test_breaking_draws_every_label() -> None:
    dice = Dice(4)
    event = stamp({"event": "view_item", "anonymous_id": "a"}, NOW_MS, dice)
    assert {break_event(event, dice)[0] for _ in range(500)} == set(BREAKAGES)


def test_popularity_is_zipf(world: World) -> None:
    shares = np.sort(np.diff(world.catalogue.cumulated))[::-1]
    assert shares[0] == pytest.approx(2 * shares[1]) == pytest.approx(10 * shares[9])


def test_series_lie_within_their_category(world: World) -> None:
    goods = world.catalogue
    for row in range(goods.items):
        start, end = goods.series_of(row)
        assert start <= row < end <= start + 10
        assert goods.category[start] == goods.category[row] == goods.category[end - 1]


def test_customers_run_through_their_life_cycle() -> None:
    customers = World(items=10, customers=20_000, seed=1).customers
    assert {Stage(s) for s in np.unique(customers.stage(0))} == set(Stage)
    row = int(np.flatnonzero((customers.returns < 900) & (customers.leaves - customers.born > 60))[0])
    born, leaves, returns = (int(x[row]) for x in (customers.born, customers.leaves, customers.returns))
    days = [born - 1, born, born + 20, leaves - 1, leaves, returns]
    assert [Stage(customers.stage(day)[row]) for day in days] == list(Stage)


def test_nobody_unborn_or_lapsed_comes() -> None:
    customers = World(items=10, customers=500, seed=1).customers
    rows = {customers.visitor(u, 0) for u in np.linspace(0, 0.999, 300)}
    assert not {int(customers.stage(0)[row]) for row in rows} & {Stage.UNBORN, Stage.LAPSED}


def test_an_offer_attracts_the_price_sensitive_more(world: World) -> None:
    sensitivity = world.customers.price_sensitivity
    keen, calm = int(sensitivity.argmax()), int(sensitivity.argmin())

    def lift(customer: int) -> float:
        with_offer = world.purchase_probability(customer, 5, discount=0.3)
        return with_offer / world.purchase_probability(customer, 5)

    assert lift(keen) > lift(calm) >= 1.0


def test_a_single_item_has_the_relevance_that_it_has_among_others(world: World) -> None:
    rows = np.arange(0, 1_000, 50)
    for customer in (-1, 7):
        together = 0.3 * world.relevance(customer, rows, discount=0.1)
        assert together == pytest.approx(
            [world.purchase_probability(customer, int(row), discount=0.1) for row in rows], rel=1e-4
        )


def test_click_probability_falls_with_position_and_distance_from_the_intent(world: World) -> None:
    at_top = world.click_probability(7, 100, 0, intent=100)
    assert world.click_probability(7, 100, 1, intent=100) == pytest.approx(0.85 * at_top)
    far = next(r for r in range(1000) if world.catalogue.category[r] != world.catalogue.category[100])
    assert world.click_probability(7, 100, 0, intent=far) == pytest.approx(0.2 * at_top)


def _clicks(world: World, *, good: bool) -> int:
    """Play sessions that see slates of the best or the worst items of their category; count clicks."""
    clicks = 0
    for number in range(60):
        dice = Dice(9, number)
        session = shop(world, Plan(number, number, "shopper", False), dice)
        shown = None
        while True:
            try:
                step = session.send(shown)
            except StopIteration:
                break
            shown = None
            clicks += step.event["event"] == "select_item"
            if step.placement and step.item >= 0:
                rows = np.arange(*world.catalogue.category_of(step.item))
                order = rows[np.argsort(world.attraction(number, rows, intent=step.item))]
                shown = Shown("r1", (order[::-1] if good else order)[:10].tolist())
    return clicks


def test_better_slates_are_clicked_more(world: World) -> None:
    assert _clicks(world, good=True) > 1.3 * _clicks(world, good=False)


def test_what_came_from_a_slate_says_so(world: World) -> None:
    session = shop(world, Plan(1, 2, "shopper", False), Dice(5))
    events, shown = [], None
    for _ in range(200):
        try:
            step = session.send(shown)
        except StopIteration:
            break
        events.append(step.event)
        shown = Shown("r-9", list(range(step.item, step.item + 5))) if step.item >= 0 and step.placement else None
    clicked = [event for event in events if event["event"] == "select_item"]
    assert clicked
    assert all(event["recommendation_id"] == "r-9" for event in clicked)


def test_a_tenth_of_the_full_world_stays_within_its_share_of_memory() -> None:
    """100,000 items and 1,000,000 customers are to fit in 1 GB: a tenth of them, in 100 MB above the interpreter's."""
    script = (
        "import resource; from load_tests.simulator import World, deliveries;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "w = World(items=10_000, customers=100_000, seed=1);"
        f"deliveries(w, sessions=50, start_ms={NOW_MS});"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(answer.stdout) < 100 * 1024
