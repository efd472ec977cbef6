"""How training and evaluation speak to people: a progress bar on stderr, a table or JSON on stdout.

Room: cli. Called by `cli.train` and `cli.evaluate`.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table


class Progress:
    """A bar per stage on stderr; silent when quiet or when nobody watches."""

    def __init__(self, *, quiet: bool) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._bars = Bars(*columns, TimeElapsedColumn(), console=console, disable=quiet or not console.is_terminal)
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def report(self, stage: str, share: float) -> None:
        """Show how far a stage is, 0 to 1."""
        if stage not in self._tasks:
            for task in self._tasks.values():
                self._bars.update(task, completed=1.0)
                self._bars.stop_task(task)
            self._tasks[stage] = self._bars.add_task(stage, total=1.0)
        self._bars.update(self._tasks[stage], completed=share)


def print_json(answer: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(answer) + "\n")


def print_table(answer: dict[str, Any], columns: tuple[str, ...]) -> None:
    """The models side by side, with what they cost."""
    table = Table(title=f"{answer['cases']:,} cases, protocol {answer['protocol']}, seed {answer['seed']}")
    table.add_column("model")
    for column in (*columns, "novel hit@20", "novel mrr@20", "fit s", "µs/query"):
        table.add_column(column, justify="right")
    for name, figures in answer["models"].items():
        novel = figures["novel"]
        values = [f"{figures[column]:.4f}" for column in columns]
        values += [f"{novel['hit_rate@20']:.4f}", f"{novel['mrr@20']:.4f}"]
        style = "bold" if name == answer["recommended"] else None
        table.add_row(name, *values, f"{figures['fit_s']:.1f}", f"{figures['us_per_query']:.0f}", style=style)
    Console().print(table)
