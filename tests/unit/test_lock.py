"""The locks: every package with its hashes, no registry address, and each extra's share small enough for its image."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LOCKS = ("requirements.lock", "requirements-uv.lock")


def entries(name: str) -> dict[str, str]:
    """Return the lines that belong to each locked package, by name."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in (REPOSITORY / name).read_text().splitlines():
        if match := re.match(r"([A-Za-z0-9._-]+)(\[[a-z,]+\])?==\S+", line):
            current = match[1].lower()
        found.setdefault(current, []).append(line)
    return {package: "\n".join(lines) for package, lines in found.items()}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_no_registry_address(name: str) -> None:
    text = (REPOSITORY / name).read_text()
    assert "://" not in text
    assert not re.search(r"--(index-url|extra-index-url|find-links|trusted-host)", text)


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_an_exact_version_and_hashes(name: str) -> None:
    locked = entries(name)
    assert "" not in locked, f"a line before the first package: {locked.get('')}"
    assert locked
    for package, text in locked.items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", text), f"{package} has no hash"


def test_every_dependency_of_every_extra_is_locked() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    names = {re.split(r"[\[<>=~! ]", line, maxsplit=1)[0].lower().replace("_", "-") for line in wanted}
    assert names - {name.replace("_", "-") for name in entries("requirements.lock")} == set()
