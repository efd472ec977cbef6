"""Training: the whole recipe from sessions to an artefact directory.

Room: models. Called by `kairos train`, the demo and the tests. Same sessions and same seed give the same bytes.
"""

from __future__ import annotations

import resource
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,unused-ignore]

from events.errors import ModelError
from models import artefact, dataset, learning, registry
from models.features import N_FEATURES
from models.index import build
from models.params import Params
from models.ranker import OnnxRanker, write_network
from models.recommender import Recommender
from models.sessions import Sessions

LABELS = 40_000  # clicks that the ranker learns from, at most
LABELS_PER_S = 500  # of them that a second of the budget allows, retrieval and learning together


@dataclass(frozen=True)
class Fitted:
    """A recommender, where its ranker was selected, and the metrics found there."""

    recommender: Recommender
    selected_on: dict[str, Any]
    metrics: dict[str, float]


def silent(_stage: str, _share: float) -> None:
    """Report nothing."""


def fit(
    sessions: Sessions,
    workspace: Path,
    *,
    params: Params | None = None,
    budget_s: float = 600.0,
    report: learning.Report = silent,
) -> Fitted:
    """Fit retrievers and ranker; the ranker's ONNX file is left in the workspace.

    Parameters
    ----------
    sessions
        Training data, in time order.
    workspace
        An existing directory for `ranker.onnx`.
    budget_s
        Time that it may take, roughly: a small budget labels fewer clicks.

    Raises
    ------
    ModelError
        There is no session to learn from.
    """
    # Two spinning BLAS threads cost 3.6 times the CPU of one on matrices this small.
    with threadpool_limits(1):
        return _fit(sessions, workspace, params or Params(), budget_s, report)


def _fit(sessions: Sessions, workspace: Path, params: Params, budget_s: float, report: learning.Report) -> Fitted:
    if len(sessions) == 0 or len(sessions.item_ids) < 2:
        raise ModelError(f"nothing to learn from: {len(sessions)} sessions over {len(sessions.item_ids)} items")
    labels = min(LABELS, int(budget_s * LABELS_PER_S))
    lists, newest = learning.collect(sessions, params, cases=labels, seed=params.seed, report=report)
    learned = learning.learn(lists, newest, seed=params.seed, report=report)
    report("retrievers", 0.0)
    index = build(sessions, params)
    report("retrievers", 1.0)
    ranker = None
    if learned.network is not None:
        write_network(workspace / artefact.RANKER, *learned.network)
        ranker = OnnxRanker(workspace / artefact.RANKER, N_FEATURES)
    selected_on = {"from": learning.label_span(sessions), "cases": learned.cases, "metric": "mrr@20"}
    return Fitted(Recommender(sessions.item_ids, index, params, ranker), selected_on, learned.metrics)


def train(
    sessions: Sessions,
    data_dir: Path,
    *,
    name: str = "sessions",
    params: Params | None = None,
    activate: bool = False,
    facts: Mapping[str, Any] | None = None,
    budget_s: float = 600.0,
    report: learning.Report = silent,
) -> Path:
    """Train a version, write it to `<data_dir>/models/<name>/<version>/`, perhaps make it the active one.

    A version appears whole or not at all: it is written aside and renamed.
    """
    began = time.monotonic()
    version = registry.new_version(data_dir, name)
    final = registry.directory(data_dir, name, version)
    aside = final.parent / f".{version}.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        fitted = fit(sessions, aside, params=params, budget_s=budget_s, report=report)
        recommender = fitted.recommender
        about = {
            "name": name, "version": version, "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "seed": recommender.params.seed, "rows": len(sessions.items), "span": _span(sessions),
            "fit_s": round(time.monotonic() - began, 2), "peak_mb": peak_mb(),
            "selected_on": fitted.selected_on, "metrics": fitted.metrics, **(facts or {}),
        }  # fmt: skip
        artefact.save(aside, sessions.item_ids, recommender.index, recommender.params, about)
        aside.rename(final)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if activate:
        registry.activate(data_dir, name, version)
    return final


def train_from_sessions(
    events: Iterable[tuple[str, str, int, str]],
    data_dir: Path,
    *,
    name: str = "sessions",
    activate: bool = True,
    gap_ms: int = 1_800_000,
    params: Params | None = None,
    report: learning.Report = silent,
) -> Path:
    """Train from events of the live log: (session or customer key, item id, at_ms, event name)."""
    sessions = dataset.to_sessions(dataset.from_events(events, gap_ms=gap_ms))
    return train(sessions, data_dir, name=name, params=params, activate=activate, report=report)


def peak_mb() -> int:
    """Largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _span(sessions: Sessions) -> dict[str, int | None]:
    """First and last start of a session, nothing where there is no clock."""
    if not sessions.timed:
        return {"from_ms": None, "to_ms": None}
    return {"from_ms": int(sessions.start[0]), "to_ms": int(sessions.start[-1])}
