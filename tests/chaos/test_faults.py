"""A few of the faults of ``make chaos``: whatever dies, each row is in the results once, and nothing stays behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.objects import Folder
from tests.chaos.outcome import Outcome, disagreements
from tests.chaos.stage import Stage
from tests.chaos.table import above_bound, figures

pytestmark = [pytest.mark.chaos, pytest.mark.spark]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("chaos")) as made:
        yield made


def happened(name: str, stage: Stage) -> Outcome:
    """What came of the fault, once all is checked that holds for each of them."""
    end = FAULTS[name].happen(stage)
    assert (end.lost, end.doubled, end.rewritten, end.left_behind) == (0, 0, 0, 0)
    assert end.rows_in == end.rows_out
    assert end.wrong == ()
    # An answer is a function of its row, so a clean run generates what the results hold.
    assert not above_bound(FAULTS[name], end, end.kept_tokens)
    return end


@pytest.mark.parametrize(("name", "code"), [("ctrl-c", 130), ("sigterm", 143), ("kill-driver", -9)])
def test_a_run_whose_driver_ends_is_finished_by_the_same_command(name: str, code: int, stage: Stage):
    end = happened(name, stage)
    assert end.exit_codes == (code, 0)
    assert end.kept >= 3
    if name != "kill-driver":
        assert end.shown == "interrupted; run the same command to resume"


def test_a_lost_executor_is_replaced(stage: Stage):
    assert happened("kill-executor", stage).exit_codes == (0,)


def test_two_drivers_on_one_run_leave_one_copy_of_each_row(stage: Stage):
    assert happened("two-drivers", stage).exit_codes == (0, 0)


def test_a_worker_that_wakes_after_its_shard_was_done_changes_nothing(stage: Stage):
    end = happened("zombie", stage)
    assert end.exit_codes == (0, 0)
    assert end.kept >= 3


def test_a_run_that_does_not_add_up_is_told(tmp_path: Path):
    shard = tmp_path / "runs" / "r" / "results" / "tier=small"
    shard.mkdir(parents=True)
    rows = {"query_id": ["a", "b"], "prompt_tokens": [1, 1], "completion_tokens": [5, 6], "error_kind": [None, "x"]}
    results = pa.table(rows)
    pq.write_table(results, shard / "shard-000000.parquet")
    receipts = tmp_path / "runs" / "r" / "receipts"
    receipts.mkdir()
    (receipts / "shard-000000.json").write_text(json.dumps({"usage": {"completion_tokens": 11}}))
    manifest = {"rows": 2, "failed_rows": 1, "prompt_tokens": 2, "completion_tokens": 11, "errors": {}, "shards": [[]]}
    written = tmp_path / "runs" / "r" / "manifest.json"

    written.write_text(json.dumps(manifest))
    assert disagreements(Folder(tmp_path), results, failed=1) == []
    written.write_text(json.dumps(manifest | {"completion_tokens": 12, "shards": []}))
    assert len(disagreements(Folder(tmp_path), results, failed=0)) == 3
    written.unlink()
    assert disagreements(Folder(tmp_path), results, failed=1) == ["0 manifests"]


def test_figures_tell_what_a_run_may_cost_from_what_it_may_not():
    def end(fault: str, tokens: int) -> Outcome:
        return Outcome(fault, 9, 9, 0, 0, tokens, 1000, 1.0, (0,), "", 1, 0, 0, (), 1.0)

    told = figures(FAULTS, [end("s3-slow", 1010), end("s3-500", 1021), end("kill-worker", 1060)], clean=1000)
    assert told["faults"] == 3
    assert told["max_token_overhead"] == 1.021
    assert told["max_token_overhead_in_flight"] == 1.06
    assert told["above_bound"] == ["s3-500"]


def test_there_are_faults_enough():
    assert len(FAULTS) >= 25
