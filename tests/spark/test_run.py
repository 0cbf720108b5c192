"""The whole path on real Spark: every query answered once, by the tier that the policy says."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hybrid_batch import pipeline
from hybrid_batch.core.cost import ALL_LARGE_BY_QUERIES, ALL_LARGE_BY_TOKENS
from hybrid_batch.core.errors import InputError, RowErrorRateError
from hybrid_batch.core.records import ShardId
from hybrid_batch.engines.base import EndpointRecipe, Sampling
from hybrid_batch.engines.router import load_router
from hybrid_batch.ledger import Ledger
from hybrid_batch.spark.tasks import GenerateTask
from hybrid_batch.tables import COST, DEAD_LETTERS, RESULTS, SCORED
from tests.support.jobs import REFUSED_ROWS, load, questions, results_of, write_jsonl, write_parquet

ROWS = 120


def test_every_query_has_one_result_in_the_tier_that_its_score_says(finished, tiny_router):
    outcome, recorder, _ = finished
    root = outcome.layout.root
    results = results_of(root)
    by_id = {row["query_id"]: row for row in results.to_pylist()}
    asked = questions(ROWS)

    assert results.num_rows == ROWS
    assert set(by_id) == {row["query_id"] for row in asked}
    assert results.schema.names == [*RESULTS.names, "tenant"]
    assert all(by_id[row["query_id"]]["tenant"] == row["tenant"] for row in asked)

    answerable = [row for row in asked if (row["prompt"] or "").strip()]
    scores = load_router(tiny_router).score([row["prompt"] for row in answerable])
    for row, score in zip(answerable, scores, strict=True):
        result = by_id[row["query_id"]]
        assert result["score"] == pytest.approx(score, abs=2e-6)
        assert result["tier"] == ("small" if result["score"] >= outcome.threshold else "large")
        assert result["text"]
        assert result["error_kind"] is None
    assert outcome.cost_advantage <= 0.40
    assert recorder.seen[-1].done_rows == recorder.seen[-1].total_rows


def test_refused_rows_have_results_and_dead_letters_that_name_their_place(finished):
    outcome, _, document = finished
    rejected = results_of(outcome.layout.root).filter(pc.field("tier") == "rejected").to_pylist()
    letters = pq.read_table(outcome.layout.dead_letters_folder)

    assert sorted(row["error_kind"] for row in rejected) == ["empty_prompt", "null_prompt"]
    assert letters.schema.names == DEAD_LETTERS.names
    assert {row["source_row"] for row in letters.to_pylist()} == {7, 9}
    assert letters["source_file"].to_pylist() == [document["input"]["path"]] * REFUSED_ROWS
    assert outcome.rejected_rows == outcome.manifest["failed_rows"] == REFUSED_ROWS


def test_the_cost_report_adds_up_to_results_and_receipts(finished):
    outcome, _, _ = finished
    report = duckdb.sql(f"select * from '{outcome.layout.cost_report}'").arrow().read_all().to_pylist()
    sums = duckdb.sql(
        f"select tier, count(*) n, sum(prompt_tokens) p, sum(completion_tokens) c "
        f"from '{outcome.layout.results_folder}/*/*.parquet' where tier <> 'rejected' group by tier"
    ).fetchall()

    assert [field.name for field in COST] == list(report[0])
    assert {(row["tier"], row["queries"], row["prompt_tokens"], row["completion_tokens"]) for row in report} == {
        tuple(row) for row in sums
    }
    assert all(row["usd"] > 0 and row["load_seconds"] > 0 for row in report)
    assert sum((row["usd"] for row in report), Decimal(0)) == report[0]["run_usd"]
    assert report[0]["all_large_method"] in (ALL_LARGE_BY_QUERIES, ALL_LARGE_BY_TOKENS)
    assert Path(outcome.layout.html_report).read_text().startswith("<!DOCTYPE html>")


def test_the_same_command_again_does_nothing(finished, run_job):
    first, _, document = finished
    before = {path: path.stat().st_mtime_ns for path in Path(first.layout.root).rglob("*") if path.is_file()}
    second, recorder = run_job(document)
    after = {path: path.stat().st_mtime_ns for path in Path(first.layout.root).rglob("*") if path.is_file()}

    assert second.already_finished
    assert second.costs == first.costs
    assert before == after
    assert recorder.seen == []


def test_a_shard_that_somebody_has_done_meanwhile_is_not_asked_for(finished):
    outcome, _, _ = finished
    shards = sorted(Ledger(outcome.layout).committed())
    nobody = EndpointRecipe(tier="large", model="none", base_url="http://127.0.0.1:9/v1", retry_budget_s=0.0)
    task = GenerateTask(outcome.layout, shards, nobody, Sampling(max_tokens=8), None)
    rows = {ShardId(tier, number): rows for tier, number, rows in outcome.manifest["shards"]}

    told = [done for unit in range(len(shards)) for batch in task(unit) for done in batch.to_pylist()]
    assert [(done["committed"], done["rows"]) for done in told] == [(False, rows[shard]) for shard in shards]


def test_a_run_with_holes_is_filled_and_nothing_else_is_touched(document, run_job):
    first, _ = run_job(document)
    root = Path(first.layout.root)
    whole = sorted(results_of(str(root)).to_pylist(), key=lambda row: row["query_id"])
    holes = [
        root / "manifest.json",
        root / "results/tier=small/shard-000001.parquet",
        root / "receipts/tier=small/shard-000001.json",
        root / "results/tier=large/shard-000000.parquet",
        root / "receipts/tier=large/shard-000000.json",
        root / "receipts/tier=large/shard-000002.json",
        root / "routed/tier=large/shard-000000.parquet",
    ]
    for path in holes:
        path.unlink()
    status = pipeline.status(str(root))
    kept = {path: path.stat().st_mtime_ns for path in (root / "results").rglob("*.parquet")}
    second, recorder = run_job(document)

    again = sorted(results_of(str(root)).to_pylist(), key=lambda row: row["query_id"])
    drop = "latency_seconds"
    assert [row | {drop: 0} for row in again] == [row | {drop: 0} for row in whole]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert status.state == "unfinished"
    assert {stage.name: stage.planned_units - stage.done_units for stage in status.stages} == {
        "score": 0,
        "generate small": 1,
        "generate large": 1,
        "generate rejected": 0,
    }
    assert status.errors == {"empty_prompt": 1, "null_prompt": 1}
    assert pipeline.status(document["run"]["output"]).state == "finished"
    assert not second.already_finished
    assert all(path.exists() for path in holes)
    assert recorder.seen[0].stage == "generate small"
    assert recorder.seen[0].done_rows == recorder.seen[0].rows_before > 0


def test_shards_do_not_depend_on_how_the_input_is_cut(document, run_job, tmp_path):
    rows = questions(ROWS)
    for name, split in (("one", 10_000), ("many", 32)):
        path = write_parquet(tmp_path / name / "q.parquet", rows, row_group=32)
        document["input"] |= {"path": str(path), "format": "parquet", "rows_per_split": split}
        document["run"]["output"] = str(tmp_path / f"out-{name}")
        outcome, _ = run_job(document)
        shards = sorted(Path(outcome.layout.routed_folder).rglob("shard-*.parquet"))
        content = [pq.read_table(shard).drop_columns(["source_file"]).to_pylist() for shard in shards]
        parts = len(list(Path(outcome.layout.scored_folder).iterdir()))
        if name == "one":
            assert parts == 1
            expected = content
    assert parts > 1
    assert content == expected
    assert pq.read_schema(shards[0]).names == [*SCORED.names, "tenant"]


def test_chat_turns_reach_the_model_and_a_broken_chat_is_refused_alone(document, run_job, tmp_path):
    rows = [
        {"query_id": "a", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi?"}]},
        {"query_id": "b", "messages": [{"role": "wizard", "content": "Hi?"}]},
        {"query_id": "c", "messages": [{"role": "user", "content": "Hi?"}]},
    ]
    document["input"] = {
        "path": str(write_jsonl(tmp_path / "chats.jsonl", rows)),
        "format": "jsonl",
        "columns": {"id": "query_id", "messages": "messages"},
    }
    outcome, _ = run_job(document)
    found = {row["query_id"]: row for row in results_of(outcome.layout.root).to_pylist()}

    assert found["b"]["error_kind"] == "invalid_messages"
    assert "wizard" in found["b"]["error_message"]
    assert found["a"]["prompt_tokens"] > found["c"]["prompt_tokens"] > 0


def test_an_engine_that_dies_in_the_middle_loses_no_row(document, run_job):
    for tier in ("small", "large"):
        document["tiers"][tier]["engine_args"]["die_after"] = 30
    outcome, _ = run_job(document)
    results = results_of(outcome.layout.root)

    assert results.num_rows == len(set(results["query_id"].to_pylist())) == ROWS
    assert outcome.manifest["failed_rows"] == REFUSED_ROWS
    assert sum(cost.time.engines for cost in outcome.costs) > 2


def test_an_engine_that_hangs_is_replaced_and_loses_no_row(document, run_job):
    document["tiers"]["large"] |= {"request_timeout_s": 3}
    document["tiers"]["large"]["engine_args"]["hang_after"] = 40
    outcome, _ = run_job(document)
    results = results_of(outcome.layout.root)

    assert results.num_rows == len(set(results["query_id"].to_pylist())) == ROWS
    assert outcome.manifest["failed_rows"] == REFUSED_ROWS
    assert next(cost for cost in outcome.costs if cost.tier == "large").time.engines > 1


def test_rows_that_kill_the_engine_are_given_up_and_the_others_are_answered(document, run_job, tmp_path):
    rows = questions(ROWS)
    for number in (50, 110):
        rows[number]["prompt"] += " XYZZY"
    document["input"]["path"] = str(write_jsonl(tmp_path / "poison.jsonl", rows))
    for tier in ("small", "large"):
        document["tiers"][tier]["engine_args"]["die_on"] = "XYZZY"
    outcome, _ = run_job(document)
    results = results_of(outcome.layout.root)
    failed = [row for row in results.to_pylist() if row["tier"] != "rejected" and row["error_kind"]]

    assert results.num_rows == len(set(results["query_id"].to_pylist())) == ROWS
    assert {row["query_id"]: row["error_kind"] for row in failed} == {
        rows[number]["query_id"]: "engine_killed" for number in (50, 110)
    }
    assert all("engines died while they answered this row" in row["error_message"] for row in failed)


def test_identical_requests_are_answered_once_wherever_they_stand(document, run_job, tmp_path):
    rows = [{**row, "prompt": f"Question {n % 20}?"} for n, row in enumerate(questions(ROWS))]
    document["input"]["path"] = str(write_jsonl(tmp_path / "repeated.jsonl", rows))
    document["policy"] = {"threshold": 0.0}
    outcome, _ = run_job(document)
    results = results_of(outcome.layout.root)

    own = {row["query_id"]: row for row in results.to_pylist() if row["answered_by"] is None}
    prompts = {row["query_id"]: row["prompt"] for row in rows}
    assert sorted(prompts[name] for name in own) == sorted({row["prompt"] for row in rows})
    for row in results.to_pylist():
        answer = own[row["answered_by"] or row["query_id"]]
        assert (row["text"], prompts[row["query_id"]]) == (answer["text"], prompts[answer["query_id"]])
    small = next(cost for cost in outcome.costs if cost.tier == "small")
    assert small.usage.shared_rows == ROWS - 20
    assert small.usage.prompt_tokens == sum(row["prompt_tokens"] for row in own.values())


def test_a_prompt_longer_than_the_window_fails_alone(document, run_job, tmp_path):
    rows = questions(ROWS)
    rows[50]["prompt"] = "word " * 400
    document["input"]["path"] = str(write_jsonl(tmp_path / "long.jsonl", rows))
    for tier in ("small", "large"):
        document["tiers"][tier]["max_model_len"] = 128
    outcome, _ = run_job(document)
    failed = [
        row for row in results_of(outcome.layout.root).to_pylist() if row["tier"] != "rejected" and not row["text"]
    ]

    assert [(row["query_id"], row["error_kind"]) for row in failed] == [(rows[50]["query_id"], "context_overflow")]
    assert outcome.manifest["errors"]["context_overflow"] == 1


def test_a_doubled_id_is_refused_before_anything_is_scored(document, run_job, tmp_path):
    rows = questions(ROWS)
    rows[100]["query_id"] = rows[3]["query_id"]
    document["input"]["path"] = str(write_jsonl(tmp_path / "doubled.jsonl", rows))
    with pytest.raises(InputError, match=r"'query_id': 1 ids stand there more than once.*row 3 and .*row 100"):
        run_job(document)
    assert not list(Path(document["run"]["output"]).rglob("part-*"))


def test_a_null_id_is_refused_with_its_row(document, run_job, tmp_path):
    rows = questions(ROWS)
    rows[5]["query_id"] = None
    document["input"] |= {"path": str(write_parquet(tmp_path / "null.parquet", rows)), "format": "parquet"}
    with pytest.raises(InputError, match=r"null\.parquet: column 'query_id', row 5: the id is null"):
        run_job(document)


def test_too_many_failed_rows_are_an_error_after_everything_is_committed(finished):
    outcome, _, _ = finished
    pipeline.check_error_rate(outcome, max_error_rate=0.05)
    with pytest.raises(RowErrorRateError, match=r"2 of 120 rows failed \(1\.7%\), allowed"):
        pipeline.check_error_rate(outcome, max_error_rate=0.01)


def test_a_dry_run_writes_nothing(document, tmp_path):
    from tests.support.jobs import Recorder

    recorder = Recorder()
    pipeline.dry_run(load(document, tmp_path, ["input.limit=50"]), recorder)
    assert any("would read 50 queries" in note for note in recorder.notes)
    assert not [path for path in Path(document["run"]["output"]).rglob("*") if path.is_file()]


def test_the_plan_holds_the_identity_and_no_secret(document, run_job):
    document["tiers"]["small"]["env"] = {"SOME_TOKEN": "hunter2-hunter2"}
    outcome, _ = run_job(document)
    plan = json.loads(Path(outcome.layout.plan).read_text())

    assert plan["identity"]["policy"] == {"small_share": 0.40}
    assert plan["run_id"] == outcome.layout.run_id
    everything = b"".join(path.read_bytes() for path in Path(document["run"]["output"]).rglob("*") if path.is_file())
    assert b"hunter2" not in everything
