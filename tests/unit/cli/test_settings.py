"""Settings: options before variables before defaults, one line for what cannot be used."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from cli.docs import DOCS, replaced, tables
from cli.settings import Settings, load
from events.errors import SettingsError


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"KAIROS_{name.upper()}", raising=False)


def test_an_option_goes_before_a_variable_and_a_variable_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().port == 8000
    monkeypatch.setenv("KAIROS_PORT", "8100")
    assert load(port=None).port == 8100
    assert load(port=8200).port == 8200


def test_an_empty_variable_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIROS_STORE_URL", "")
    assert load().store_url is None


def test_a_wrong_option_and_a_wrong_variable_are_named_as_they_were_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"^--port 99999: input should be less than or equal to 65535$"):
        load(port=99999)
    monkeypatch.setenv("KAIROS_API_WORKERS", "many")
    with pytest.raises(SettingsError, match=r"^KAIROS_API_WORKERS 'many': input should be a valid integer"):
        load()


def test_the_secret_key_is_in_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAIROS_SECRET_KEY", "s3cret-s3cret")
    assert "s3cret" not in repr(load())


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load().port = 1


def test_the_pages_hold_the_tables_that_make_docs_writes() -> None:
    for name, found in tables().items():
        page = (DOCS / name).read_text()
        for heading, table in found:
            assert replaced(page, heading, table) == page, f"run `make docs`: {name}, {heading}"


def test_a_table_is_replaced_and_nothing_else() -> None:
    page = "# A\n\ntext\n\n| a |\n| - |\n| 1 |\n\n| b |\n\nend\n"
    assert replaced(page, "# A", "| new |") == "# A\n\ntext\n\n| new |\n\n| b |\n\nend\n"
