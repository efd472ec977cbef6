"""The registry: versions as immutable directories, and one small file that says which is active.

Room: models. Layout: `<data_dir>/models/<name>/<version>/`, and `<data_dir>/models/active` with `name/version`. The
file is written aside and renamed, so a reader sees the old or the new version, never half of one.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

from events.errors import ModelError, UnknownModel
from models.artefact import MANIFEST

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def directory(data_dir: Path, name: str, version: str) -> Path:
    """Where a version lives, or would live."""
    for word in (name, version):
        if not WORD.fullmatch(word):
            raise ModelError(f"{word!r} cannot name a model or a version: letters, digits, . _ - only, at most 64")
    return data_dir / "models" / name / version


def new_version(data_dir: Path, name: str) -> str:
    """A free version name made of the time, such as 20261122T021500."""
    stem = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    version, number = stem, 1
    while directory(data_dir, name, version).exists():
        number += 1
        version = f"{stem}-{number}"
    return version


def versions(data_dir: Path) -> list[tuple[str, str]]:
    """All complete versions as (name, version), sorted."""
    found = (data_dir / "models").glob(f"*/*/{MANIFEST}")
    return sorted((path.parent.parent.name, path.parent.name) for path in found)


def activate(data_dir: Path, name: str, version: str) -> Path:
    """Make a version the active one; returns its directory.

    Raises
    ------
    UnknownModel
        There is no such complete version; the message lists those that exist.
    """
    path = directory(data_dir, name, version)
    if not (path / MANIFEST).is_file():
        there = ", ".join("/".join(pair) for pair in versions(data_dir)) or "none"
        raise UnknownModel(f"model {name}/{version} is not in {data_dir / 'models'}; there are: {there}")
    aside = data_dir / "models" / f".active.{os.getpid()}"
    aside.write_text(f"{name}/{version}\n")
    aside.replace(data_dir / "models" / "active")
    return path


def active(data_dir: Path) -> Path | None:
    """Directory of the active version, None when nothing was activated."""
    try:
        name, _, version = (data_dir / "models" / "active").read_text().strip().partition("/")
    except FileNotFoundError:
        return None
    return directory(data_dir, name, version)
