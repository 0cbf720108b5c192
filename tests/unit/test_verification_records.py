"""Where the records of a run themselves are lost or damaged, that is a problem, and nothing passes for proved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.proof import ERROR, Notebook
from hybrid_batch.core.records import ShardId
from tests.support.local_runs import LocalRun, a_finished_run
from tests.support.proofs import levels, prove, wrong

ROWS = 24
SMALL_0 = ShardId("small", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    """A finished run for all tests of this module; each breaks a copy."""
    return a_finished_run(tmp_path_factory.mktemp("whole"), ROWS)


@pytest.fixture
def layout(whole: LocalRun, tmp_path: Path) -> RunLayout:
    """A copy of the finished run."""
    root = tmp_path / "runs" / whole.layout.run_id
    shutil.copytree(whole.layout.root, root)
    return RunLayout(str(root))


def test_a_finished_run_without_its_routing_is_not_proved(layout):
    Path(layout.routing).unlink()
    proof = prove(layout)
    assert proof.finished
    assert wrong(proof) == {"routed shards": ("routed/routing.parquet: is missing",)}


def test_without_its_routing_the_manifest_says_which_results_must_be_there(layout):
    Path(layout.routing).unlink()
    Path(layout.results(SMALL_0)).unlink()
    shutil.copy(layout.results(ShardId("large", 0)), layout.results(ShardId("large", 900)))
    found = wrong(prove(layout))
    assert found["results"][0] == "results/tier=small/shard-000000.parquet: is missing"
    assert found["results"][1].startswith("results/tier=large/shard-000900.parquet: is no result of this run")
    assert len(found["results"]) == 2


def test_a_foreign_result_of_a_run_that_is_not_routed_is_told(tmp_path):
    run = LocalRun(tmp_path, ROWS).plan().score()
    stranger = Path(run.layout.results(SMALL_0))
    stranger.parent.mkdir(parents=True)
    stranger.write_text("answers")
    proof = prove(run.layout)
    assert not proof.proved
    assert "is no result of this run" in wrong(proof)["results"][0]
    assert levels(proof)["results"] == ERROR


def test_a_check_with_problems_is_never_left_out():
    notebook = Notebook()
    notebook.write("one", ["a problem"])
    notebook.write("two", ["another"])
    notebook.write("three", [])
    made = [notebook.check("one", "told")]
    assert [(check.name, check.problems) for check in notebook.left(made)] == [("two", ("another",))]
