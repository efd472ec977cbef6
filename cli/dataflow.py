"""`kairos dataflow features|materialiser`: one dataflow process. Room: cli; thin calls into `dataflows`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.settings import load
from events.errors import KairosError, SettingsError

_Log = Annotated[str | None, typer.Option(help="Event log: redis://…, unix://… or kafka://host:port/topic.")]
_Store = Annotated[str | None, typer.Option(help="State store: redis://… or unix://….")]


def features(
    log: _Log = None,
    store: _Store = None,
    partitions: Annotated[str | None, typer.Option(help="Which partitions, as 0-3 or 0,2; all without it.")] = None,
) -> None:
    """Fold the events of some partitions into customers, sessions and items."""
    from dataflows import features as flow

    log_url, store_url = urls(log, store)
    owned = parse_partitions(partitions) if partitions is not None else None
    try:
        flow.run(log_url, store_url, owned)
    except Exception as err:
        if (ours := _reason(err)) is None:
            raise
        raise ours from None


def materialiser(log: _Log = None, store: _Store = None) -> None:
    """Sum what spans partitions (popularity) into the arrays that serving maps."""
    from dataflows import materialiser as flow

    flow.run(*urls(log, store))


def _reason(err: BaseException | None) -> KairosError | None:
    """Return the error of ours that bytewax wrapped in its own, None if there is none."""
    while err is not None and not isinstance(err, KairosError):
        err = err.__cause__ or err.__context__
    return err


def urls(log: str | None, store: str | None) -> tuple[str, str]:
    """Return the addresses of log and store: options first, then the environment."""
    settings = load(log_url=log, store_url=store)
    if settings.store_url is None:
        raise SettingsError("no state store: give --store redis://host:port (KAIROS_STORE_URL)")
    return settings.log_url or settings.store_url, settings.store_url


def parse_partitions(text: str) -> list[int]:
    """Return the partitions of ``0-3`` or ``0,2,5-6``.

    Examples
    --------
    >>> parse_partitions("0,2,5-6")
    [0, 2, 5, 6]
    """
    chosen: set[int] = set()
    for span in text.split(","):
        first, dash, last = span.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or int(first) > int(last or first):
            raise SettingsError(f"--partitions {text!r}: write 0-3 or 0,2,5")
        chosen.update(range(int(first), int(last or first) + 1))
    return sorted(chosen)
