"""Evaluations of routers whose quality is known: figures, table, picture and words."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.core.labels import DET, PROB, TRANS, make_labels, trans_labels
from hybrid_batch.core.metrics import Evaluation
from hybrid_batch.parquet import from_parquet
from hybrid_batch.reports.curves import curve_png
from hybrid_batch.reports.evaluation import evaluation_view
from hybrid_batch.study.evaluate import (
    ALL,
    PICTURE,
    TABLE,
    Study,
    default_folder,
    evaluate,
    picture,
    save,
    table,
    targets,
)
from hybrid_batch.study.subject import Subject
from hybrid_batch.tables import EVALUATION
from tests.support.shared_data import shared_data
from tests.support.studies import label_set, noisy_pair, rendered, subject

ROWS = 400
TASKS = ["maths"] * 250 + ["poems"] * 141 + ["rare"] * 5 + [None] * 4


@pytest.fixture
def made(tmp_path: Path) -> Subject:
    small, large, scores = noisy_pair(ROWS)
    return subject(tmp_path, label_set(small, large, TASKS), scores)


@pytest.fixture
def study(made: Subject) -> Study:
    return evaluate(made, resamples=50)


def test_there_are_figures_for_all_rows_and_for_each_task_with_enough_of_them(study: Study):
    assert {name: found.rows for name, found in study.sections.items()} == {ALL: 400, "maths": 250, "poems": 141}
    assert study.left_out == 1
    alone = evaluate(study.subject.by_task()["maths"], resamples=50)
    assert alone.sections[ALL] == study.sections["maths"]
    assert list(alone.sections) == [ALL]  # one task is no division


def test_an_oracle_loses_least_and_random_order_most(study: Study):
    found = study.whole
    for share in (0.1, 0.2, 0.4):
        assert found.oracle_drop[share] < found.drop[share].value < found.random_drop[share]


def test_what_is_left_out_is_asked_for(made: Subject):
    assert list(evaluate(made, resamples=50, by_task=False).sections) == [ALL]
    with pytest.raises(InputError, match=r"labels\.parquet: 9 rows; an evaluation needs at least 10"):
        evaluate(made.take(np.arange(9)))
    with pytest.raises(ConfigError, match="--label-kind is 'soft', allowed are det, prob, trans"):
        evaluate(made, "soft")


def test_a_trans_router_is_measured_against_its_own_t_star(tmp_path: Path):
    random = np.random.default_rng(0)
    labels = label_set(random.normal(size=50), random.normal(size=50))
    made = subject(tmp_path, labels, random.random(50), label_kind="trans", t_star={"t": 0.25})
    q = labels.qualities
    assert np.array_equal(targets(q, TRANS, made.card), trans_labels(q, 0.25))
    assert np.array_equal(targets(q, PROB, made.card), make_labels(PROB, q)[0])
    assert evaluate(made, resamples=20).label_kind == TRANS
    assert evaluate(made, DET, resamples=20).label_kind == DET


def test_the_table_holds_every_figure_once(study: Study):
    made = table(study)
    assert made.schema.equals(EVALUATION)
    rows = {(row["scope"], row["method"], row["metric"]): row for row in made.to_pylist()}
    assert len(rows) == made.num_rows
    assert {scope for scope, _, _ in rows} == {ALL, "maths", "poems"}
    drop = study.whole.drop[0.2]
    found = rows[ALL, "router", "drop_20"]
    assert (found["value"], found["low"], found["high"], found["rows"]) == (drop.value, drop.low, drop.high, ROWS)
    assert rows[ALL, "oracle", "drop_40"]["value"] == study.whole.oracle_drop[0.4]
    assert rows["poems", "all small", "mean_quality"]["value"] == study.sections["poems"].mean_small
    assert {metric for _, method, metric in rows if method == "router"} == {
        "drop_10", "drop_20", "drop_40", "apgr", "cpt50", "cpt80", "auc", "brier", "ece",
    }  # fmt: skip


def test_figures_that_are_not_defined_are_null(tmp_path: Path):
    made = subject(tmp_path, label_set(np.ones(20), np.ones(20)), np.linspace(0, 1, 20))
    study = evaluate(made, resamples=20)
    rows = {row["metric"]: row for row in table(study).to_pylist() if row["method"] == "router"}
    assert rows["apgr"]["value"] is None
    assert rows["auc"]["value"] is None
    assert rows["drop_20"]["value"] == 0
    assert "nan" not in rendered(evaluation_view(study.sections, study.label_kind, 0))


def test_table_and_picture_are_saved_where_they_were_asked_for(study: Study, tmp_path: Path):
    places = save(study, f"{tmp_path}/out/")
    assert places == {"Table": f"{tmp_path}/out/{TABLE}", "Picture": f"{tmp_path}/out/{PICTURE}"}
    assert from_parquet(Path(places["Table"]).read_bytes()).equals(table(study))
    image = Path(places["Picture"]).read_bytes()
    assert image.startswith(b"\x89PNG")
    assert (int.from_bytes(image[16:20]), int.from_bytes(image[20:24])) == (1280, 800)
    assert default_folder(study) == "out/evaluations/paper-labels-f"


def test_the_picture_shows_the_curves_of_the_figures(study: Study):
    shown = picture(study)
    assert shown.router[0] == pytest.approx(study.whole.mean_large)
    assert shown.router[-1] == pytest.approx(study.whole.mean_small)
    lost = 100 * (shown.router[0] - shown.router[20]) / shown.router[0]
    assert lost == pytest.approx(study.whole.drop[0.2].value)
    assert (shown.oracle >= shown.router - 1e-9).all()
    assert shown.low[0] == shown.high[0] == pytest.approx(shown.router[0])
    assert (shown.low <= shown.high).all()


@pytest.mark.parametrize("small", [np.ones(20), np.linspace(0, 1, 20), np.full(20, -3.0)])
def test_pictures_are_drawn_of_flat_rising_and_negative_curves(tmp_path: Path, small: np.ndarray):
    made = subject(tmp_path, label_set(small, np.full(20, small.min())), np.linspace(0, 1, 20))
    assert curve_png(picture(evaluate(made, resamples=20))).startswith(b"\x89PNG")


@pytest.mark.parametrize("pair", [{}, {"small": "org/tiny", "large": "/models/big/"}])
def test_models_are_named_where_the_card_names_them(study: Study, tmp_path: Path, pair: dict[str, str]):
    made = subject(tmp_path, study.subject.labels, study.subject.scores, pair=pair)
    shown = picture(Study(made, DET, study.sections))
    assert (shown.small, shown.large) == (("tiny", "big") if pair else ("the small model", "the large model"))


def test_the_words_fit_a_terminal_and_mark_small_tasks(made: Subject):
    tasks = ["maths"] * 300 + ["poems"] * 50 + ["riddles"] * 50
    study = evaluate(subject(Path(made.url).parent, label_set(*noisy_pair(ROWS)[:2], tasks), made.scores), resamples=50)
    text = rendered(evaluation_view(study.sections, study.label_kind, 2))
    assert max(map(len, text.splitlines())) <= 80
    lines = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    drop = study.whole.drop[0.1]
    random = study.whole.random_drop[0.1]
    said = f"Drop at 10 % to small, % {drop.value:.2f} {drop.low:.2f} to {drop.high:.2f} {random:.2f}"
    assert said in " ".join(text.split())
    assert "poems*" in lines
    assert "maths" in lines
    assert "* fewer than 100 rows" in text
    assert "2 tasks have too few rows" in text
    assert "AUC" in text


def of_real_data(every: int = 4) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rows = json.loads(shared_data("llmrouter/dcrouter_train.json").read_text())[::every]
    lines = shared_data("llmrouter/default_query_train.jsonl").read_text().strip().split("\n")
    task_of = {row["query"]: row["task_name"] for row in map(json.loads, lines)}
    small = np.array([row["scores"]["mistral-7b-instruct-v0.3"] for row in rows], dtype=float)
    large = np.array([row["scores"]["llama-3.1-nemotron-51b-instruct"] for row in rows], dtype=float)
    return small, large, [task_of[row["question"]] for row in rows]


def test_on_real_data_even_the_mean_of_a_task_is_better_than_random(tmp_path: Path):
    small, large, tasks = of_real_data()
    train = np.arange(len(small)) % 2 == 0
    mean = {task: (small >= large)[train & (np.array(tasks) == task)].mean() for task in set(tasks)}
    scores = np.array([mean[task] for task in tasks])
    whole = subject(tmp_path, label_set(small, large, tasks), scores)
    study = evaluate(whole.take(np.flatnonzero(~train)), resamples=50)
    found: Evaluation = study.whole
    assert found.apgr.low > 0.5
    assert found.drop[0.4].high < found.random_drop[0.4]
    assert found.ece.value < 0.1
    assert len(study.sections) > 8
    for part in study.sections.values():
        assert not math.isnan(part.drop[0.2].value)
