"""`kairos dead-letters list|show|replay`: what could not be taken in, and why. Room: cli.

Thin over `events.dead_letters`. Addresses come from ``--store``/``--log``, else from the stack that runs on the data
directory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from cli.settings import load
from cli.status import running
from events.dead_letters import DeadLetters, Kept
from events.errors import SettingsError
from events.letters import DeadLetter
from events.log import EventLog, open_log

_DataDir = Annotated[Path | None, typer.Option(help="Data directory of the running stack (.kairos).")]
_Store = Annotated[str | None, typer.Option(help="State store, redis://… or unix://…, instead of the stack's.")]
_Log = Annotated[str | None, typer.Option(help="Event log, redis://…, unix://… or kafka://…, instead of the stack's.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]


class _Opened(NamedTuple):
    letters: DeadLetters
    log: EventLog


def list_letters(
    source: Annotated[str, typer.Option(help="Only those of intake, flow, or one partition as p3.")] = "",
    code: Annotated[str, typer.Option(help="Only those with this code.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 20,
    data_dir: _DataDir = None,
    store: _Store = None,
    log: _Log = None,
    json: _Json = False,
) -> None:
    """List the newest dead letters."""
    with _opened(data_dir, store, log) as opened:
        found = opened.letters.newest(limit=limit, source=source, code=code)
        counts = opened.letters.counts()
    if json:
        rows = {"counts": counts, "letters": [_plain(kept) for kept in found]}
        typer.echo(msgspec.json.encode(rows).decode())
        return
    table = Table(box=None)
    for column in ("id", "when", "code", "field"):
        table.add_column(column, no_wrap=True)
    table.add_column("reason")
    for kept in found:
        letter = kept.letter
        table.add_row(kept.id, _when(letter), letter.code, letter.pointer, letter.reason)
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # ids must be whole where they are cut and pasted by programs
    console.print(table)
    kept_by = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count) or "none"
    console.print(f"kept: {kept_by}", highlight=False)
    if found:
        console.print("next: kairos dead-letters show ID, then replay ID (or replay all)", highlight=False)


def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="As in the list: intake:… or p3:….")],
    data_dir: _DataDir = None,
    store: _Store = None,
    log: _Log = None,
    json: _Json = False,
) -> None:
    """Show one dead letter with its original and, from a flow, the traceback."""
    with _opened(data_dir, store, log) as opened:
        letter = opened.letters.show(letter_id)
    plain = _plain(Kept(letter_id, letter))
    if json:
        typer.echo(msgspec.json.encode(plain).decode())
        return
    for name, value in plain.items():
        if name not in ("original", "traceback") and value not in ("", None, -1, False):
            typer.echo(f"{name + ':':<12}{value}")
    typer.echo(f"original:\n{plain['original']}")
    if letter.traceback:
        typer.echo(letter.traceback)
    typer.echo(f"remedy:     {_remedy(letter_id, letter)}")


def replay(
    letter_ids: Annotated[list[str], typer.Argument(metavar="ID…|all", help="Ids as in the list, or all.")],
    source: Annotated[str, typer.Option(help="With all: only those of intake, flow, or one partition as p3.")] = "",
    data_dir: _DataDir = None,
    store: _Store = None,
    log: _Log = None,
    json: _Json = False,
) -> None:
    """Judge dead letters anew; those that pass go to the log and are removed. Exit 1 if any is still refused."""
    with _opened(data_dir, store, log) as opened:
        if letter_ids == ["all"]:
            letter_ids = opened.letters.ids(source)
        elif "all" in letter_ids:
            raise SettingsError("give ids, or all alone")
        outcomes = list(opened.letters.replay(letter_ids, opened.log))
    problems = [outcome for outcome in outcomes if outcome.problem]
    if json:
        result = {"replayed": len(outcomes) - len(problems), "kept": len(problems)}
        rows = [outcome._asdict() for outcome in outcomes]
        typer.echo(msgspec.json.encode(result | {"letters": rows}).decode())
    else:
        for outcome in problems:
            typer.echo(f"{outcome.id}: {outcome.problem}")
        typer.echo(f"replayed {len(outcomes) - len(problems)}, kept {len(problems)}")
    if problems:
        raise typer.Exit(1)


@contextlib.contextmanager
def _opened(data_dir: Path | None, store: str | None, log: str | None) -> Iterator[_Opened]:
    """Open store and log; what is not given comes from the running stack."""
    settings = load(data_dir=data_dir, store_url=store, log_url=log)
    store_url, log_url = settings.store_url, settings.log_url
    if store_url is None:
        stack = running(settings.data_dir)
        store_url, log_url = stack.store_url, log_url or stack.log_url
    opened_log = open_log(log_url or store_url)
    letters = DeadLetters(store_url, opened_log.partitions)
    try:
        yield _Opened(letters, opened_log)
    finally:
        letters.close()
        opened_log.close()


def _plain(kept: Kept) -> dict[str, Any]:
    letter = kept.letter
    return {
        "id": kept.id,
        "source": letter.source,
        "code": letter.code,
        "reason": letter.reason,
        "pointer": letter.pointer,
        "event_id": letter.event_id,
        "at": _when(letter),
        "partition": letter.partition,
        "position": letter.position,
        "truncated": letter.truncated,
        "original": _readable(letter),
        "traceback": letter.traceback,
    }


def _readable(letter: DeadLetter) -> Any:
    """Return the original as text: intake's as it came, a flow's as the event that it encodes."""
    if letter.source == "flow":
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return msgspec.json.encode(msgspec.msgpack.decode(letter.original)).decode()
    return letter.original.decode(errors="backslashreplace")


def _when(letter: DeadLetter) -> str:
    if not letter.at_ms:
        return ""
    return datetime.fromtimestamp(letter.at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _remedy(letter_id: str, letter: DeadLetter) -> str:
    if letter.truncated:
        return "the original was cut: send the event again from its source"
    if letter.source == "flow":
        return f"correct the code that raised, restart the flows, then: kairos dead-letters replay {letter_id}"
    return f"correct the sender; if the rules have changed since: kairos dead-letters replay {letter_id}"
