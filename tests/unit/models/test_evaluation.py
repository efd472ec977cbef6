"""The protocol's arithmetic, written out by hand."""

import numpy as np
import pytest

from models import evaluation
from models.baselines import CosineLastItem, PlainVmis, Popularity
from models.sessions import Sessions


def sessions_of(*lists: str, table: str = "abcdef") -> Sessions:
    """Sessions written as words: each letter is an item."""
    items = np.array([table.index(letter) for word in lists for letter in word], dtype=np.int32)
    indptr = np.cumsum([0, *(len(word) for word in lists)]).astype(np.int64)
    return Sessions(indptr, items, np.arange(len(lists), dtype=np.int64), list(table), timed=False)


class Fixed:
    """Scores that do not depend on the session."""

    def __init__(self, **scores: float) -> None:
        self.rows = np.array(["abcdef".index(item) for item in scores], dtype=np.int32)
        self.values = np.array(list(scores.values()), dtype=np.float32)

    def scored(self, recent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.rows, self.values


def test_next_asks_every_click_after_the_first_and_last_only_the_last() -> None:
    sessions = sessions_of("abc", "d", "ef")
    every = evaluation.cases_of(sessions, "next", 6)
    assert every.target.tolist() == [1, 2, 5]
    assert [every.history[a:b].tolist() for a, b in zip(every.low, every.high, strict=True)] == [[0], [0, 1], [4]]
    assert evaluation.cases_of(sessions, "last", 6).target.tolist() == [2, 5]


def test_ties_count_against_the_target() -> None:
    cases = evaluation.cases_of(sessions_of("ab"), "next", 6)
    assert evaluation.rank(Fixed(b=1.0, c=1.0, d=1.0, e=0.5), cases).all.tolist() == [3]


def test_novel_ranks_bar_the_items_of_the_session() -> None:
    cases = evaluation.cases_of(sessions_of("abc"), "next", 6)
    ranks = evaluation.rank(Fixed(a=9.0, b=8.0, c=7.0), cases)
    assert ranks.all.tolist() == [2, 3]
    assert ranks.novel.tolist() == [1, 1]


def test_a_target_that_was_never_scored_is_a_miss() -> None:
    cases = evaluation.cases_of(sessions_of("af"), "next", 6)
    ranks = evaluation.rank(Fixed(b=1.0), cases)
    assert evaluation.measure(ranks.all, [20]) == {"hit_rate@20": 0, "recall@20": 0, "mrr@20": 0, "ndcg@20": 0}


def test_metrics_of_ranks_one_four_and_a_miss() -> None:
    found = evaluation.measure(np.array([1, 4, evaluation.MISSED]), [3, 20])
    assert found["hit_rate@3"] == 0.333333
    assert found["hit_rate@20"] == 0.666667
    assert found["mrr@20"] == 0.416667
    assert found["ndcg@20"] == 0.476892


def test_cosine_is_the_exact_one_over_session_sets() -> None:
    model = CosineLastItem()
    model.fit(sessions_of("aab", "abc", "ad"))
    rows, scores = model.scored(np.array([0], dtype=np.int32))
    found = dict(zip(rows.tolist(), scores.tolist(), strict=True))
    assert found == pytest.approx({1: (2 / 3) ** 0.5, 2: (1 / 3) ** 0.5, 3: (1 / 3) ** 0.5})


def test_a_yardstick_leaves_the_sessions_as_they_were() -> None:
    sessions = sessions_of("cba", "aab")
    for model in (CosineLastItem(), PlainVmis(), Popularity()):
        model.fit(sessions)
    assert sessions.items.tolist() == [2, 1, 0, 0, 0, 1]


def test_vmis_bars_the_last_item_and_prefers_the_nearer_session() -> None:
    model = PlainVmis()
    model.fit(sessions_of("abc", "bd", "ef", "ef", "ef"))
    rows, scores = model.scored(np.array([0, 1], dtype=np.int32))
    found = dict(zip(rows.tolist(), scores.tolist(), strict=True))
    assert 1 not in found
    assert found[2] > found[3]


def test_intervals_hold_the_mean_and_depend_on_the_seed_alone() -> None:
    ranks, group = np.array([1, 2, 30, 1, 9, 40]), np.array([0, 0, 1, 2, 2, 3])
    one = evaluation.intervals(ranks, group, 20, seed=1)
    assert one == evaluation.intervals(ranks, group, 20, seed=1)
    low, high = one["hit_rate@20"]
    assert low <= 4 / 6 <= high
