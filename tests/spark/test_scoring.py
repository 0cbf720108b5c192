"""The score stage on real Spark: a query's score and tier hang on its text alone, and odd queries harm nobody."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_batch.core.inputs import InputSpec
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.routing import assign_tiers, to_micros
from hybrid_batch.engines.base import Backend
from hybrid_batch.engines.router import load_router
from hybrid_batch.routers import router_recipe
from hybrid_batch.spark import executor, jobs, tasks
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.source import plan_input
from hybrid_batch.stages import guard
from hybrid_batch.study.export import export
from hybrid_batch.tables import SCORED_BY
from tests.support.jobs import Recorder
from tests.support.tiny_router import make_tiny_router

COUNT = 300


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny router and its export."""
    folder = make_tiny_router(tmp_path_factory.mktemp("router") / "tiny")
    export(str(folder), "int8", Recorder())
    return folder


def some_texts() -> list[str]:
    """Of many lengths, some of them more than once."""
    draw = random.Random(3)
    words = ["river", "sum", "why", "def", "is", "prove", "漢字", "🙂", "x"]
    texts = [" ".join(draw.choices(words, k=draw.choice([1, 2, 5, 11, 30, 70, 200]))) for _ in range(COUNT)]
    return [*texts, *texts[:20]]


def scored(
    spark: Any, router: Path, folder: Path, texts: Sequence[str], backend: Backend, rows_per_split: int, files: int
) -> dict[str, float]:
    """The scores of ``texts`` by id, from a score stage over several files."""
    folder.mkdir()
    places = np.array_split(np.arange(len(texts)), files)
    for number, own in enumerate(places):
        table = pa.table({"id": [texts[place] for place in own], "prompt": [texts[place] for place in own]})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=max(1, rows_per_split // 2))
    spec = InputSpec(
        str(folder), "parquet", id_column="id", prompt_column="prompt", rows_per_split=rows_per_split
    )  # fmt: skip
    plan = plan_input(spec)
    layout = RunLayout(f"{folder}-run")
    scorer = partial(executor.scorer, router_recipe(str(router), backend))
    listed = Listed.of(plan.files, plan.splits)
    task = tasks.ScoreTask(layout=layout, splits=plan.splits, spec=spec, kept=(), scorer=scorer, listed=listed)
    jobs.score(spark, task, range(len(plan.splits)))
    rows = pq.read_table(layout.scored_folder).to_pylist()
    assert len(rows) == len(texts)
    return {row["query_id"]: row["score"] for row in rows}


@pytest.mark.parametrize("backend", ["torch", "onnx-int8"])
def test_scores_and_tiers_do_not_hang_on_partitions_order_batches_or_workers(spark, router, tmp_path, backend):
    texts = some_texts()
    reference = load_router(router, backend, device="cpu", remember=0)
    expected = {text: float(reference.score([text])[0]) for text in set(texts)}
    shuffled = random.Random(5).sample(texts, len(texts))
    ways = {
        "one-task": (texts, 10_000, 1),
        "many-tasks": (texts, 16, 3),
        "shuffled": (shuffled, 100, 2),
    }
    # A score is a grid point, as float32 from the router and as float64 in the table.
    threshold = int(to_micros(np.array([np.median(list(expected.values()))]))[0])
    tiers = {text: assign_tiers(to_micros(np.array([score])), threshold)[0] for text, score in expected.items()}
    for name, (rows, rows_per_split, files) in ways.items():
        found = scored(spark, router, tmp_path / name, rows, backend, rows_per_split, files)
        assert found.keys() == expected.keys()
        assert max(abs(found[text] - expected[text]) for text in found) <= 1e-7
        micros = {text: to_micros(np.array([score])) for text, score in found.items()}
        assert {text: assign_tiers(value, threshold)[0] for text, value in micros.items()} == tiers


def test_the_scored_table_says_what_computed_it(spark, router, tmp_path):
    scored(spark, router, tmp_path / "in", ["a", "b"], "auto", 10, 1)
    metadata = pq.read_schema(tmp_path / "in-run" / "scored" / "part-00000.parquet").metadata
    assert metadata[SCORED_BY.encode()] == b"onnx int8 on cpu"


ODD = [
    ("plain", "What is the capital of Peru?", None),
    ("null", None, guard.NULL_PROMPT),
    ("empty", "", guard.EMPTY_PROMPT),
    ("blank", " \t\n\u3000", guard.EMPTY_PROMPT),
    ("as large as allowed", "x y " * (1 << 18), None),
    ("too large", "x y " * (1 << 18) + "!", guard.PROMPT_TOO_LARGE),
    ("one word of a megabyte", "x" * (1 << 20), None),
    ("emoji", "🙂👩‍👩‍👧‍👦🏳️‍🌈", None),
    ("scripts", "Ünïcode Кириллица العربية हिन्दी 漢字 ไทย עברית", None),
    ("zero width", "\u200b\u200d\ufeff", None),
    ("controls", "\x00\x01\x1f", None),
    ("unknown to the tokenizer", "\U00013000\U000e0001", None),
    ("surrogate", "broken \ud83d here", guard.INVALID_TEXT),
]


def test_odd_queries_are_scored_or_refused_by_themselves(spark, router, tmp_path):
    path = tmp_path / "odd.jsonl"
    path.write_text("".join(json.dumps({"id": name, "prompt": prompt}) + "\n" for name, prompt, _ in ODD))
    spec = InputSpec(str(path), "jsonl", id_column="id", prompt_column="prompt")
    plan = plan_input(spec)
    listed = Listed.of(plan.files, plan.splits)
    located = jobs.check_ids(spark, plan.splits, spec, listed)
    layout = RunLayout(str(tmp_path / "run"))
    scorer = partial(executor.scorer, router_recipe(str(router), "torch"))
    task = tasks.ScoreTask(layout=layout, splits=located, spec=spec, kept=(), scorer=scorer, listed=listed)
    jobs.score(spark, task, range(len(located)))

    rows = {row["query_id"]: row for row in pq.read_table(layout.scored_folder).to_pylist()}
    assert list(rows) == [name for name, _, _ in ODD]
    assert {name: row["error_kind"] for name, row in rows.items()} == {name: kind for name, _, kind in ODD}
    assert all((row["score"] is None) == (row["error_kind"] is not None) for row in rows.values())
    alone = load_router(router, "torch", device="cpu")
    for name, prompt, kind in ODD:
        if kind is None:
            assert rows[name]["score"] == pytest.approx(float(alone.score([prompt])[0]), abs=1e-7)


def test_a_run_says_what_scored_and_a_named_backend_is_part_of_what_it_is(document, run_job, router):
    document["router"] = {"path": str(router), "backend": "torch"}
    by_torch, first = run_job(document)
    document["router"] = {"path": str(router)}
    by_export, second = run_job(document)
    assert by_torch.layout.run_id != by_export.layout.run_id
    assert "scored by torch fp32 on cpu" in first.notes
    assert "scored by onnx int8 on cpu" in second.notes
    assert by_torch.manifest["scored_by"] == {"torch fp32 on cpu": 1}
    assert by_export.manifest["scored_by"] == {"onnx int8 on cpu": 1}
    assert by_torch.manifest["rows"] == by_export.manifest["rows"] == 120


def test_a_run_that_goes_on_keeps_to_what_it_began_with(document, run_job, tmp_path):
    router = make_tiny_router(tmp_path / "router")
    document["router"] = {"path": str(router)}
    document["input"]["rows_per_split"] = 5
    begun, _ = run_job(document)
    root = Path(begun.layout.root)
    for name in ("manifest.json", "scored/part-00000.parquet"):
        (root / name).unlink()
    export(str(router), "int8", Recorder())
    resumed, recorder = run_job(document)
    assert resumed.layout.run_id == begun.layout.run_id
    assert "scored by torch fp32 on cpu" in recorder.notes
    assert resumed.manifest["scored_by"] == begun.manifest["scored_by"]
