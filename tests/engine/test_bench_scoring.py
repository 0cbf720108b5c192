"""The benchmarks of scoring from end to end, on a few queries: that they run and say what they promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.routing_sets import VARIABLE
from benchmarks.scoring_queries import found_queries
from tests.support.tiny_router import make_tiny_router

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, module: str, *arguments: str) -> dict:
    """Run a benchmark where it finds no public data -> its last line."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, VARIABLE: str(folder), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_score_stage_is_compared_with_all_rivals(tmp_path: Path) -> None:
    router = make_tiny_router(tmp_path / "router")
    found = run(
        tmp_path, "benchmarks.scoring", "--queries", "48", "--rounds", "2", "--batches", "16", "--cores", "1",
        "--router", str(router),
    )  # fmt: skip
    ratios = ("vs_bare", "vs_bare_on_each_core", "vs_sentence_transformers", "vs_predict_batch_udf")
    assert all(found[name] > 0 for name in (*ratios, "fastest_vs_sentence_transformers", "fastest_vs_bare"))
    assert found["fastest"] in ("torch-fp32", "torch-bf16", "onnx-int8")
    assert 0 <= found["tier_flips"] <= 1
    assert found["largest_difference"] < 0.1
    assert (found["queries"], found["rounds"]) == (48, 2)
    figures = json.loads((tmp_path / "out" / "bench-score" / "figures.json").read_text())
    assert {len(values) for values in figures["seconds"].values()} == {2}


def test_the_scorer_is_compared_with_its_bare_encoder(tmp_path: Path) -> None:
    found = run(
        tmp_path, "benchmarks.score_gpu", "--sizes", "tiny", "--tokens", "8", "16", "--queries", "40", "--rounds", "1",
        "--device", "cpu",
    )  # fmt: skip
    assert [(row["encoder"], row["tokens"]) for row in found["rows"]] == [("tiny", 8), ("tiny", 16), ("tiny", "mixed")]
    assert all(row["scorer_per_s"] > 0 and row["bare_per_s"] > 0 for row in found["rows"])


@pytest.mark.parametrize("count", [1, 500])
def test_without_public_data_queries_are_made_and_differ(tmp_path: Path, count: int) -> None:
    texts, source = found_queries(tmp_path, count)
    assert len(set(texts)) == count
    assert "generated" in source
    assert found_queries(tmp_path, count)[0] == texts
