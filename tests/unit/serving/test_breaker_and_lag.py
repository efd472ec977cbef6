"""The circuit breaker and the measure of lag: time is an argument."""

from __future__ import annotations

from serving.breaker import Breaker
from serving.lag import Lag


def test_three_failures_in_a_row_open_the_breaker() -> None:
    breaker = Breaker(open_s=0.5)
    for now in (0.0, 0.1):
        assert breaker.admits(now)
        breaker.failed(now)
    assert breaker.admits(0.2)
    breaker.succeeded()
    for now in (0.3, 0.4, 0.5):
        assert breaker.admits(now)
        breaker.failed(now)
    assert breaker.is_open
    assert not breaker.admits(0.6)


def test_one_probe_closes_it_or_opens_it_anew() -> None:
    breaker = Breaker(open_s=0.5)
    for _ in range(3):
        breaker.failed(1.0)
    assert breaker.admits(1.5), "the probe"
    assert not breaker.admits(1.5), "while it is on its way nobody else passes"
    breaker.failed(1.6)
    assert not breaker.admits(2.0)
    assert breaker.admits(2.1)
    breaker.succeeded()
    assert breaker.admits(2.1)
    assert not breaker.is_open


def test_a_probe_whose_caller_left_lets_the_next_one_probe() -> None:
    breaker = Breaker(open_s=0.5)
    for _ in range(3):
        breaker.failed(1.0)
    assert breaker.admits(1.6)
    breaker.gave_up()
    assert breaker.admits(1.6)


def test_lag_is_the_age_of_the_first_end_that_state_has_not_reached() -> None:
    lag = Lag()
    lag.saw({0: 10}, 1_000)
    lag.saw({0: 10, 1: 5}, 2_000)
    lag.saw({0: 20}, 3_000)
    assert lag.of(0, 20, 9_000) == 0
    assert lag.of(0, 15, 9_000) == 6_000
    assert lag.of(0, 9, 9_000) == 8_000
    assert lag.of(1, -1, 9_000) == 7_000
    assert lag.of(7, -1, 9_000) == 0
