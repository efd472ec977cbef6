"""`kairos evaluate`: how good the recommended model is, beside the yardsticks, on data kept apart.

Room: cli. Reads tables, prints a table for people or one JSON object for programs; progress goes to stderr.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from events.errors import SettingsError

if TYPE_CHECKING:
    from models.evaluation import Cases
    from models.sessions import Sessions

PROTOCOLS = ("next", "last", "loo")
COLUMNS = ("hit_rate@20", "mrr@20", "ndcg@20", "coverage@20")


def evaluate(
    train: Annotated[list[Path], typer.Option("--train", help="Training table(s): parquet or csv.")],
    test: Annotated[Path | None, typer.Option(help="Test table; without one, --holdout cuts it off the end.")] = None,
    items: Annotated[Path | None, typer.Option(help="Item table; no model of the recipe reads it yet.")] = None,
    protocol: Annotated[str, typer.Option(help="next: each click after the first; last; loo.")] = "next",
    at: Annotated[str, typer.Option(help="Cut-offs, comma separated.")] = "5,10,20",
    budget: Annotated[str, typer.Option(help="Time that training may take, such as 90s or 10m.")] = "10m",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    train_until: Annotated[str | None, typer.Option(help="Train on sessions that start before this day (UTC).")] = None,
    test_from: Annotated[str | None, typer.Option(help="Test on sessions that start at or after this day.")] = None,
    test_until: Annotated[str | None, typer.Option(help="Test on sessions that start before this day.")] = None,
    holdout: Annotated[float, typer.Option(help="Share of the newest sessions to test on, without --test.")] = 0.1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure the recommended model and the yardsticks: full ranking, ties against the target."""
    from cli.report import Progress, print_json, print_table

    if protocol not in PROTOCOLS:
        raise SettingsError(f"--protocol is {protocol!r}, expected one of {', '.join(PROTOCOLS)}")
    if items is not None and not items.is_file():
        raise SettingsError(f"no file {items} (--items)")
    known, cases = _load(
        train, test, protocol, train_until=train_until, test_from=test_from, test_until=test_until, holdout=holdout
    )
    cuts = sorted({int(k) for k in at.split(",")} | {20})
    with Progress(quiet=json) as progress:
        found = measure_all(known, cases, cuts, seed=seed, budget_s=seconds(budget), report=progress.report)
    answer = {"protocol": protocol, "cases": len(cases), **found}
    if json:
        print_json(answer)
    else:
        print_table(answer, COLUMNS)


def measure_all(
    known: Sessions, cases: Cases, at: list[int], *, seed: int, budget_s: float, report: Callable[[str, float], None]
) -> dict[str, Any]:
    """Fit and measure every model: the members of the JSON object after `cases`."""
    import models
    from models import evaluation, training
    from models.baselines import CosineLastItem, PlainVmis, Popularity
    from models.counting import item_counts
    from models.params import Params

    models.warm()
    popularity, *_ = item_counts(known.indptr, known.items, cases.known, 0)
    found: dict[str, Any] = {}
    for made in (Popularity(), CosineLastItem(), PlainVmis()):
        began = time.monotonic()
        made.fit(known)
        fit_s = round(time.monotonic() - began, 2)
        ranks = evaluation.rank(made, cases, progress=partial(report, f"asking {made.name}"))
        found[made.name] = {**evaluation.report(ranks, cases, popularity, at, seed), "fit_s": fit_s}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kairos-") as workspace:
        fitted = training.fit(known, Path(workspace), params=Params(seed=seed), budget_s=budget_s, report=report)
    fit_s = round(time.monotonic() - began, 2)
    for name, model in (("recommended", fitted.recommender), ("retrievers_only", fitted.recommender.unranked())):
        ranks = evaluation.rank(model, cases, progress=partial(report, f"asking {name}"))
        found[name] = {**evaluation.report(ranks, cases, popularity, at, seed), "fit_s": fit_s}
    found["recommended"]["peak_mb"] = training.peak_mb()
    return {"selected_on": fitted.selected_on, "seed": seed, "recommended": "recommended", "models": found}


def _load(
    train: list[Path],
    test: Path | None,
    protocol: str,
    *,
    train_until: str | None,
    test_from: str | None,
    test_until: str | None,
    holdout: float,
) -> tuple[Sessions, Cases]:
    """Training sessions and test cases."""
    from models import dataset, evaluation

    table = dataset.read(train)
    asked = dataset.read([test]) if test else table
    if test is None and test_from is None:
        if protocol == "loo":
            raise SettingsError("--protocol loo needs --test: one row a user")
        table, asked = (dataset.split(table, share=share) for share in ((0.0, 1 - holdout), (1 - holdout, 1.0)))
    if train_until:
        table = dataset.split(table, until_ms=dataset.day_ms(train_until))
    if test_from or test_until:
        low = dataset.day_ms(test_from) if test_from else None
        high = dataset.day_ms(test_until) if test_until else None
        asked = dataset.split(asked, from_ms=low, until_ms=high)
    known = dataset.to_sessions(table)
    if protocol == "loo":
        histories, targets = dataset.histories(table, asked, known.item_ids)
        return known, evaluation.cases_of_users(histories, targets, len(known.item_ids))
    sessions = dataset.to_sessions(asked, known.item_ids)
    return known, evaluation.cases_of(sessions, protocol, len(known.item_ids))


def seconds(text: str) -> float:
    """Seconds of a duration such as 90s, 10m or 1h.

    >>> seconds("10m")
    600.0
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text.strip())
    if not match:
        raise SettingsError(f"{text!r} is no duration such as 90s, 10m or 1h")
    return float(match[1]) * {"s": 1, "m": 60, "h": 3600, None: 1}[match[2]]
