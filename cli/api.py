"""`kairos api`: one API process, on a socket of its own or on one that the supervisor listens on. Room: cli."""

from __future__ import annotations

import signal
import socket
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cli.dataflow import urls
from cli.settings import checked, load

_GRACE_S = 5  # for answers under way when the process is told to stop


def api(
    log: Annotated[str | None, typer.Option(help="Event log: redis://…, unix://… or kafka://host:port/topic.")] = None,
    store: Annotated[str | None, typer.Option(help="State store: redis://… or unix://….")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the models are (.kairos).")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on (8000).")] = None,
    fd: Annotated[int | None, typer.Option(help="Inherited listening socket, instead of host and port.")] = None,
) -> None:
    """Serve the HTTP API with one process."""
    import uvicorn

    from serving.app import create_app
    from serving.settings import ServingSettings

    settings = load(data_dir=data_dir, host=host, port=port)
    log_url, store_url = urls(log, store)
    app = create_app(
        checked(
            ServingSettings,
            log_url=log_url,
            store_url=store_url,
            data_dir=settings.data_dir,
            secret_key=settings.secret_key,
        )
    )
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, loop="uvloop", http="httptools", access_log=False,
        server_header=False, timeout_graceful_shutdown=_GRACE_S, log_level="warning",
    )  # fmt: skip
    # As a socket object, not as uvicorn's `fd`, which takes it for a unix socket and so leaves Nagle's algorithm on.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)  # uvicorn stops cleanly, then raises the signal that stopped it once more
    sockets = [socket.socket(fileno=fd)] if fd is not None else None
    uvicorn.Server(config).run(sockets=sockets)


def _end(*_: object) -> NoReturn:
    raise SystemExit(0)
