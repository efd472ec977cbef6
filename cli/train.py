"""`kairos train`: from tables of events to a registered, perhaps active, model version.

Room: cli. Progress on stderr; the report (or JSON) on stdout.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from events.errors import SettingsError


def train(
    source: Annotated[list[Path], typer.Option("--from", help="Table(s) of clicks: parquet or csv.")],
    items: Annotated[Path | None, typer.Option(help="Item table; no model of the recipe reads it yet.")] = None,
    data_dir: Annotated[Path, typer.Option(help="Where versions live: <data-dir>/models.")] = Path(".kairos"),
    name: Annotated[str, typer.Option(help="Name of the model.")] = "sessions",
    activate: Annotated[bool, typer.Option("--activate", help="Make the new version the active one.")] = False,
    budget: Annotated[str, typer.Option(help="Time that training may take, such as 90s or 10m.")] = "10m",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    gap: Annotated[int | None, typer.Option(help="Cut sequences of users at pauses of so many minutes.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Train the recommended session model and register a version."""
    from cli.evaluate import seconds
    from cli.report import Progress, print_json
    from models import artefact, dataset, training
    from models.params import Params

    if items is not None and not items.is_file():
        raise SettingsError(f"no file {items} (--items)")
    began = time.monotonic()
    sessions = dataset.to_sessions(dataset.read(source, gap_ms=None if gap is None else gap * 60_000))
    facts = {"data": {path.name: sha256(path) for path in source}}
    with Progress(quiet=json) as progress:
        path = training.train(
            sessions, data_dir, name=name, params=Params(seed=seed), activate=activate, facts=facts,
            budget_s=seconds(budget), report=progress.report,
        )  # fmt: skip
    manifest = artefact.verify(path)
    size = sum(file["bytes"] for file in manifest["files"].values())
    answer = {
        "name": manifest["name"], "version": manifest["version"], "path": str(path), "active": activate,
        "items": manifest["items"], "sessions": manifest["sessions"], "rows": manifest["rows"],
        "seconds": round(time.monotonic() - began, 1), "peak_mb": training.peak_mb(), "bytes": size,
        "metrics": manifest["metrics"],
    }  # fmt: skip
    if json:
        print_json(answer)
        return
    state = "active" if activate else "registered"
    Console().print(
        f"{answer['name']}/{answer['version']} is {state}: {answer['items']:,} items, {answer['sessions']:,} sessions, "
        f"{size / 1e6:.1f} MB, trained in {answer['seconds']} s with {answer['peak_mb']:,} MB at the peak\n{path}",
        soft_wrap=True,
    )


def sha256(path: Path) -> str:
    """Of a file, for the manifest's account of its data."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
