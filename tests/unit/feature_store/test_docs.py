"""The docs table is made from the declarations."""

from __future__ import annotations

from pathlib import Path

from feature_store.customer import Customer
from feature_store.definitions import FEATURES, docs_table
from feature_store.profile import describe
from tests.builders import NOW_MS

DOCS = Path(__file__).parents[3] / "docs" / "features.md"


def test_the_docs_table_is_what_the_declarations_say() -> None:
    assert docs_table() in DOCS.read_text(), "run `make docs`"


def test_an_empty_customer_shows_every_default() -> None:
    described = describe(Customer(), NOW_MS)
    assert list(described) == [feature.name for feature in FEATURES]
    for feature in FEATURES:
        if feature.name != "session":
            assert described[feature.name] == feature.default
