"""`kairos log make`: make the event log before the first flow starts. Room: cli; `kairos up` does so itself."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.settings import load
from events.errors import SettingsError
from events.log import open_log


def make(
    log: Annotated[str | None, typer.Option(help="redis://…, unix://… or kafka://host:port/topic.")] = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions, fixed for the life of the log.")] = 4,
) -> None:
    """Make a log of so many partitions; one that is there already must have as many."""
    settings = load(log_url=log)
    url = settings.log_url or settings.store_url
    if url is None:
        raise SettingsError("no log: give --log redis://host:port or kafka://host:port/topic (KAIROS_LOG_URL)")
    made = open_log(url, partitions=partitions)
    try:
        typer.echo(f"log {made.log_id} has {made.partitions} partitions")
    finally:
        made.close()
