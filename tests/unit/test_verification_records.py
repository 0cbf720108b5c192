"""Where the records of a run themselves are lost or damaged, that is a problem, and nothing passes for proved."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.proof import ERROR, Notebook
from hybrid_batch.core.records import EngineSpan, ShardId
from hybrid_batch.engines.base import ChatAnswer
from hybrid_batch.ledger import Ledger
from hybrid_batch.parquet import from_parquet
from hybrid_batch.spark.tasks import DeadLettersTask
from hybrid_batch.stages.generate import make_receipt, results_table
from tests.support.local_runs import BEGAN_US, LocalRun, a_finished_run
from tests.support.proofs import copy_of, edit_parquet, levels, prove, set_column, wrong

ROWS = 24
SMALL_0 = ShardId("small", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    """A finished run for all tests of this module; each breaks a copy."""
    return a_finished_run(tmp_path_factory.mktemp("whole"), ROWS)


@pytest.fixture
def layout(whole: LocalRun, tmp_path: Path) -> RunLayout:
    """A copy of the finished run."""
    return copy_of(whole, tmp_path)


def test_a_finished_run_without_its_routing_is_not_proved(layout):
    Path(layout.routing).unlink()
    proof = prove(layout)
    assert proof.finished
    assert wrong(proof) == {"routed shards": ("routed/routing.parquet: is missing",)}
    assert "not compared: there is no routing" in next(one.told for one in proof.checks if one.name == "routed shards")


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


@pytest.mark.parametrize("batch", [False, True])
def test_a_result_that_is_answered_again_leaves_no_old_failures_behind(tmp_path, batch):
    run = a_finished_run(tmp_path, ROWS, batch=batch)
    layout = run.layout
    shard = next(shard for shard in run.routing.shards if Path(layout.dead_letters(shard)).exists())
    assert Path(layout.batch_errors(run.routing.shards.index(shard))).exists() == batch
    Path(layout.manifest).unlink()
    Path(layout.results(shard)).unlink()
    rows = from_parquet(Path(layout.routed(shard)).read_bytes())
    answers = [ChatAnswer("fine", "stop", 5, 5, 0.5) for _ in range(rows.num_rows)]
    span = EngineSpan("engine", BEGAN_US, BEGAN_US + 1_000_000, 5_000_000)
    ledger = run.ledger = Ledger(layout)
    receipt = make_receipt(shard.tier, shard.number, answers, spans=[span])
    ledger.commit_results(results_table(rows, answers, shard.tier, "fake-model"), receipt)
    run.finish()
    assert not Path(layout.dead_letters(shard)).exists()
    assert not Path(layout.batch_errors(run.routing.shards.index(shard))).exists()
    assert prove(layout).proved, wrong(prove(layout))


def test_dead_letters_of_another_content_are_replaced(whole, layout):
    shard = next(shard for shard in whole.routing.shards if Path(layout.dead_letters(shard)).exists())
    letters = Path(layout.dead_letters(shard))
    before = letters.read_bytes()
    edit_parquet(str(letters), set_column("query_id", 0, "stranger"))
    list(DeadLettersTask(layout, [shard])(0))
    assert letters.read_bytes() == before


def cut(url: str) -> None:
    path = Path(url)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("break_it", [cut, lambda url: Path(url).write_bytes(b"")], ids=["cut", "empty"])
def test_a_damaged_routing_is_a_problem(layout, break_it):
    break_it(layout.routing)
    proof = prove(layout)
    assert proof.finished
    assert wrong(proof).keys() == {"routed shards"}
    assert wrong(proof)["routed shards"][0].startswith("routed/routing.parquet: cannot be read: ")


@pytest.mark.parametrize("content", ["", '{"format": 1, "sha', "[]", "null", "\x00"])
def test_a_damaged_manifest_is_a_problem_of_a_finished_run(layout, content):
    Path(layout.manifest).write_text(content)
    proof = prove(layout)
    assert proof.finished
    assert wrong(proof).keys() == {"manifest"}
    assert wrong(proof)["manifest"][0].startswith("manifest.json: cannot be read: ")


def test_where_both_records_are_damaged_nothing_is_taken_for_proved(layout):
    cut(layout.routing)
    cut(layout.manifest)
    found = wrong(prove(layout))
    assert {"routed shards", "manifest"} <= found.keys()


def test_a_mark_without_a_manifest_is_a_problem_and_a_start_removes_it(tmp_path):
    run = a_finished_run(tmp_path, ROWS)
    Path(run.layout.manifest).unlink()
    Path(run.layout.results(SMALL_0)).unlink()
    proof = prove(run.layout)
    assert not proof.finished
    assert wrong(proof) == {"manifest": ("results/_SUCCESS: is there, and manifest.json is not",)}
    run.plan()
    assert not Path(run.layout.success).exists()
    assert prove(run.layout).proved
    run.answer().finish()
    assert Path(run.layout.success).exists()
    assert prove(run.layout).proved
