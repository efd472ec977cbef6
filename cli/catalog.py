"""`kairos catalog load|show`: the shop's items, through the API of a running stack. Room: cli."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress

from cli.data_dir import DataDir, find
from cli.settings import Settings
from cli.settings import load as load_settings
from cli.status import running
from events.errors import KairosError, SettingsError
from load_tests.http_client import Client
from load_tests.prepare import chunked

_CHUNK: Final = 500
_SHOWN: Final = 10  # refusals that are printed

_Url = Annotated[str | None, typer.Option(help="API, instead of the one of the stack on the data directory.")]
_DataDir = Annotated[Path | None, typer.Option(help="Data directory of the running stack (.kairos).")]


class Target(NamedTuple):
    """Where the API is, and what opens it."""

    url: str
    key: str


class Loaded(msgspec.Struct):
    """What became of a file's items."""

    accepted: int = 0
    rejected: int = 0
    problems: list[str] = []


def load(
    file: Annotated[Path, typer.Argument(help="Items as Parquet or CSV: item_id, title, category, brand, price …")],
    url: _Url = None,
    data_dir: _DataDir = None,
    currency: Annotated[str, typer.Option(help="Of the prices, where the file has no such column.")] = "",
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Load items into the catalogue, or update them."""
    from cli.replaying.items import Items

    if not file.is_file():
        raise SettingsError(f"no file {file}")
    items = Items(file, currency)
    target = find_target(load_settings(data_dir=data_dir), url)
    with Progress(console=Console(stderr=True), disable=json) as progress:
        task = progress.add_task("loading items", total=len(items))
        loaded = asyncio.run(send(target, items.catalogue(), lambda done: progress.update(task, completed=done)))
    if json:
        typer.echo(msgspec.json.encode(loaded).decode())
    else:
        typer.echo(f"{loaded.accepted:,} items accepted, {loaded.rejected:,} refused")
        for problem in loaded.problems:
            typer.echo(f"  {problem}")
    if loaded.rejected:
        raise typer.Exit(1)


def show(
    item_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the item.")],
    url: _Url = None,
    data_dir: _DataDir = None,
) -> None:
    """Show what the catalogue knows of an item."""
    target = find_target(load_settings(data_dir=data_dir), url)
    answer = asyncio.run(_get(target, f"/v1/catalog/items/{quote(item_id, safe='')}"))
    typer.echo(msgspec.json.format(answer, indent=2).decode())


def find_target(settings: Settings, url: str | None) -> Target:
    """Return the API at `url`, or of the stack on the data directory, with the key that this machine has for it."""
    directory = find(url) if url is not None else DataDir(settings.data_dir)
    found = url if url is not None else running(settings.data_dir).url
    if settings.secret_key is not None:
        return Target(found, settings.secret_key.get_secret_value())
    known = directory is not None and directory.key_path.is_file()
    return Target(found, directory.secret_key() if directory is not None and known else "")


async def send(target: Target, items: Iterable[dict[str, Any]], tell: Callable[[int], None] | None = None) -> Loaded:
    """Send items to `PUT /v1/catalog/items`, chunk by chunk.

    Raises
    ------
    KairosError
        The API refused a request as a whole.
    """
    loaded, done = Loaded(), 0
    client = Client(target.url, connections=1, timeout_s=60.0)
    try:
        for chunk in chunked(items, _CHUNK):
            body = msgspec.json.encode({"items": chunk})
            try:
                answer = await client.send("/v1/catalog/items", body, method="PUT", key=target.key)
            except OSError as err:
                raise KairosError(f"no API at {target.url}: {err}") from err
            result = answer.json() or {}
            if "accepted" not in result:
                raise KairosError(f"the API refused the items ({answer.status}): {result.get('detail', '')}")
            loaded.accepted += len(result["accepted"])
            loaded.rejected += len(result["rejected"])
            for refused in result["rejected"][: _SHOWN - len(loaded.problems)]:
                item_id = chunk[refused["index"]].get("item_id")
                loaded.problems.append(f"{item_id}: {refused['problem'].get('detail', '')}")
            done += len(chunk)
            if tell is not None:
                tell(done)
    finally:
        await client.close()
    return loaded


async def _get(target: Target, path: str) -> bytes:
    client = Client(target.url, connections=1)
    try:
        answer = await client.get(path)
    except OSError as err:
        raise KairosError(f"no API at {target.url}: {err}") from err
    finally:
        await client.close()
    if answer.status != 200:
        raise KairosError(f"{path} answered {answer.status}: {(answer.json() or {}).get('detail', '')}")
    return answer.body
