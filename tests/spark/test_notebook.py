"""The example notebook, executed in a kernel with a Spark of its own."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pyarrow.parquet as pq
import pytest
from nbclient import NotebookClient

from hybrid_batch.core.routing import GRID, to_micros
from hybrid_batch.demo.questions import questions_of
from hybrid_batch.engines.router import load_router

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "router_score.ipynb"
LIMIT_S = 400
"""Seconds for one cell, which only a broken notebook needs."""

Notebook = Any


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def executed(tiny_router: Path, output: Path) -> Notebook:
    """The notebook with the outputs that it has with the tiny router."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(
        notebook, timeout=LIMIT_S, kernel_name="python3", resources={"metadata": {"path": str(output)}}
    )
    settings = {"HYBRID_BATCH_ROUTER": str(tiny_router), "HYBRID_BATCH_OUTPUT": str(output)}
    return client.execute(env={**os.environ, **settings})


@pytest.fixture(scope="module")
def expected(tiny_router: Path) -> dict[str, float]:
    """The scores of the questions, by id, from the router itself."""
    asked = questions_of("heldout")
    scores = load_router(tiny_router, threads=1).score([question.prompt for question in asked])
    ids = [question.query_id for question in asked]
    return dict(zip(ids, (to_micros(scores) / GRID).tolist(), strict=True))


def said(notebook: Notebook, code: str) -> str:
    """What the cell with ``code`` in it printed, and its value."""
    [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and code in cell.source]
    values = [output["data"]["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]
    return "".join([*(output["text"] for output in cell.outputs if output.get("name") == "stdout"), *values])


def test_the_notebook_is_committed_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]

    nbformat.validate(notebook)
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_the_scores_that_it_writes_are_those_of_the_router(executed, expected, output):
    rows = pq.read_table(output / "scored").to_pylist()
    found = {row["query_id"]: row["score"] for row in rows}

    assert len(found) == len(rows) == len(expected) + 4
    assert {name: score for name, score in found.items() if not name.startswith("odd")} == expected
    assert [found["odd-1"], found["odd-2"]] == [None, None]
    assert None not in [found["odd-3"], found["odd-4"]]


def test_it_shows_the_odd_rows_and_that_both_forms_agree(executed, expected, output):
    written = {row["query_id"]: row["score"] for row in pq.read_table(output / "scored").to_pylist()}
    shown = said(executed, 'withColumn("score"')

    assert said(executed, "questions.count()") == str(len(expected) + 4)
    assert re.search(r"\|odd-1 +\|NULL\|NULL +\|NULL +\|", shown)
    mixed = re.search(r"\|odd-3 +\|NULL\|Wie heißt die Hauptstadt von 日本\? 🗾\|([\d.E-]+) *\|", shown)
    assert mixed is not None
    assert float(mixed[1]) == written["odd-3"]
    assert said(executed, "eqNullSafe") == "0"


def test_it_shows_the_means_of_the_tasks_from_best_to_worst(executed, expected):
    lines = [line.split() for line in said(executed, "mean_score").splitlines()[1:]]
    scores: dict[str, list[float]] = {}
    for question in questions_of("heldout"):
        scores.setdefault(question.task, []).append(expected[question.query_id])

    assert {task: int(count) for task, count, _ in lines} == {task: len(own) for task, own in scores.items()}
    for task, _, mean in lines:
        assert float(mean) == pytest.approx(sum(scores[task]) / len(scores[task]), abs=6e-4)
    assert [mean for _, _, mean in lines] == sorted((mean for _, _, mean in lines), reverse=True)


def test_its_bars_count_every_scored_question_once(executed, expected):
    bars = said(executed, "bins = ").splitlines()

    assert sum(int(bar.split()[-1]) for bar in bars) == len(expected) + 2
    assert [bar.count("█") for bar in bars] == [round(int(bar.split()[-1]) / 2) for bar in bars]


def test_its_thresholds_send_the_wanted_shares_to_small(executed, expected, output):
    lines = said(executed, "approxQuantile").splitlines()
    scores = [row["score"] for row in pq.read_table(output / "scored").to_pylist() if row["score"] is not None]

    assert len(lines) == 4
    for line in lines:
        wanted, threshold, small, large = (float(number) for number in re.findall(r"\d+(?:\.\d+)?", line))
        assert small == sum(score >= threshold for score in scores)
        assert small + large == len(scores)
        assert small / len(scores) == pytest.approx(wanted / 100, abs=0.01)


def test_the_tiers_that_it_writes_follow_the_threshold(executed, output):
    rows = pq.read_table(output / "scored").to_pylist()
    tiers = {tier: [row["score"] for row in rows if row["tier"] == tier] for tier in ("small", "large", "rejected")}

    assert sum(map(len, tiers.values())) == len(rows)
    assert tiers["rejected"] == [None, None]
    assert min(tiers["small"]) > max(tiers["large"])
    for tier, scores in tiers.items():
        assert re.search(rf"\| *{tier}\| +{len(scores)}\|", said(executed, "spark.read.parquet"))
