"""`kairos replay FILE…`: play data files into a running stack, in time order, with an exact account. Room: cli.

Reads as a wiring diagram; the parts are in `cli.replaying`, the column names and presets in `cli.replaying.columns`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.data_dir import DataDir, find
from cli.replaying.account import Account, Flows
from cli.replaying.columns import parse_map
from cli.replaying.files import Source
from cli.replaying.items import Items, beside
from cli.replaying.playing import Plan, make_plan, play
from cli.replaying.sending import HttpSending, LogSending, Sending
from cli.settings import Settings, load
from events.dead_letters import DeadLetters
from events.errors import SettingsError
from events.log import open_log

_DAYS_30_MS: Final = 30 * 86_400_000


class Via(StrEnum):
    """Which way events take."""

    http = "http"
    log = "log"


class Times(StrEnum):
    """Which time events get."""

    now = "now"
    original = "original"


class Target(NamedTuple):
    """Where the stack is."""

    url: str
    log_url: str
    store_url: str
    key: str


def replay(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE…", help="Parquet or CSV, or a data set of $KAIROS_DATA.")
    ],
    rate: Annotated[str, typer.Option(help="Events a second, or max.")] = "max",
    via: Annotated[Via, typer.Option(help="Through the API, or straight into the log.")] = Via.http,
    url: Annotated[str | None, typer.Option(help="The API's address; http://127.0.0.1:8000 without it.")] = None,
    times: Annotated[
        Times, typer.Option(help="now: the last event is now; original: an import of the past (needs the secret key).")
    ] = Times.now,
    items: Annotated[str, typer.Option(help="Items file, none, or auto: items.parquet beside the events.")] = "auto",
    mapping: Annotated[
        list[str] | None, typer.Option("--map", metavar="COLUMN=FIELD", help="What a column means.")
    ] = None,
    currency: Annotated[str, typer.Option(help="Of prices without one (by the data set, else XXX).")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first events.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until the flows have applied it, and account for it.")] = True,
    data_dir: Annotated[Path | None, typer.Option(help="Data directory of the stack, to find it and its key.")] = None,
    log: Annotated[str | None, typer.Option(help="Event log, instead of the stack's.")] = None,
    store: Annotated[str | None, typer.Option(help="State store, instead of the stack's.")] = None,
    json: Annotated[bool, typer.Option("--json", help="The account as one JSON object.")] = False,
) -> None:
    """Play data files into a running stack, in time order.

    Columns are known by the data sets' names (ts, user_id, session_id, item_id, event, basket_id or invoice, quantity,
    price or sales_value or amount) and by those of the publishers' own files: RetailRocket events.csv, YooChoose
    yoochoose-clicks.dat and -buys.dat, Diginetica train-item-views.csv and train-purchases.csv, UCI Online Retail.

    Others: --map column=field with ts, event, customer_id, anonymous_id, session_id, item_id, order_id, quantity,
    price, value, category, brand, query, position or currency.

    Ends with 0 if every event is accounted for: sent = applied + duplicates + dead-lettered.
    """
    settings = load(data_dir=data_dir, log_url=log, store_url=store)
    per_second = parse_rate(rate)
    known = parse_map(mapping or [])
    sources = [Source.open(_located(path, settings), known) for path in files]
    catalogue = _items(items, sources, currency)
    target = find_target(settings, url, via, given_dir=data_dir is not None, wait=wait)
    account = Account(files=[str(source.path) for source in sources])
    historical = times is Times.original
    plan = make_plan(sources, catalogue, rate=per_second, historical=historical, limit=limit, currency=currency)
    account.shift_ms = plan.shift_ms
    _warn(plan)
    _run(plan, catalogue, target, via, account, wait=wait)
    _show(account, json=json, wait=wait)
    if not account.exact:
        raise typer.Exit(1)


def parse_rate(text: str) -> float:
    """Return events a second, 0 for ``max``."""
    try:
        rate = 0.0 if text == "max" else float(text)
    except ValueError:
        rate = -1.0
    if rate < 0 or (rate == 0 and text != "max"):
        raise SettingsError(f"--rate {text}: write events a second, or max")
    return rate


def find_target(settings: Settings, url: str | None, via: Via, *, given_dir: bool, wait: bool) -> Target:
    """Return where the stack is: what was given, else what the data directory or the port's registration says.

    Raises
    ------
    SettingsError
        Nothing says where log and store are, and they are needed.
    """
    directory = (find(url) if url and not given_dir else None) or DataDir(settings.data_dir)
    stack = directory.running()
    if stack is None and not given_dir and (found := find(url or "http://127.0.0.1:8000")):
        directory, stack = found, found.running()
    log_url = settings.log_url or (stack.log_url if stack else settings.store_url or "")
    store_url = settings.store_url or (stack.store_url if stack else "")
    if (via is Via.log and not log_url) or (wait and not (log_url and store_url)):
        at = url or str(directory.path)
        raise SettingsError(
            f"no stack of this machine runs at {at}: start `kairos up`, give its --data-dir, or --log and --store; "
            "with --via http --no-wait the account ends at the API's answers"
        )
    if settings.secret_key is not None:
        key = settings.secret_key.get_secret_value()
    else:
        key = directory.secret_key() if directory.key_path.exists() else ""
    return Target(url or (stack.url if stack else "http://127.0.0.1:8000"), log_url, store_url, key)


def _located(path: Path, settings: Settings) -> Path:
    """Return the file: as given, else in $KAIROS_DATA; of a directory, its events or transactions."""
    for place in (path, settings.data / path):
        if place.is_file():
            return place
        if place.is_dir():
            for name in ("events.parquet", "transactions.parquet", "events.csv"):
                if (place / name).is_file():
                    return place / name
            raise SettingsError(f"{place} holds neither events.parquet nor transactions.parquet: name the file")
    raise SettingsError(f"{path} is neither a file nor a data set of {settings.data} (KAIROS_DATA)")


def _items(choice: str, sources: list[Source], currency: str) -> Items | None:
    if choice == "none":
        return None
    path = beside([source.path for source in sources]) if choice == "auto" else Path(choice)
    return Items(path, currency or sources[0].columns.currency) if path else None


def _warn(plan: Plan) -> None:
    if not plan.historical and plan.span_ms > _DAYS_30_MS:
        Console(stderr=True).print(
            f"note: the rows span {plan.span_ms // 86_400_000} days; with --times now, what is more than 30 days old "
            "is moved to that limit. --times original keeps all times.",
            highlight=False,
        )


def _run(plan: Plan, items: Items | None, target: Target, via: Via, account: Account, *, wait: bool) -> None:
    """Send everything, wait for the flows, complete the account."""
    with contextlib.ExitStack() as opened, progress() as bars:
        flows = Flows(target.log_url, target.store_url) if target.log_url and target.store_url else None
        if flows is not None:
            opened.callback(flows.close)
        sending = bars.add_task("sending", total=plan.rows)
        started = time.monotonic()

        def make() -> Sending:
            if via is Via.http:
                return HttpSending(target.url, target.key, account, historical=plan.historical)
            log = flows.log if flows is not None else opened.enter_context(contextlib.closing(open_log(target.log_url)))
            letters = DeadLetters(target.store_url, log.partitions) if target.store_url else None
            if letters is not None:
                opened.callback(letters.close)
            return LogSending(log, letters, account, historical=plan.historical)

        asyncio.run(play(plan, items, make, account, lambda n: bars.update(sending, completed=n)))
        account.seconds = round(time.monotonic() - started, 3)
        account.events_per_s = round(account.sent / max(account.seconds, 0.001), 1)
        if not wait or flows is None:
            account.exact = account.sent == account.accepted + account.rejected + account.repeated
            return
        applying = bars.add_task("applying", total=account.accepted)
        flows.settle(account, lambda n: bars.update(applying, completed=min(n, account.accepted)))
        account.settled_s = round(time.monotonic() - started, 3)


def progress() -> Progress:
    """Return bars with an estimated time of arrival, on stderr, silent where nobody watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _show(account: Account, *, json: bool, wait: bool) -> None:
    if json:
        typer.echo(msgspec.json.encode(account).decode())
        return
    table = Table(show_header=False, box=None)
    hidden = (
        "files",
        "problem",
        "exact",
        *(("applied", "duplicates", "dead_lettered", "customers") if not wait else ()),
    )
    for name, value in msgspec.structs.asdict(account).items():
        if name not in hidden:
            table.add_row(name.replace("_", " "), f"{value:,}")
    console = Console()
    console.print(table)
    if account.problem:
        typer.echo(f"kairos: {account.problem}", err=True)
    elif account.exact and wait:
        typer.echo("exact: sent = applied + duplicates + dead-lettered")
