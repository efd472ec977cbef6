"""Requests for slates, and the one form of problems."""

from __future__ import annotations

import pytest

from events.errors import EventError, LogError, LogTimeout, StoreTimeout
from serving.ask import ask_of_query, decode_ask
from serving.errors import Forbidden, NotFound, Overloaded, problem_of, respond


def test_an_empty_request_asks_for_ten_items_at_home() -> None:
    ask, advice = decode_ask(b"{}")
    assert (ask.placement, ask.limit, ask.item_ids, advice) == ("home", 10, [], [])


def test_unknown_fields_of_a_request_are_said() -> None:
    ask, advice = decode_ask(b'{"limit": 3, "count": 5}')
    assert ask.limit == 3
    assert [(a.pointer, a.code) for a in advice] == [("/count", "unknown_field")]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"placement": "attic"}', "/placement"),
        (b'{"limit": 501}', "/limit"),
        (b'{"limit": 1.5}', "/limit"),
        (b'{"item_ids": ["a", ""]}', "/item_ids/1"),
        (b'{"customer_id": "a\\u0000"}', "/customer_id"),
        (b'{"wait_ms": -1}', "/wait_ms"),
        (b"[]", ""),
        (b"{", ""),
    ],
)
def test_a_bad_request_names_its_field(body: bytes, pointer: str) -> None:
    with pytest.raises(EventError) as caught:
        decode_ask(body)
    assert caught.value.pointer == pointer


def test_query_parameters_make_the_same_request() -> None:
    ask = ask_of_query([("placement", "item"), ("item_ids", "a,b"), ("item_ids", "c"), ("limit", "7")])
    assert (ask.placement, ask.item_ids, ask.limit) == ("item", ["a,b", "c"], 7)
    with pytest.raises(EventError, match="limit is 'x'"):
        ask_of_query([("limit", "x")])


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (EventError("no", code="no_identity", pointer="/customer_id"), 422, "no_identity"),
        (EventError("no", code="malformed_json"), 400, "malformed_json"),
        (EventError("no", code="body_too_large"), 413, "body_too_large"),
        (LogTimeout("late"), 503, "log_timeout"),
        (LogError("gone"), 503, "log_unavailable"),
        (StoreTimeout("late"), 503, "store_timeout"),
        (NotFound("none"), 404, "not_found"),
        (Forbidden("no", code="no_secret_key"), 403, "no_secret_key"),
        (Overloaded("full", retry_after_ms=2_000), 429, "overloaded"),
        (ZeroDivisionError("secret"), 500, "internal_error"),
    ],
)
def test_each_error_has_one_status_and_code(error: Exception, status: int, code: str) -> None:
    problem = problem_of(error, whole=True)
    assert (problem.status, problem.code, problem.type) == (status, code, f"urn:kairos:problem:{code}")
    assert "secret" not in problem.detail
    assert respond(problem).headers["content-type"] == "application/problem+json"


def test_what_may_work_later_says_when() -> None:
    assert respond(problem_of(Overloaded("full", retry_after_ms=2_000))).headers["retry-after"] == "2"
    assert respond(problem_of(LogError("gone"))).headers["retry-after"] == "1"
    assert "retry-after" not in respond(problem_of(NotFound("none"))).headers
