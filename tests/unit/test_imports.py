"""What importing a room pulls in, seen by a fresh interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hybrid_batch.spark

PACKAGE = Path(hybrid_batch.__file__).parent
CORE = sorted(f"hybrid_batch.core.{path.stem}" for path in (PACKAGE / "core").glob("[a-z]*.py"))
HEAVY = {"torch", "transformers", "vllm", "tokenizers", "safetensors"}


def modules_after(*names: str) -> set[str]:
    """Top-level modules that are loaded once ``names`` are imported, beyond those of a bare interpreter."""
    code = "\n".join(
        [
            "import sys",
            "bare = set(sys.modules)",
            *(f"import {name}" for name in names),
            "print(*{name.partition('.')[0] for name in set(sys.modules) - bare})",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_core_needs_the_standard_library_and_numpy_only():
    # Compiled numpy modules may register private helpers at the top level.
    foreign = {
        name
        for name in modules_after(*CORE) - set(sys.stdlib_module_names) - {"hybrid_batch", "numpy"}
        if not name.startswith(("_", "cython"))
    }
    assert foreign == set()


def test_core_without_routing_does_not_even_need_numpy():
    assert "numpy" not in modules_after(
        "hybrid_batch.core.records", "hybrid_batch.core.layout", "hybrid_batch.core.plan"
    )


@pytest.mark.parametrize(
    "names",
    [
        ("hybrid_batch.config",),
        ("hybrid_batch.pipeline",),
        ("hybrid_batch.cli",),
        ("hybrid_batch.stages.score", "hybrid_batch.stages.generate", "hybrid_batch.stages.route"),
        ("hybrid_batch.spark", "hybrid_batch.spark.jobs", "hybrid_batch.spark.tasks", "hybrid_batch.spark.executor"),
        ("hybrid_batch.spark.gpus",),
    ],
)
def test_no_model_library_and_no_spark_is_loaded_before_it_is_needed(names):
    assert modules_after(*names) & (HEAVY | {"pyspark", "py4j"}) == set()


def test_the_functions_for_spark_code_are_loaded_when_they_are_asked_for():
    assert "pandas" not in modules_after("hybrid_batch.spark")
    code = (
        "import hybrid_batch.spark.scoring as module\n"
        "from hybrid_batch.spark import router_score, router_score_arrow\n"
        "print(router_score is module.router_score, router_score_arrow is module.router_score_arrow)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
    with pytest.raises(AttributeError, match=r"module 'hybrid_batch\.spark' has no attribute 'router_scores'"):
        _ = hybrid_batch.spark.router_scores
