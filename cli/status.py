"""`kairos status`: parts, positions, lag and the exact account of the stack on a data directory. Room: cli.

Also what `kairos demo` asks while it plays. Reads `stack.json`, the partitions' heads and the log; writes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from cli.data_dir import DataDir, StackFile
from cli.parts import Identity, is_alive, rss_bytes
from cli.settings import load
from cli.supervisor import Row
from events.errors import SettingsError
from events.log import EventLog, open_log
from feature_store.head import Head
from feature_store.store import StateStore, head_of

_STEP = 5_000  # entries that are counted in one read


class PartStatus(msgspec.Struct):
    """One process."""

    name: str
    pid: int
    state: str
    started: int  # ms since the epoch
    restarts: int
    rss_bytes: int


class Account(msgspec.Struct):
    """What became of the log's entries, over all partitions."""

    applied: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    customers: int = 0
    catalog: int = 0
    served: int = 0


class Status(msgspec.Struct):
    """What `kairos status --json` prints."""

    url: str
    parts: list[PartStatus]
    positions: dict[int, int]
    lag: dict[int, int]  # entries after the position
    account: Account
    watermark_ms: int = 0


def status(
    data_dir: Annotated[Path | None, typer.Option(help="Data directory of the stack (.kairos).")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show the parts of a running stack, positions, lag and the account."""
    settings = load(data_dir=data_dir)
    found = read(running(settings.data_dir))
    if json:
        typer.echo(msgspec.json.encode(found).decode())
    else:
        _show(found)


def running(data_dir: Path) -> StackFile:
    """Return the stack that runs on a directory.

    Raises
    ------
    SettingsError
        None does.
    """
    stack = DataDir(data_dir).running()
    if stack is None:
        raise SettingsError(f"no stack runs on {data_dir}: start one with `kairos up --data-dir {data_dir}`")
    return stack


def read(stack: StackFile) -> Status:
    """Ask a running stack how it is."""
    log = open_log(stack.log_url)
    try:
        heads = read_heads(stack.store_url, log)
        lag = {partition: count_after(log, partition, head.position) for partition, head in heads.items()}
    finally:
        log.close()
    return Status(
        url=stack.url,
        parts=[_part(row) for row in stack.parts],
        positions={partition: head.position for partition, head in heads.items()},
        lag=lag,
        account=account_of(list(heads.values())),
        watermark_ms=max(head.watermark_ms for head in heads.values()),
    )


def read_heads(store_url: str, log: EventLog) -> dict[int, Head]:
    """Return the head of each partition."""
    store = StateStore.open(store_url)
    try:
        stored = store.heads(range(log.partitions))
    finally:
        store.close()
    return {partition: head_of(value, partition, log.log_id, log.partitions) for partition, value in stored.items()}


def account_of(heads: list[Head]) -> Account:
    """Sum the partitions' accounts."""
    return Account(*(sum(getattr(head, name) for head in heads) for name in Account.__struct_fields__))


def count_after(log: EventLog, partition: int, position: int) -> int:
    """Return how many entries follow a position, counted in the log (positions are ordered, not dense)."""
    end, count = log.end(partition), 0
    while position < end:
        batches = log.read({partition: position}, limit=_STEP, wait_ms=200)
        if not batches:
            break
        count += len(batches[0].positions)
        position = batches[0].positions[-1]
    return count


def _part(row: Row) -> PartStatus:
    alive = is_alive(Identity(row.pid, row.birth))
    state = row.state if alive or row.state in ("waiting", "restarting", "stopped") else "dead"
    return PartStatus(row.name, row.pid, state, row.started, row.restarts, rss_bytes(row.pid) if alive else 0)


def _show(found: Status) -> None:
    console = Console()
    parts = Table("part", "pid", "state", "restarts", "memory", title=found.url, title_justify="left")
    for part in found.parts:
        parts.add_row(part.name, str(part.pid), part.state, str(part.restarts), f"{part.rss_bytes / 2**20:.0f} MiB")
    console.print(parts)
    partitions = Table("partition", "position", "lag")
    for partition, position in found.positions.items():
        partitions.add_row(str(partition), str(position), str(found.lag[partition]))
    console.print(partitions)
    account = msgspec.structs.asdict(found.account)
    console.print(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in account.items()), highlight=False)
