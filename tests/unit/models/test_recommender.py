"""Retrieval, ranking and artefacts on a toy shop of three shelves."""

from pathlib import Path

import numpy as np
import pytest

from events.errors import ModelError
from models import artefact, learning, network, registry, training, warm
from models.features import FEATURES, N_FEATURES
from models.index import build
from models.network import Lists
from models.params import SOURCES, Params
from models.ranker import OnnxRanker, write_network
from models.recommender import Recommender
from models.sessions import Sessions

SHELVES, PER_SHELF = 3, 8


def toy_sessions(count: int = 900, seed: int = 5) -> Sessions:
    """Sessions that stay on one shelf, walk forward along it, and often come back to an earlier item."""
    random = np.random.default_rng(seed)
    lists = []
    for _ in range(count):
        shelf, place = random.integers(SHELVES), int(random.integers(PER_SHELF))
        walked = [place]
        for _ in range(int(random.integers(2, 7))):
            back = len(walked) > 1 and random.random() < 0.3
            walked.append(walked[-2] if back else (walked[-1] + 1) % PER_SHELF)
        lists.append([int(shelf) * PER_SHELF + step for step in walked])
    items = np.array([item for one in lists for item in one], dtype=np.int32)
    indptr = np.cumsum([0, *(len(one) for one in lists)]).astype(np.int64)
    ids = [f"i{row}" for row in range(SHELVES * PER_SHELF)]
    return Sessions(indptr, items, np.arange(count, dtype=np.int64), ids, timed=False)


@pytest.fixture(scope="module")
def sessions() -> Sessions:
    return toy_sessions()


@pytest.fixture(scope="module")
def saved(sessions: Sessions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.train(sessions, tmp_path_factory.mktemp("data"), name="toy", activate=True)


def test_warming_needs_no_model() -> None:
    warm()


def test_candidates_are_distinct_sorted_and_carry_features(sessions: Sessions) -> None:
    recommender = Recommender(sessions.item_ids, build(sessions, Params()), Params())
    found = recommender.candidates(["i0", "i1", "i2"], k=10)
    assert len(found) == len(set(found.rows.tolist())) == 10
    assert (np.diff(found.scores) <= 0).all()
    assert found.features.shape == (10, N_FEATURES)
    assert np.isfinite(found.features).all()


def test_the_next_and_the_previous_lead_and_shelves_are_not_mixed(sessions: Sessions) -> None:
    recommender = Recommender(sessions.item_ids, build(sessions, Params()), Params())
    rows = recommender.candidates(["i9", "i10"], k=5).rows.tolist()
    assert set(rows[:2]) == {9, 11}
    assert all(8 <= row < 16 for row in rows)


def test_a_query_leaves_no_trace_in_the_next(sessions: Sessions) -> None:
    recommender = Recommender(sessions.item_ids, build(sessions, Params()), Params())
    before = recommender.candidates(["i3"])
    recommender.candidates(["i20", "i4", "i9"])
    after = recommender.candidates(["i3"])
    assert before.rows.tolist() == after.rows.tolist()
    assert before.features.tolist() == after.features.tolist()


def test_no_history_or_an_unknown_one_finds_nothing(sessions: Sessions) -> None:
    recommender = Recommender(sessions.item_ids, build(sessions, Params()), Params())
    assert len(recommender.candidates([])) == 0
    assert len(recommender.candidates(["never seen"])) == 0
    assert recommender.recommend([], k=5) == []


def test_an_item_newer_than_the_model_is_remembered_when_asked_for(sessions: Sessions) -> None:
    recommender = Recommender(sessions.item_ids, build(sessions, Params()), Params())
    history = ["new", "i1", "i2"]
    assert "new" not in recommender.ids(recommender.candidates(history))
    found = recommender.candidates(history, unseen=True)
    assert "new" in recommender.ids(found)
    assert recommender.sources[found.sources[recommender.ids(found).index("new")]] == "session_memory"
    assert (recommender.candidates(history).rows < len(recommender.item_ids)).all()


def test_an_unseen_item_keeps_its_row_through_scoring(sessions: Sessions) -> None:
    recommender = Recommender(sessions.item_ids, build(sessions, Params()), Params())
    rows, _ = recommender.scored(np.array([77, 3, 99, 77], dtype=np.int32))
    assert {77, 99} <= set(rows.tolist())
    assert len(rows) == len(set(rows.tolist()))


def test_long_histories_and_repeats_are_survived(sessions: Sessions) -> None:
    recommender = Recommender(sessions.item_ids, build(sessions, Params()), Params())
    assert len(recommender.candidates(["i1"] * 500)) > 0
    assert len(recommender.candidates(sessions.item_ids * 9)) > 0


def test_two_trainings_with_one_seed_are_byte_equal(saved: Path, sessions: Sessions, tmp_path: Path) -> None:
    again = training.train(toy_sessions(), tmp_path, name="toy")
    first, second = (artefact.read_manifest(path)["files"] for path in (saved, again))
    assert first == second


def test_a_loaded_model_answers_like_the_fitted_one(saved: Path, sessions: Sessions, tmp_path: Path) -> None:
    fitted = training.fit(sessions, tmp_path).recommender
    loaded = artefact.load(saved)
    assert loaded.recommend(["i1", "i2"], k=7) == fitted.recommend(["i1", "i2"], k=7)
    assert (loaded.name, loaded.version) == ("toy", saved.name)
    assert {scored.source for scored in loaded.recommend(["i1", "i2"], k=20)} <= set(SOURCES)


def test_training_makes_the_version_active_and_leaves_nothing_half(saved: Path) -> None:
    data_dir = saved.parent.parent.parent
    assert registry.active(data_dir) == saved
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_filter_between_retrieval_and_ranking_changes_no_score(saved: Path) -> None:
    recommender = artefact.load(saved)
    found = recommender.candidates(["i1", "i2"])
    kept = np.arange(len(found)) % 2 == 0
    np.testing.assert_allclose(recommender.rank(found)[kept], recommender.rank(found.take(kept)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["items.npy", "vectors.faiss", "items.msgpack", "ranker.onnx", "manifest.json"])
def test_a_missing_or_cut_file_is_refused_by_name(saved: Path, tmp_path: Path, name: str) -> None:
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=name):
        artefact.load(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ModelError, match=name):
        artefact.load(tmp_path)


def test_a_changed_byte_is_refused_by_name(saved: Path, tmp_path: Path) -> None:
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((tmp_path / "idf.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "idf.npy").write_bytes(content)
    with pytest.raises(ModelError, match=r"idf\.npy is corrupt"):
        artefact.load(tmp_path)


def test_an_onnx_file_of_another_width_is_refused(tmp_path: Path) -> None:
    layers = [(np.zeros((3, 1), np.float32), np.zeros(1, np.float32))]
    write_network(tmp_path / "r.onnx", layers, np.zeros(3, np.float32), np.ones(3, np.float32))
    with pytest.raises(ModelError, match="3 features"):
        OnnxRanker(tmp_path / "r.onnx", 4)
    (tmp_path / "r.onnx").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="not a usable"):
        OnnxRanker(tmp_path / "r.onnx", 4)


def test_onnx_scores_equal_the_networks_at_every_size(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    layers = [
        (random.standard_normal((N_FEATURES, 8)).astype(np.float32), np.ones(8, np.float32)),
        (random.standard_normal((8, 1)).astype(np.float32), np.ones(1, np.float32)),
    ]
    mean, scale = np.ones(N_FEATURES, np.float32), np.full(N_FEATURES, 2, np.float32)
    write_network(tmp_path / "r.onnx", layers, mean, scale)
    ranker = OnnxRanker(tmp_path / "r.onnx", N_FEATURES)
    for n in (0, 1, 31, 200, 513):
        features = random.standard_normal((n, N_FEATURES)).astype(np.float32)
        wanted = network.score(layers, mean, scale, features)
        np.testing.assert_allclose(ranker.score(features), wanted, rtol=1e-4, atol=1e-5)


def test_the_network_finds_the_column_that_decides() -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((4_000, N_FEATURES)).astype(np.float32)
    edges = np.arange(0, 4_001, 10, dtype=np.int64)
    clicked = np.zeros(4_000, dtype=np.float32)
    for low in edges[:-1]:
        clicked[low + features[low : low + 10, 4].argmax()] = 1.0
    lists = Lists(features, clicked, np.ones_like(clicked), edges)
    trained = network.train(lists, seed=0, epochs=10)
    assert learning.mrr(network.score(*trained, features), lists) > 0.9


def test_lists_come_from_an_index_that_lacks_the_labelled_sessions(sessions: Sessions) -> None:
    # An index with the labelled session in it would nearly always have the clicked item at the top.
    lists, newest = learning.collect(sessions, Params(), cases=600, seed=0, report=training.silent)
    assert 0 < newest < len(lists)
    assert lists.clicked.sum() == len(lists)
    assert lists.features.shape[1] == len(FEATURES)


def test_live_events_train_an_active_model(tmp_path: Path) -> None:
    events = [
        (f"s{number}", f"i{(number + step) % 9}", number * 10_000 + step, "view")
        for number in range(300)
        for step in range(4)
    ]
    path = training.train_from_sessions(events, tmp_path)
    assert registry.active(tmp_path) == path
    best = artefact.load(path).recommend(["i3", "i4"], k=5)
    assert best[0].item_id == "i5"


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing to learn"):
        training.train_from_sessions([], tmp_path)
    assert not list(tmp_path.glob("models/*/*"))


def test_renumbered_items_are_recommended_alike(sessions: Sessions) -> None:
    names = [f"other-{(7 * row) % len(sessions.item_ids)}" for row in range(len(sessions.item_ids))]
    renamed = Sessions(sessions.indptr, sessions.items, sessions.start, names, timed=False)
    one = Recommender(sessions.item_ids, build(sessions, Params()), Params())
    other = Recommender(names, build(renamed, Params()), Params())
    expected = [names[one.row_of[scored.item_id]] for scored in one.recommend(["i1", "i2"], k=9)]
    assert [scored.item_id for scored in other.recommend([names[1], names[2]], k=9)] == expected


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_a_shop_of_a_few_sessions_trains_without_a_ranker(count: int, tmp_path: Path) -> None:
    events = [(f"s{n}", f"i{(n + step) % 5}", n * 10_000 + step, "view") for n in range(count) for step in range(3)]
    recommender = artefact.load(training.train_from_sessions(events, tmp_path))
    assert recommender.ranker is None
    assert recommender.recommend(["i1"], k=3)


def test_two_versions_answer_side_by_side(saved: Path, sessions: Sessions) -> None:
    first, second = artefact.load(saved), artefact.load(saved)
    before = first.recommend(["i3"], k=5)
    assert second.recommend(["i3"], k=5) == before
    del second
    assert first.recommend(["i3"], k=5) == before
