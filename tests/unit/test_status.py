"""What can be told of a run from its folder alone."""

from __future__ import annotations

import io
import os
import re
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from hybrid_batch import pipeline
from hybrid_batch.core.cost import all_large, tier_costs
from hybrid_batch.core.errors import InputError, RunConflictError, StorageError
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import LABELLING, RETRY
from hybrid_batch.core.records import ShardId
from hybrid_batch.core.routing import RoutingDecision, ScoreHistogram
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.outcome import RunStatus, StageStatus
from hybrid_batch.reports import words
from hybrid_batch.reports.console import status_view
from hybrid_batch.reports.follow import FAILED_LOOKS, follow
from hybrid_batch.spark.source import plan_input
from hybrid_batch.stages.route import ShardRanges
from hybrid_batch.status import RunLook, find_run, status
from hybrid_batch.verification import verify
from tests.support.jobs import Recorder, job_document, load, questions, write_jsonl, write_parquet
from tests.support.local_runs import LocalRun, a_finished_run
from tests.support.paper_router import make_paper_router
from tests.unit.test_ledger import a_result

ROWS = 12


def a_run(folder: Path, *, suffix: str = "parquet", name: str = "night", created_at: str = "2026-01-01") -> Ledger:
    """A run that has just been planned."""
    write = {"parquet": lambda path, rows: write_parquet(path, rows, row_group=5), "jsonl": write_jsonl}[suffix]
    path = write(folder / "in" / f"q.{suffix}", questions(ROWS))
    router = folder / "router"
    if not router.exists():
        make_paper_router(router)
    document = job_document(path, str(folder / "out"), router)
    document["run"]["name"] = name
    document["input"]["rows_per_split"] = 5
    config = load(document, folder)
    source = plan_input(config.input.to_spec())
    plan = replace(pipeline.draft_plan(config, source), created_at=created_at)
    ledger = Ledger(pipeline.RunLayout.of(str(folder / "out"), plan.run_id))
    ledger.commit_plan(plan)
    return ledger


def touch(url: str) -> None:
    Path(url).parent.mkdir(parents=True, exist_ok=True)
    Path(url).write_text("x")


def a_routing() -> Routing:
    histogram = ScoreHistogram(np.array([0]), np.array([ROWS]))
    return Routing(
        RoutingDecision(1, 4, 8, 0), ShardRanges({"small": ["", "k"], "large": [""], "rejected": []}), histogram
    )


def test_a_run_that_is_only_planned(tmp_path):
    found = status(a_run(tmp_path).layout.root)
    assert found.state == "unfinished"
    assert found.stages == (StageStatus("score", 0, 3, 0, ROWS),)
    assert [(cost.tier, cost.usd) for cost in found.costs] == [("small", Decimal(0)), ("large", Decimal(0))]
    assert found.errors == {}


def test_a_run_in_the_middle_of_scoring(tmp_path):
    ledger = a_run(tmp_path)
    touch(ledger.layout.scored(0))
    touch(ledger.layout.scored(2))
    assert status(ledger.layout.root).stages == (StageStatus("score", 2, 3, 7, ROWS),)


def test_rows_of_text_files_are_unknown_until_they_are_routed(tmp_path):
    ledger = a_run(tmp_path, suffix="jsonl")
    assert status(ledger.layout.root).stages == (StageStatus("score", 0, 3, 0, None),)
    touch(ledger.layout.scored(0))
    assert status(ledger.layout.root).stages == (StageStatus("score", 1, 3, 0, None),)
    touch(ledger.layout.scored(1))
    touch(ledger.layout.scored(2))
    ledger.commit_routing(a_routing())
    assert status(ledger.layout.root).stages[0] == StageStatus("score", 3, 3, ROWS, ROWS)


def test_a_run_in_the_middle_of_generation_counts_shards_rows_tokens_and_money(tmp_path):
    ledger = a_run(tmp_path)
    for part in range(3):
        touch(ledger.layout.scored(part))
    ledger.commit_routing(a_routing())
    for shard in (ShardId("small", 0), ShardId("large", 0)):
        table, receipt = a_result(shard)
        errors = {"too_long": 1} if shard.tier == "large" else {}
        ledger.commit_results(table, replace(receipt, finished_us=receipt.started_us + 3_600_000_000, errors=errors))
    found = status(ledger.layout.root)

    assert found.stages == (
        StageStatus("score", 3, 3, ROWS, ROWS),
        StageStatus("generate small", 1, 2, 2, 4),
        StageStatus("generate large", 1, 1, 2, 8),
    )
    assert [cost.usage.completion_tokens for cost in found.costs] == [8, 8]
    assert [cost.usd for cost in found.costs] == [Decimal("0.100000000")] * 2
    assert [cost.model for cost in found.costs] == ["fake-model"] * 2
    assert found.errors == {"too_long": 1}


def test_a_finished_run_is_told_by_its_manifest(tmp_path):
    ledger = a_run(tmp_path)
    costs = tier_costs([], {"small": "s", "large": "l"}, {"small": None, "large": None})
    ledger.commit_manifest({"tiers": [cost.to_dict() for cost in costs], "all": all_large(costs).method})
    found = status(ledger.layout.root)
    assert found.state == "finished"
    assert found.costs == tuple(costs)


def committed_at(ledger: Ledger, shard: ShardId, begin_s: float, end_s: float) -> None:
    """A shard of two rows that was answered from ``begin_s`` to ``end_s``, in seconds since the epoch."""
    table, receipt = a_result(shard)
    times = {"started_us": int(begin_s * 1e6), "finished_us": int(end_s * 1e6)}
    ledger.commit_results(table, replace(receipt, **times))
    os.utime(ledger.layout.results(shard), (end_s, end_s))


def routed_run(folder: Path) -> Ledger:
    ledger = a_run(folder)
    for part in range(3):
        touch(ledger.layout.scored(part))
        os.utime(ledger.layout.scored(part), (1000, 1000))
    ledger.commit_routing(a_routing())
    return ledger


def test_the_rate_and_the_time_left_come_from_the_receipts(tmp_path):
    ledger, now = routed_run(tmp_path), time.time()
    committed_at(ledger, ShardId("small", 0), now - 20, now - 10)
    pace = status(ledger.layout.root).pace
    assert pace is not None
    assert (pace.stage, pace.rows_per_second, pace.eta_seconds) == ("generate small", 0.2, 10.0)
    assert 9 < pace.waited_seconds < 120
    assert not pace.stalled
    committed_at(ledger, ShardId("small", 1), now - 10, now - 5)
    pace = status(ledger.layout.root).pace
    assert pace is not None
    assert (pace.stage, pace.rows_per_second, pace.eta_seconds) == ("generate large", None, None)


def test_the_rate_of_scoring_comes_from_the_times_of_its_parts(tmp_path):
    ledger = a_run(tmp_path)
    for part, moment in ((0, 1000), (2, 1004)):
        touch(ledger.layout.scored(part))
        os.utime(ledger.layout.scored(part), (moment, moment))
    pace = status(ledger.layout.root).pace
    assert pace is not None
    assert (pace.stage, pace.rows_per_second, pace.eta_seconds) == ("score", 0.5, 10.0)


def test_a_driver_that_is_gone_is_seen(tmp_path):
    ledger, now = routed_run(tmp_path), time.time()
    committed_at(ledger, ShardId("small", 0), now - 820, now - 720)
    pace = status(ledger.layout.root).pace
    assert pace is not None
    assert pace.stalled
    assert re.fullmatch(r"nothing was committed for 1[2-9]:\d\d; is its driver still there\?", words.waited(pace))


def test_a_watcher_reads_what_is_new_and_writes_nothing(tmp_path):
    ledger = routed_run(tmp_path)
    look = RunLook(*find_run(ledger.layout.root))
    ledger.commit_results(*a_result(ShardId("small", 0)))
    Path(ledger.layout.receipt(ShardId("small", 0))).unlink()
    assert look.look().stages[1].done_units == 1
    assert not Path(ledger.layout.receipt(ShardId("small", 0))).exists()
    for part in range(3):
        Path(ledger.layout.scored(part)).unlink()
    Path(ledger.layout.routing).unlink()
    ledger.commit_results(*a_result(ShardId("large", 0)))
    again = look.look()
    assert [stage.done_units for stage in again.stages] == [3, 1, 1]
    assert [cost.usage.rows for cost in again.costs] == [2, 2]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_watch_ends_with_the_run_and_shows_it(tmp_path, terminal):
    ledger = routed_run(tmp_path)
    look = RunLook(*find_run(ledger.layout.root))
    costs = tier_costs([], {"small": "s", "large": "l"}, {"small": None, "large": None})
    seen: list[str] = []

    def one_shard_further() -> RunStatus:
        found = look.look()
        seen.append(found.state)
        shard = [ShardId("small", 0), ShardId("small", 1)][len(seen) - 1 : len(seen)]
        if shard:
            ledger.commit_results(*a_result(shard[0]))
        else:
            ledger.commit_manifest({"tiers": [cost.to_dict() for cost in costs]})
        return found

    file = io.StringIO()
    follow(one_shard_further, Console(file=file, width=100, force_terminal=terminal, color_system=None), 0.01)
    assert seen == ["unfinished"] * 3 + ["finished"]
    shown = file.getvalue()
    assert shown.count("is finished.") == 1
    if not terminal:
        lines = shown.splitlines()
        assert lines[0].startswith("generate small: 0 of 4 rows, 0 tokens, ")
        assert lines[1].startswith("generate small: 2 of 4 rows, ")
        assert "last commit 0:" in lines[1]
        assert lines[3].endswith(", finished")


def test_a_watch_goes_on_while_the_store_fails_for_a_moment(tmp_path):
    ledger = routed_run(tmp_path)
    costs = tier_costs([], {"small": "s", "large": "l"}, {"small": None, "large": None})
    ledger.commit_manifest({"tiers": [cost.to_dict() for cost in costs]})
    found = status(ledger.layout.root)
    looks = iter([replace(found, state="unfinished"), *[StorageError("slow")] * (FAILED_LOOKS - 1), found])

    def look() -> RunStatus:
        one = next(looks)
        if isinstance(one, StorageError):
            raise one
        return one

    file = io.StringIO()
    follow(look, Console(file=file, width=100), 0.01)
    assert file.getvalue().count("progress unknown: slow") == FAILED_LOOKS - 1
    looks = iter([replace(found, state="unfinished"), *[StorageError("down")] * FAILED_LOOKS])
    with pytest.raises(StorageError, match="down"):
        follow(look, Console(file=io.StringIO()), 0.01)


def test_an_output_folder_shows_its_newest_run(tmp_path):
    old = a_run(tmp_path, name="old", created_at="2026-01-02T00:00:00+00:00")
    new = a_run(tmp_path, name="new", created_at="2026-01-10T00:00:00+00:00")
    touch(f"{new.layout.root}/logs/plan.json")
    assert status(str(tmp_path / "out")).layout == new.layout
    assert status(f"{tmp_path}/out/").layout == new.layout
    assert status(f"file://{old.layout.root}").layout == old.layout


@pytest.mark.parametrize("made", [False, True])
def test_a_folder_without_a_run_is_refused_with_what_to_give(tmp_path, made):
    if made:
        touch(str(tmp_path / "out/runs/night/notes.txt"))
    with pytest.raises(InputError, match=r"out: no run here; give the folder of a run, .*/out/runs/RUN_ID, or"):
        status(str(tmp_path / "out"))


def test_a_run_of_another_version_is_refused(tmp_path):
    ledger = a_run(tmp_path)
    path = Path(ledger.layout.plan)
    text = path.read_text()
    path.write_text(text.replace("hybrid-batch-run/1", "hybrid-batch-run/9"))
    with pytest.raises(RunConflictError, match="the format is 'hybrid-batch-run/9'"):
        status(ledger.layout.root)
    path.write_text(text.replace('"max_num_seqs"', '"most_seqs"'))
    with pytest.raises(RunConflictError, match="another version planned this run"):
        status(ledger.layout.root)


def test_a_retry_does_not_hide_its_run_and_says_whose_it_is(tmp_path):
    run = a_finished_run(tmp_path, 24)
    of = {"run_id": run.layout.run_id, "fingerprint": "0", "errors": ["timeout"]}
    later = replace(run.plan_held, run_id="test-retry-1", identity={"kind": RETRY, "retry_of": of}, created_at="9999")
    output = str(tmp_path / "out")
    Ledger(RunLayout.of(output, later.run_id)).commit_plan(later)
    assert verify(output, Recorder()).layout == run.layout
    found = status(output)
    assert (found.layout.run_id, found.retry_of) == ("test-retry-1", run.layout.run_id)
    console = Console(file=io.StringIO(), width=200)
    console.print(status_view(found, 200))
    head = f"Retry test-retry-1 is unfinished. It asks again for rows of run {run.layout.run_id}."
    assert console.file.getvalue().splitlines()[0] == head


def test_an_output_of_retries_and_labellings_alone_names_them(tmp_path):
    run = LocalRun(tmp_path, 24)
    labels = replace(run.plan_held, run_id="labels-1", identity={"kind": LABELLING})
    Ledger(RunLayout.of(str(tmp_path / "out"), labels.run_id)).commit_plan(labels)
    with pytest.raises(
        InputError, match=r"holds retries and labellings alone; give the folder of one, .*/runs/labels-1 for"
    ):
        verify(str(tmp_path / "out"), Recorder())
