"""The routing benchmark from end to end, on a generated set in the files that it reads."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.routing_sets import VARIABLE
from tests.support.tiny_router import make_tiny_router

ROOT = Path(__file__).resolve().parents[2]
MODELS = (
    "mistral-7b-instruct-v0.3", "llama-3.1-8b-instruct", "llama3-chatqa-1.5-8b", "codegemma-7b", "gemma-2-9b-it",
    "qwen2.5-7b-instruct", "llama-3.1-nemotron-51b-instruct", "llama-3.3-nemotron-super-49b-v1",
)  # fmt: skip
ROWS = 240
TINY = "mistral-7b->nemotron-51b"


def run(data: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.routing", *arguments],
        cwd=ROOT, env={**os.environ, VARIABLE: str(data)}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def write_nine(folder: Path) -> None:
    """Short questions, which the small models answer, and long ones, which they do not; and lists of concepts."""
    random = np.random.default_rng(0)
    rows, queries = [], []
    for number in range(ROWS):
        kind = number % 3
        question = (
            f"Which town is number {number}?",
            f"Prove the theorem {number} of the book, " + "step by step, " * 8 + "and check it.",
            f"concept {number}, river, dog, stone, write a sentence",
        )[kind]
        easy = (0.9, 0.1, 0.4)[kind]
        small = easy * random.random(len(MODELS)) if kind == 2 else random.random(len(MODELS)) < easy
        scores = dict(zip(MODELS, map(float, small), strict=True))
        scores |= {
            model: float(0.8 * random.random() + 0.2 if kind == 2 else random.random() < 0.9) for model in MODELS[-2:]
        }
        rows.append({"question": question, "scores": scores})
        queries.append({"query": question, "task_name": ("towns", "proofs", "commongen")[kind]})
    folder.mkdir(parents=True)
    (folder / "dcrouter_train.json").write_text(json.dumps(rows))
    (folder / "default_query_train.jsonl").write_text("".join(json.dumps(query) + "\n" for query in queries))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("bench")
    write_nine(folder / "data" / "llmrouter")
    encoder = make_tiny_router(folder / "tiny") / "encoder"
    options = ("--sets", TINY, "--tune", "--resamples", "5", "--encoder", str(encoder), "--out", str(folder / "out"))
    return run(folder / "data", *options), folder / "out"


def test_the_last_line_is_json_with_every_method(bench: tuple) -> None:
    done, _ = bench
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert set(told) == {
        "apgr", "drop20", "drop40", "calibration_violation", "calibration_violation_paper", "cost_advantage",
        "cost_advantage_paper",
    }  # fmt: skip
    assert set(told["apgr"][TINY]) == {"random", "oracle", "floor", "knn", "linear", "vectors", "ours"}
    assert told["apgr"][TINY]["random"] == 0.5
    assert told["apgr"][TINY]["oracle"] > told["apgr"][TINY]["ours"] > 0.6
    assert told["drop40"][TINY]["ours"] < told["drop40"][TINY]["random"]


def test_figures_and_pictures_lie_in_the_folder_that_was_named(bench: tuple) -> None:
    _, out = bench
    with (out / "figures.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["metric"] for row in rows} == {"drop10", "drop20", "drop40", "apgr"}
    ours = next(row for row in rows if row["method"] == "ours" and row["metric"] == "apgr")
    assert float(ours["low"]) <= float(ours["value"]) <= float(ours["high"])
    for name in ("mistral-7b-to-nemotron-51b.png", "trans-1.png", "trans-2.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_without_data_it_says_where_they_are_looked_for(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert f"no set found in {tmp_path}; set {VARIABLE}" in done.stderr
