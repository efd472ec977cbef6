"""Learning to rank, nested in time: lists come from retrievers that were fitted strictly before the labels.

Room: models. An index that contains the labelled session would find it again, and the ranker would learn to trust
it; so the last sessions are cut into blocks, and each block's lists come from an index of the sessions before it.
A small network learns from the lists (see docs/models.md for why it is not boosted trees).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from models import network
from models.features import FEATURES
from models.index import build
from models.network import Lists
from models.params import Params
from models.ranker import Layers
from models.recommender import Candidates, Recommender
from models.sessions import Floats, Sessions

Report = Callable[[str, float], None]  # stage and share done
BLOCK, BLOCKS, MOST_BLOCKS = 0.1, 3, 6  # share of the sessions that a block labels; few clicks take more blocks
HEAD, SAMPLE = 50, 20  # best candidates kept in a list, and others at random
FEWEST = 200  # lists; below, the fused order stays
IN_SESSION, FUSED = FEATURES.index("in_session"), FEATURES.index("fused")


@dataclass(frozen=True)
class Learned:
    """A network (layers, mean, scale) or None where the fused order was better, and what was measured."""

    network: tuple[Layers, Floats, Floats] | None
    cases: int
    metrics: dict[str, float]


def collect(sessions: Sessions, params: Params, *, cases: int, seed: int, report: Report) -> tuple[Lists, int]:
    """Lists whose clicked item is among the candidates, oldest block first; and how many the newest block has.

    Parameters
    ----------
    sessions
        All training data; sessions are cut by time, user sequences at their ends.
    cases
        How many clicks to label at most, over all blocks.
    """
    random = np.random.default_rng(seed)
    blocks = _by_end(sessions) if sessions.by_user else _by_time(sessions, cases)
    parts: list[Lists] = []
    for number, (known, labelled, first) in enumerate(blocks):
        report("ranker lists", number / len(blocks))
        recommender = Recommender(sessions.item_ids, build(known, params), params)
        chosen = _choose(labelled, first, cases // len(blocks), random)
        parts.append(_lists(recommender, labelled, chosen, random))
    report("ranker lists", 1.0)
    return _join(parts), len(parts[-1])


def label_span(sessions: Sessions) -> float | str:
    """Where the labels of the newest block begin: a time in ms, a share of the sessions, or the ends of sequences."""
    if sessions.by_user:
        return "last item of each user"
    low = int((1 - BLOCK) * len(sessions))
    return float(sessions.start[low]) if sessions.timed else 1 - BLOCK


def _by_time(sessions: Sessions, cases: int) -> list[tuple[Sessions, Sessions, npt.NDArray[np.int64]]]:
    n = len(sessions)
    newest = np.maximum(sessions.lengths[int((1 - BLOCKS * BLOCK) * n) :] - 1, 0).sum()
    count = BLOCKS if newest >= cases else MOST_BLOCKS
    cuts = [(int((1 - (b + 1) * BLOCK) * n), int((1 - b * BLOCK) * n)) for b in reversed(range(count))]
    return [
        (sessions.part(0, low), sessions.part(low, high), np.ones(high - low, dtype=np.int64)) for low, high in cuts
    ]


def _by_end(sessions: Sessions) -> list[tuple[Sessions, Sessions, npt.NDArray[np.int64]]]:
    """User sequences: the label is the last item of what the index does not hold."""
    blocks = []
    for missing in (2, 1):
        known, labelled = sessions.without_last(missing), sessions.without_last(missing - 1)
        blocks.append((known, labelled, np.maximum(labelled.lengths - 1, 1)))
    return blocks


def _choose(
    labelled: Sessions, first: npt.NDArray[np.int64], cases: int, random: np.random.Generator
) -> list[tuple[int, int]]:
    """(session, place) of the clicks to label: all from place `first` on, or a random part of them."""
    pairs = [
        (s, place)
        for s, (length, low) in enumerate(zip(labelled.lengths.tolist(), first.tolist(), strict=True))
        for place in range(low, length)
    ]
    if len(pairs) > cases:
        kept = np.sort(random.choice(len(pairs), cases, replace=False))
        pairs = [pairs[i] for i in kept.tolist()]
    return pairs


def _lists(
    recommender: Recommender, labelled: Sessions, chosen: list[tuple[int, int]], random: np.random.Generator
) -> Lists:
    features: list[Floats] = []
    clicked: list[Floats] = []
    weights: list[Floats] = []
    for session, place in chosen:
        low = labelled.indptr[session]
        found = recommender.retrieve(np.ascontiguousarray(labelled.items[max(low, low + place - 50) : low + place]))
        target = labelled.items[low + place]
        if target in found.rows:
            kept, stands_for = _sample(found, target, random)
            features.append(kept.features)
            clicked.append((kept.rows == target).astype(np.float32))
            weights.append(stands_for)
    edges = np.zeros(len(features) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in features], out=edges[1:])
    if not features:
        nothing = np.zeros(0, np.float32)
        return Lists(np.zeros((0, len(FEATURES)), np.float32), nothing, nothing, edges)
    return Lists(np.concatenate(features), np.concatenate(clicked), np.concatenate(weights), edges)


def _sample(found: Candidates, target: int, random: np.random.Generator) -> tuple[Candidates, Floats]:
    """The head of a list, the session's own items, the clicked one and some of the rest; what each stands for."""
    kept = (found.rows == target) | (np.arange(len(found)) < HEAD) | (found.features[:, IN_SESSION] > 0)
    stands_for = np.ones(len(found), dtype=np.float32)
    rest = np.flatnonzero(~kept)
    if len(rest):
        drawn = random.choice(rest, min(SAMPLE, len(rest)), replace=False)
        kept[drawn] = True
        stands_for[drawn] = len(rest) / len(drawn)
    return found.take(kept), stands_for[kept]


def _join(parts: list[Lists]) -> Lists:
    edges = np.zeros(1 + sum(map(len, parts)), dtype=np.int64)
    np.cumsum(np.concatenate([part.sizes for part in parts]), out=edges[1:])
    return Lists(
        np.concatenate([part.features for part in parts]),
        np.concatenate([part.clicked for part in parts]),
        np.concatenate([part.stands_for for part in parts]),
        edges,
    )


def ranks(scores: Floats, lists: Lists) -> npt.NDArray[np.int64]:
    """Rank of each list's clicked candidate, 1 = best, ties against it."""
    target = scores[lists.clicked > 0]
    better = scores >= np.repeat(target, lists.sizes)
    found: npt.NDArray[np.int64] = np.add.reduceat(better.astype(np.int64), lists.edges[:-1])
    return found


def mrr(scores: Floats, lists: Lists, at: int = 20) -> float:
    """Mean reciprocal rank over the lists, nothing for ranks beyond `at`."""
    rank = ranks(scores, lists)
    return float(np.where(rank <= at, 1.0 / rank, 0.0).mean())


def learn(lists: Lists, newest: int, *, seed: int, report: Report) -> Learned:
    """Teach the network; it is kept if, taught by older blocks alone, it beats the fused order on the newest."""
    if newest == 0 or len(lists) < FEWEST:
        return Learned(None, newest, {})
    cut = len(lists) - newest
    older, judged = lists.part(0, cut), lists.part(cut, len(lists))
    fused = mrr(judged.features[:, FUSED], judged)
    metrics = {"lists": float(len(lists)), "fused_mrr@20": round(fused, 6)}
    if cut >= FEWEST // 2:
        taught = network.train(older, seed=seed, progress=partial(report, "ranker, measured"))
        learned = mrr(network.score(*taught, judged.features), judged)
        metrics["ranked_mrr@20"] = round(learned, 6)
        if learned < fused:
            return Learned(None, newest, metrics)
    taught = network.train(lists, seed=seed, progress=partial(report, "ranker"))
    return Learned(taught, newest, metrics)
