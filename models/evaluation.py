"""Evaluation: full ranking, ties against the target, baselines always beside.

Room: models. Called by `kairos evaluate`, training reports and the tests.

Protocols: `next` is every place >= 1 of each test session given what came before; `last` only the last item; `loo`
one item per user, whose history is that user's rows in the training file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models.sessions import Floats, Rows, Sessions

Longs = npt.NDArray[np.int64]
MISSED = np.iinfo(np.int64).max
LONG_TAIL = 0.2  # of the clicks: items outside the head that takes the rest


class Scorer(Protocol):
    """The part of an estimator that evaluation uses."""

    def scored(self, recent: Rows) -> tuple[Rows, Floats]:
        """Rows and scores of the items that a session makes likely."""


@dataclass(frozen=True)
class Cases:
    """What is asked: `history[low:high]` of case i are its items so far, `target` the one to find.

    Rows at or above `known` are items that the training data lack. `group` is the session, for intervals.
    """

    history: Rows
    low: Longs
    high: Longs
    target: Rows
    group: Longs
    known: int

    def __len__(self) -> int:
        return len(self.target)


@dataclass(frozen=True)
class Ranks:
    """Rank of each case's target, 1 = best, MISSED where it got no score; `novel` with the session's items barred."""

    all: Longs
    novel: Longs
    shown: Rows
    us_per_query: float


def cases_of(sessions: Sessions, protocol: str, known: int) -> Cases:
    """Cases of test sessions for the protocols `next` and `last`."""
    place = np.arange(len(sessions.items)) - np.repeat(sessions.indptr[:-1], sessions.lengths)
    group = np.repeat(np.arange(len(sessions)), sessions.lengths)
    length = np.repeat(sessions.lengths, sessions.lengths)
    asked = place >= 1 if protocol == "next" else (place == length - 1) & (place >= 1)
    at = np.flatnonzero(asked)
    return Cases(sessions.items, at - place[at], at, sessions.items[at], group[at], known)


def cases_of_users(histories: Sessions, targets: Rows, known: int) -> Cases:
    """Cases of leave-one-out: whole histories and one item each."""
    edges = histories.indptr
    return Cases(histories.items, edges[:-1], edges[1:], targets, np.arange(len(targets)), known)


def rank(model: Scorer, cases: Cases, *, progress: Callable[[float], None] = lambda _: None) -> Ranks:
    """Ask every case; the clock runs over the model's own work alone."""
    everything, novel = (np.full(len(cases), MISSED, dtype=np.int64) for _ in range(2))
    shown = np.zeros(int(max(cases.known, cases.history.max(initial=0) + 1)), dtype=np.int32)
    spent = 0.0
    for i in range(len(cases)):
        history = cases.history[cases.low[i] : cases.high[i]]
        began = time.perf_counter()
        rows, scores = model.scored(history)
        spent += time.perf_counter() - began
        shown[rows if len(rows) <= 20 else rows[np.argpartition(-scores, 20)[:20]]] = 1
        place = np.flatnonzero(rows == cases.target[i])
        if len(place):
            better = scores >= scores[place[0]]
            everything[i] = better.sum()
            if cases.target[i] not in history:
                novel[i] = (better & ~np.isin(rows, history)).sum()
        if i % 500 == 0:
            progress(i / len(cases))
    return Ranks(everything, novel, np.flatnonzero(shown).astype(np.int32), spent / max(len(cases), 1) * 1e6)


def measure(ranks: Longs, at: Sequence[int]) -> dict[str, float]:
    """Mean metrics of single targets, for which recall equals the hit rate.

    >>> measure(np.array([1, 4, MISSED]), [20])["mrr@20"]
    0.416667
    """
    found = {}
    for k in at:
        hit = ranks <= k
        reach = np.where(hit, ranks, 1)
        n = max(len(ranks), 1)
        found[f"hit_rate@{k}"] = float(hit.sum() / n)
        found[f"recall@{k}"] = found[f"hit_rate@{k}"]
        found[f"mrr@{k}"] = float((hit / reach).sum() / n)
        found[f"ndcg@{k}"] = float((hit / np.log2(reach + 1)).sum() / n)
    return {name: round(value, 6) for name, value in found.items()}


def report(ranks: Ranks, cases: Cases, popularity: Longs, at: Sequence[int], seed: int) -> dict[str, Any]:
    """The JSON object of one model."""
    repeated = repeats(cases)
    new = ranks.novel[~repeated]
    found: dict[str, Any] = measure(ranks.all, at)
    found["coverage@20"] = round(float((ranks.shown < cases.known).sum() / max(cases.known, 1)), 6)
    found["intervals"] = intervals(ranks.all, cases.group, max(at), seed)
    found["novel"] = {"cases": len(new), **measure(new, at)}
    found["segments"] = {
        name: {"cases": int(mask.sum()), **measure(ranks.all[mask], [max(at)])}
        for name, mask in segments(cases, popularity).items()
    }
    found["us_per_query"] = round(ranks.us_per_query, 1)
    return found


def repeats(cases: Cases) -> npt.NDArray[np.bool_]:
    """Cases whose target is in the history already."""
    pairs = zip(cases.low.tolist(), cases.high.tolist(), cases.target.tolist(), strict=True)
    return np.array([target in cases.history[low:high] for low, high, target in pairs], dtype=np.bool_)


def segments(cases: Cases, popularity: Longs) -> dict[str, npt.NDArray[np.bool_]]:
    """Cases by what makes them hard."""
    order = np.argsort(-popularity, kind="stable")
    share = np.cumsum(popularity[order]) / max(popularity.sum(), 1)
    tail = np.zeros(len(popularity) + 1, dtype=np.bool_)
    tail[order[share > 1 - LONG_TAIL]] = True
    cold = cases.target >= cases.known
    return {
        "cold_item": cold,
        "first_click": cases.high - cases.low == 1,
        "long_tail": tail[np.where(cold, len(popularity), cases.target)],
    }


def intervals(ranks: Longs, group: Longs, k: int, seed: int, rounds: int = 400) -> dict[str, list[float]]:
    """95 % bootstrap intervals, resampling sessions."""
    hit = ranks <= k
    values = {f"hit_rate@{k}": hit.astype(np.float64), f"mrr@{k}": hit / np.where(hit, ranks, 1)}
    found = {}
    if len(ranks) == 0:
        return {name: [0.0, 0.0] for name in values}
    weights = resamples(int(group.max()) + 1, rounds, seed)
    sizes = weights @ np.bincount(group)
    for name, value in values.items():
        means = weights @ np.bincount(group, weights=value) / np.maximum(sizes, 1)
        found[name] = [round(float(edge), 6) for edge in np.quantile(means, (0.025, 0.975))]
    return found


def resamples(groups: int, rounds: int, seed: int) -> npt.NDArray[np.float64]:
    """How often each group is drawn in each round, shape ``(rounds, groups)``."""
    random = np.random.default_rng(seed)
    drawn = np.empty((rounds, groups))
    for number in range(rounds):
        drawn[number] = np.bincount(random.integers(0, groups, groups), minlength=groups)
    return drawn
