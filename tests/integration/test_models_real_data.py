"""The recipe on real clicks, by the published protocol, and the command line around it."""

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from cli.main import build_app
from events.errors import SettingsError
from models import artefact, dataset, evaluation, registry, training
from models.baselines import Popularity
from models.evaluation import Cases
from models.sessions import Sessions

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("KAIROS_DATA", ROOT / "../shared/data")) / "bol-serenade" / "events.parquet"
DAY = "2020-06-21"

pytestmark = pytest.mark.skipif(not DATA.is_file(), reason=f"no data set at {DATA} (set KAIROS_DATA)")


@pytest.fixture(scope="module")
def split() -> tuple[Sessions, Cases]:
    """Sessions of the days before 06-21, and every click after the first of the sessions of 06-21 .. 06-25."""
    table = dataset.read([DATA])
    cut = dataset.day_ms(DAY)
    known = dataset.to_sessions(dataset.split(table, until_ms=cut))
    asked = dataset.to_sessions(dataset.split(table, from_ms=cut), known.item_ids)
    return known, evaluation.cases_of(asked, "next", len(known.item_ids))


def test_the_recipe_finds_the_next_click(split: tuple[Sessions, Cases], tmp_path: Path) -> None:
    known, cases = split
    assert len(cases) == 17_072
    fitted = training.fit(known, tmp_path, budget_s=10)
    found = evaluation.measure(evaluation.rank(fitted.recommender, cases).all, [20])
    assert found["hit_rate@20"] >= 0.60
    assert found["mrr@20"] >= 0.345


def test_labels_from_other_sessions_fall_to_popularity(split: tuple[Sessions, Cases], tmp_path: Path) -> None:
    known, cases = split
    random = np.random.default_rng(0)
    mixed = Sessions(known.indptr, random.permutation(known.items), known.start, known.item_ids)
    part = np.sort(random.choice(len(cases), 3_000, replace=False))
    targets = random.permutation(cases.target)
    shuffled = Cases(cases.history, cases.low[part], cases.high[part], targets[part], cases.group[part], cases.known)
    popular = Popularity()
    popular.fit(mixed)
    floor = evaluation.measure(evaluation.rank(popular, shuffled).all, [20])
    fitted = training.fit(mixed, tmp_path, budget_s=3)
    found = evaluation.measure(evaluation.rank(fitted.recommender, shuffled).all, [20])
    assert found["hit_rate@20"] <= floor["hit_rate@20"] + 0.01
    assert found["mrr@20"] <= floor["mrr@20"] + 0.005


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few days of the clicks, in a file of their own."""
    path = tmp_path_factory.mktemp("week") / "week.parquet"
    since = dataset.day_ms("2020-06-19")
    pl.read_parquet(DATA).filter(pl.col("ts") >= since).write_parquet(path)
    return path


def test_evaluate_prints_every_model_with_its_keys(week: Path) -> None:
    answer = CliRunner().invoke(
        build_app("evaluate"),
        ["evaluate", "--train", str(week), "--test", str(week), "--train-until", "2020-06-25", "--test-from",
         "2020-06-25", "--budget", "2s", "--at", "5,20", "--seed", "3", "--json"],
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    assert found["protocol"] == "next"
    assert found["seed"] == 3
    assert set(found["models"]) >= {"popularity", "cosine_last_item", "vmis_knn", found["recommended"]}
    for figures in found["models"].values():
        assert {"hit_rate@5", "hit_rate@20", "recall@20", "mrr@20", "ndcg@20", "coverage@20"} <= set(figures)
        assert {"fit_s", "us_per_query", "novel", "intervals", "segments"} <= set(figures)
        assert figures["hit_rate@5"] <= figures["hit_rate@20"] <= 1.0


def test_train_registers_and_activates_what_serving_loads(week: Path, tmp_path: Path) -> None:
    answer = CliRunner().invoke(
        build_app("train"),
        ["train", "--from", str(week), "--data-dir", str(tmp_path), "--budget", "2s", "--activate", "--json"],
    )
    assert answer.exit_code == 0, answer.output
    found = json.loads(answer.stdout)
    path = registry.active(tmp_path)
    assert path == Path(found["path"])
    recommender = artefact.load(path)
    assert recommender.recommend([recommender.item_ids[0]], k=20)


def test_an_artefact_holds_no_session_ids(week: Path, tmp_path: Path) -> None:
    frame = pl.read_parquet(week).with_columns(pl.format("sess-{}", "session_id").alias("session_id"))
    frame.write_parquet(tmp_path / "named.parquet")
    sessions = dataset.to_sessions(dataset.read([tmp_path / "named.parquet"]))
    path = training.train(sessions, tmp_path, budget_s=1)
    assert not [file.name for file in path.iterdir() if b"sess-" in file.read_bytes()]


def test_wrong_arguments_are_explained(week: Path) -> None:
    for arguments, message in ((["--protocol", "first"], "next, last, loo"), (["--budget", "soon"], "no duration")):
        answer = CliRunner().invoke(build_app("evaluate"), ["evaluate", "--train", str(week), *arguments])
        assert isinstance(answer.exception, SettingsError)
        assert message in str(answer.exception)
