"""Which partitions a flow is told to own."""

from __future__ import annotations

import pytest

from cli.dataflow import parse_partitions, urls
from events.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "partitions"), [("0-3", [0, 1, 2, 3]), ("2", [2]), ("5,0-1,1", [0, 1, 5]), ("0, 2", [0, 2])]
)
def test_partitions_are_spans_and_numbers(text: str, partitions: list[int]) -> None:
    assert parse_partitions(text) == partitions


@pytest.mark.parametrize("text", ["", "3-1", "a", "-1", "1-", "0..3"])
def test_what_is_no_span_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(SettingsError, match="write 0-3 or 0,2,5"):
        parse_partitions(text)


def test_the_log_lies_in_the_store_unless_said_otherwise() -> None:
    assert urls(None, "redis://a:1") == ("redis://a:1", "redis://a:1")
    assert urls("kafka://b:1/t", "redis://a:1") == ("kafka://b:1/t", "redis://a:1")


def test_without_a_store_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAIROS_STORE_URL", raising=False)
    with pytest.raises(SettingsError, match="KAIROS_STORE_URL"):
        urls(None, None)
