"""Versions in directories, one small file that says which is active."""

from pathlib import Path

import pytest

from events.errors import ModelError, UnknownModel
from models import registry


def complete(data_dir: Path, name: str, version: str) -> Path:
    """A directory that looks like a whole version."""
    path = registry.directory(data_dir, name, version)
    path.mkdir(parents=True)
    (path / "manifest.json").write_text("{}")
    return path


def test_nothing_is_active_at_first(tmp_path: Path) -> None:
    assert registry.active(tmp_path) is None


def test_the_activated_version_is_active_until_another_is(tmp_path: Path) -> None:
    first, second = complete(tmp_path, "m", "1"), complete(tmp_path, "m", "2")
    registry.activate(tmp_path, "m", "1")
    assert registry.active(tmp_path) == first
    registry.activate(tmp_path, "m", "2")
    assert registry.active(tmp_path) == second
    assert registry.versions(tmp_path) == [("m", "1"), ("m", "2")]


def test_an_unknown_version_is_refused_and_the_known_are_named(tmp_path: Path) -> None:
    complete(tmp_path, "m", "1")
    with pytest.raises(UnknownModel, match="m/1"):
        registry.activate(tmp_path, "m", "2")


def test_a_version_cannot_climb_out_of_the_data_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot name"):
        registry.directory(tmp_path, "..", "1")


def test_version_names_are_never_used_twice(tmp_path: Path) -> None:
    first = registry.new_version(tmp_path, "m")
    complete(tmp_path, "m", first)
    assert registry.new_version(tmp_path, "m") != first
