"""`kairos up`: the stack in the foreground until Ctrl-C or SIGTERM. Room: cli."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Annotated

import typer

from cli.settings import Settings, load
from cli.stack import opened


def up(
    host: Annotated[str | None, typer.Option(help="Address that the API listens on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API (8000); 0: any free one.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="State, models, secret key and logs (.kairos).")] = None,
    log: Annotated[str | None, typer.Option(help="Event log: redis://… or kafka://host:port/topic.")] = None,
    store: Annotated[str | None, typer.Option(help="State store: redis://…; without it the embedded Valkey.")] = None,
    api_workers: Annotated[int | None, typer.Option(help="API processes (1).")] = None,
    flow_processes: Annotated[int | None, typer.Option(help="Feature flows (1).")] = None,
    partitions: Annotated[int | None, typer.Option(help="Partitions of a new log (4).")] = None,
) -> None:
    """Run the stack in the foreground until Ctrl-C."""
    settings = load(
        host=host, port=port, data_dir=data_dir, log_url=log, store_url=store,
        api_workers=api_workers, flow_processes=flow_processes, partitions=partitions,
    )  # fmt: skip
    asyncio.run(_run(settings))


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever read our words may be gone: the stack is not
        typer.echo(f"kairos: {line}")


async def _run(settings: Settings) -> None:
    """Run until a signal; a second one kills instead of stopping cleanly."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def interrupt() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupt)
    async with opened(settings, _say, hurry) as stack:
        starting = asyncio.create_task(stack.start())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            file = starting.result()
            where = f"docs: {file.url}/docs, data: {settings.data_dir}"
            typer.echo(f"kairos is ready at {file.url} ({where}, Ctrl-C stops)")
        else:
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
        await stack.watch(stopping)
