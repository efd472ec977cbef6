"""`kairos verify parity`: is every stored key what a fold of the log gives? Room: cli."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.settings import load
from cli.status import read_heads, running
from events.log import open_log
from feature_store.parity import Report, verify
from feature_store.tables import StateTables


def parity(
    data_dir: Annotated[Path | None, typer.Option(help="Data directory of the running stack (.kairos).")] = None,
    log: Annotated[str, typer.Option(help="The log, where no stack runs.")] = "",
    store: Annotated[str, typer.Option(help="The store, where no stack runs.")] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Fold the log again and compare every key byte for byte; exit 1 on a mismatch or when nothing was compared."""
    if not (log and store):
        stack = running(load(data_dir=data_dir).data_dir)
        log, store = log or stack.log_url, store or stack.store_url
    event_log = open_log(log)
    entries = sum(head.entries for head in read_heads(store, event_log).values())
    with Progress(
        TextColumn("folding the log"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), transient=True, disable=json,
    ) as progress:  # fmt: skip
        task = progress.add_task("", total=entries)
        tables = StateTables.open(store, event_log.partitions)
        report = verify(event_log, tables, on_events=lambda n: progress.advance(task, n))
    if json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _show(report)
    raise typer.Exit(1 if report.mismatches or not report.keys_compared else 0)


def _show(report: Report) -> None:
    console = Console()
    table = Table(
        "kind", "keys", "mismatches", title=f"{report.events_folded} log entries folded", title_justify="left"
    )
    for kind, counts in sorted(report.by_kind.items()):
        table.add_row(kind, str(counts["compared"]), str(counts["mismatches"]))
    console.print(table)
    for example in report.examples:
        console.print(f"  {example}", highlight=False)
    verdict = "nothing was compared" if not report.keys_compared else f"{report.mismatches} mismatches"
    console.print(f"{report.keys_compared} keys compared, {verdict}")
