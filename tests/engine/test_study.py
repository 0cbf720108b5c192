"""Evaluate, calibrate and transfer-check with a real router and a labels table, as a user calls them."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner, Result

from hybrid_batch.calibrations import CALIBRATIONS, lookup, stored
from hybrid_batch.cli import app
from hybrid_batch.engines.head import MixtureHead, save_head
from hybrid_batch.engines.router import load_router
from hybrid_batch.engines.router_card import CARD, HEAD, file_record
from hybrid_batch.parquet import to_parquet
from hybrid_batch.study.subject import prepare
from hybrid_batch.tables import LABELS
from tests.support.studies import quiet
from tests.support.tiny_router import DIM, make_tiny_router

ROWS = 300
PROMPTS = [f"How many days are there in month {number} of the year {1900 + number}?" for number in range(ROWS)]


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_router(tmp_path_factory.mktemp("study") / "router")


@pytest.fixture(scope="module")
def scores(router: Path) -> np.ndarray:
    return load_router(router, threads=1, device="cpu").score(PROMPTS).astype(float)


@pytest.fixture(scope="module")
def labels(scores: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small does well where this router scores high."""
    random = np.random.default_rng(0)
    rank = scores.argsort().argsort() / ROWS
    small = (random.random(ROWS) < rank).astype(float)
    large = (random.random(ROWS) < 0.6).astype(float)
    path = tmp_path_factory.mktemp("labels") / "labels.parquet"
    write(path, small, large)
    return path


def write(path: Path, small: np.ndarray, large: np.ndarray) -> None:
    rows = [
        {
            "query_id": f"q{number}",
            "prompt": prompt,
            "task": "odd" if number % 2 else "even",
            "q_small": [small[number]],
            "q_large": [large[number]],
        }
        for number, prompt in enumerate(PROMPTS)
    ]
    path.write_bytes(to_parquet(pa.Table.from_pylist(rows, schema=LABELS)))


def call(*arguments: object) -> Result:
    return CliRunner(env={"COLUMNS": "80", "OMP_NUM_THREADS": "1"}).invoke(
        app, [str(argument) for argument in arguments]
    )


def flat(text: str) -> str:
    return " ".join(text.split())


def test_evaluate_prints_and_writes_what_it_found(router: Path, labels: Path, tmp_path: Path):
    result = call("evaluate", router, labels, "--output", tmp_path / "found", "--resamples", 50)
    assert result.exit_code == 0, result.output
    rows = {
        (row["scope"], row["method"], row["metric"]): row
        for row in pq.read_table(tmp_path / "found" / "evaluation.parquet").to_pylist()
    }
    assert {scope for scope, _, _ in rows} == {"all", "even", "odd"}
    drop = rows["all", "router", "drop_20"]
    assert drop["rows"] == ROWS
    assert drop["value"] < rows["all", "random", "drop_20"]["value"]
    assert f"{drop['low']:.2f} to {drop['high']:.2f}" in result.stdout
    assert (tmp_path / "found" / "curve.png").stat().st_size > 20_000
    assert f"Picture   {tmp_path / 'found' / 'curve.png'}" in result.stdout
    assert "score: 300 / 300 rows" in result.stderr


def test_the_scores_are_those_of_the_nightly_job(router: Path, labels: Path, scores: np.ndarray):
    assert np.array_equal(prepare(str(router), str(labels), quiet()).scores, scores)


def test_calibrate_stores_what_a_job_looks_up_and_the_router_still_loads(router: Path, labels: Path):
    result = call("calibrate", router, labels, "--max-drop", 5)
    assert result.exit_code == 0, result.output
    card = load_router(router, threads=1, device="cpu").card
    record = lookup(str(router), card.fingerprint, 5.0, 0.95)
    assert record.kept
    assert f"{record.overall.threshold:.6f}" in result.stdout
    assert "policy: {max_drop_pct: 5.0, confidence: 0.95}" in result.stdout
    assert "grid search" in result.stdout


def test_a_dry_run_stores_nothing(router: Path, labels: Path):
    before = stored(str(router))
    result = call("calibrate", router, labels, "--small-share", 0.25, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "Nothing was stored" in result.stdout
    assert stored(str(router)) == before


def test_a_promise_out_of_reach_is_told_and_stored_as_all_to_large(router: Path, labels: Path):
    result = call("calibrate", router, labels, "--max-drop", 0.01, "--confidence", 0.999, "--by", "task")
    assert result.exit_code == 0, result.output
    assert "The promise cannot be kept" in result.stdout
    document = json.loads((router / CALIBRATIONS).read_text())
    record = next(item for item in document["records"] if item["by"] == "task")
    assert {part["threshold_micros"] for part in record["groups"].values()} == {1_000_001}


def test_transfer_check_tells_a_pair_it_serves_from_one_it_does_not(router: Path, labels: Path, tmp_path: Path):
    good = call("transfer-check", router, labels, "--resamples", 50)
    assert good.exit_code == 0, good.output
    assert good.stdout.startswith(("reuse:", "recalibrate:"))
    random = np.random.default_rng(5)
    other = tmp_path / "other.parquet"
    write(other, (random.random(ROWS) < 0.5).astype(float), (random.random(ROWS) < 0.7).astype(float))
    bad = call("transfer-check", router, other, "--trained-on", labels, "--resamples", 50)
    assert bad.exit_code == 0, bad.output
    assert bad.stdout.startswith("retrain:")
    assert f"over {ROWS} queries, joined by prompt: weak" in flat(bad.stdout)
    assert "on the pair it was trained on" in flat(bad.stdout)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("calibrate",), "give exactly one of --max-drop, --small-share and --max-cost"),
        (("calibrate", "--max-drop", "1", "--small-share", "0.1"), "give exactly one"),
        (("calibrate", "--max-cost", "1"), "--max-cost needs --usd-small and --usd-large"),
        (
            ("calibrate", "--max-cost", "x", "--usd-small", "1", "--usd-large", "2"),
            "--max-cost is 'x', allowed are amounts",
        ),
        (("evaluate", "--label-kind", "soft"), "--label-kind is 'soft', allowed are det"),
    ],
)
def test_wrong_options_are_told_in_one_sentence(router: Path, labels: Path, arguments: tuple[str, ...], message: str):
    command, *options = arguments
    result = call(command, router, labels, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.fixture
def task_router(router: Path, tmp_path: Path) -> Path:
    """A router that knows nothing but the task: odd questions go to small."""
    folder = tmp_path / "router"
    shutil.copytree(router, folder, ignore=shutil.ignore_patterns(CALIBRATIONS))
    nothing = np.zeros((2, DIM))
    save_head(folder / HEAD, MixtureHead(nothing, np.zeros(2), nothing, np.array([-2.0, 2.0])))
    card = json.loads((folder / CARD).read_text())
    card["tasks"], card["members"][0]["parts"] = ["even", "odd"], "tasks"
    card["files"][HEAD] = asdict(file_record(folder / HEAD))
    (folder / CARD).write_text(json.dumps(card))
    return folder


def test_a_router_is_told_the_tasks_unless_the_job_will_not_tell_them(task_router: Path, labels: Path):
    told = prepare(str(task_router), str(labels), quiet())
    assert told.with_tasks
    assert np.allclose(told.scores, np.where(np.arange(ROWS) % 2, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2))), atol=1e-6)
    alone = prepare(str(task_router), str(labels), quiet(), tasks=False)
    assert (alone.with_tasks, set(alone.scores)) == (False, {0.5})
    for options, expected in (((), False), (("--tasks",), True)):
        result = call("calibrate", task_router, labels, "--max-drop", 20, *options)
        assert result.exit_code == 0, result.output
        assert stored(str(task_router))[-1].with_tasks is expected


def test_a_router_that_reads_no_task_is_told_none(router: Path, labels: Path):
    assert not prepare(str(router), str(labels), quiet()).with_tasks


def test_what_is_no_router_is_told(labels: Path, tmp_path: Path):
    result = call("evaluate", tmp_path, labels)
    assert result.exit_code == 2
    assert f"ROUTER: {tmp_path} holds no router.json" in result.stderr
