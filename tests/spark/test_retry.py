"""Failed rows of a finished run, asked again: which, where, with what results, and what is left alone."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from hybrid_batch import failed, pipeline, retrying
from hybrid_batch.calibrations import CALIBRATIONS
from hybrid_batch.cli import app
from hybrid_batch.core.errors import InputError, RunConflictError
from hybrid_batch.outcome import RunOutcome
from hybrid_batch.verification import verify
from tests.support.calibrated import GOAL, calibrate_by
from tests.support.jobs import REFUSED_ROWS, Recorder, job_document, load, questions, results_of, save, write_jsonl

ROWS = 120
LONG = tuple(range(10, ROWS, 11))
"""Rows whose prompts are longer than the window of both models."""
CUT = tuple(range(25, ROWS, 11))
"""Rows whose answers must be JSON, and are cut."""
AS_JSON = {"structured_outputs": {"json": {"properties": {"a": {}, "b": {}}}}}
WIDER = ("tiers.small.max_model_len=4096", "tiers.large.max_model_len=4096")
DOCUMENT = (Path(__file__).parents[2] / "docs" / "retry.md").read_text(encoding="utf-8")


def rows_that_fail() -> list[dict[str, Any]]:
    rows = questions(ROWS)
    for number in LONG:
        rows[number]["prompt"] += f" {number}" * 400
    for number in CUT:
        rows[number]["asked"] = AS_JSON
    return [{"asked": None, **row} for row in rows]


def ids(numbers: tuple[int, ...]) -> set[str]:
    return {f"q{number:06d}" for number in numbers}


def failing(document: dict[str, Any], folder: Path) -> dict[str, Any]:
    document["input"]["path"] = str(write_jsonl(folder / "in" / "failing.jsonl", rows_that_fail()))
    document["input"]["columns"]["request"] = "asked"
    document["sampling"]["max_tokens"] = 1
    for tier in ("small", "large"):
        document["tiers"][tier]["max_model_len"] = 128
    return document


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_router: Path) -> tuple[RunOutcome, Path]:
    """A finished run in which rows failed of two kinds, and its configuration."""
    folder = tmp_path_factory.mktemp("failing")
    document = failing(job_document(folder / "unused.jsonl", str(folder / "out"), tiny_router), folder)
    return pipeline.run(load(document, folder), Recorder()), save(document, folder)


def again(root: str, *errors: str, sets: tuple[str, ...] = ()) -> tuple[RunOutcome, Recorder]:
    recorder, found = Recorder(), failed.failures_of(root)
    config = retrying.configured(found.ledger, found.plan, sets)
    return retrying.retry(retrying.Retry(found, failed.chosen(found, errors), config), recorder), recorder


def content(root: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


def by_id(root: str) -> dict[str, dict[str, Any]]:
    return {row["query_id"]: row for row in results_of(root).to_pylist()}


def schema(root: str) -> pa.Schema:
    return pq.read_schema(next(Path(root, "results").rglob("*.parquet"))).remove_metadata()


def call(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, " ".join(result.stdout.split()), result.stderr


def copied(run: tuple[RunOutcome, Path], folder: Path) -> Path:
    """The run in another output, where its rows can be removed."""
    return Path(shutil.copytree(run[0].layout.root, folder / "out" / "runs" / run[0].layout.run_id))


def remove_routed(root: Path) -> None:
    for path in (root / "routed").rglob("shard-*.parquet"):
        path.unlink()


def test_rows_of_one_kind_are_answered_again_in_their_tiers(run):
    outcome, _ = run
    root = outcome.layout.root
    before, first = content(root), by_id(root)
    assert {first[name]["tier"] for name in ids(LONG)} == {"small", "large"}
    done, recorder = again(root, "context_overflow", sets=WIDER)
    second = by_id(done.layout.root)

    assert content(root) == before
    assert second.keys() == ids(LONG)
    for name, row in second.items():
        assert {key: row[key] for key in ("tier", "score", "tenant")} == {
            key: first[name][key] for key in ("tier", "score", "tenant")
        }
        assert (row["error_kind"], row["completion_tokens"]) == (None, 1)
        assert row["text"]
    assert schema(done.layout.root) == schema(root)
    assert verify(done.layout.root, Recorder()).proved
    assert done.manifest["retry_of"] == {
        "run_id": outcome.layout.run_id,
        "fingerprint": outcome.manifest["fingerprint"],
        "errors": ["context_overflow"],
    }
    assert re.fullmatch(r"test-retry-[0-9a-f]{12}", done.layout.run_id)
    assert f"retry {done.layout.run_id} of run {outcome.layout.run_id}: {len(LONG)} context_overflow" in recorder.notes
    assert sum(cost.usage.prompt_tokens for cost in done.costs) == sum(row["prompt_tokens"] for row in second.values())
    assert done.manifest["scored_by"] == {next(iter(outcome.manifest["scored_by"])): 1}


def test_the_same_retry_again_does_nothing_and_a_hole_is_filled(run):
    outcome, _ = run
    root = outcome.layout.root
    first, _ = again(root, "context_overflow", sets=WIDER)
    before, whole = content(first.layout.root), by_id(first.layout.root)
    second, recorder = again(root, "context_overflow", sets=WIDER)
    assert (second.already_finished, recorder.seen, content(first.layout.root)) == (True, [], before)

    for path in before:
        if any(part in path for part in ("/manifest.json", "/results/", "/receipts/", "/routed/tier=small")):
            Path(path).unlink()
    assert pipeline.status(first.layout.root).stages[0].name == "collect"
    third, _ = again(root, "context_overflow", sets=WIDER)
    assert not third.already_finished
    drop = {"latency_seconds": 0}
    assert {name: row | drop for name, row in by_id(first.layout.root).items()} == {
        name: row | drop for name, row in whole.items()
    }


def test_kinds_that_have_no_rows_make_no_other_retry(run):
    root = run[0].layout.root
    found = failed.failures_of(root)
    config = retrying.configured(found.ledger, found.plan, WIDER)
    one, more, other = (
        retrying.draft_plan(retrying.Retry(found, failed.chosen(found, errors), config))
        for errors in (["context_overflow"], ["passing", "context_overflow"], ["context_overflow", "invalid_json"])
    )
    assert (more.run_id, more.identity) == (one.run_id, one.identity)
    assert one.retry_of["errors"] == ["context_overflow"]
    assert other.run_id != one.run_id


def test_other_kinds_and_other_limits_are_other_retries(run):
    outcome, _ = run
    root = outcome.layout.root
    kept, _ = again(root, "invalid_json")
    healed, _ = again(root, "invalid_json", sets=("sampling.max_tokens=64",))
    both, _ = again(root, "invalid_json", "context_overflow", sets=("sampling.max_tokens=64", *WIDER))

    assert len({kept.layout.root, healed.layout.root, both.layout.root}) == 3
    assert kept.manifest["errors"] == {"invalid_json": len(CUT)}
    answers = by_id(healed.layout.root)
    assert answers.keys() == ids(CUT)
    assert all(json.loads(row["text"]).keys() == {"a", "b"} for row in answers.values())
    assert by_id(both.layout.root).keys() == ids(CUT) | ids(LONG)
    assert both.manifest["failed_rows"] == 0


def test_rows_that_failed_again_can_be_asked_a_third_time_with_their_places(run):
    outcome, _ = run
    again_failed, _ = again(outcome.layout.root, "invalid_json", sets=("sampling.temperature=0.5",))
    third, _ = again(again_failed.layout.root, "invalid_json", sets=("sampling.max_tokens=64",))

    assert third.manifest["retry_of"]["run_id"] == again_failed.layout.run_id
    assert re.fullmatch(r"test-retry-[0-9a-f]{12}", third.layout.run_id)
    assert by_id(third.layout.root).keys() == ids(CUT)
    letters = pq.read_table(again_failed.layout.dead_letters_folder).to_pylist()
    first = pq.read_table(outcome.layout.dead_letters_folder).filter(pc.field("error_kind") == "invalid_json")
    places = ("query_id", "source_file", "source_row", "request", "prompt")
    assert sorted([row[name] for name in places] for row in letters) == sorted(
        [row[name] for name in places] for row in first.to_pylist()
    )


def test_the_newest_run_of_an_output_is_no_retry(run):
    outcome, _ = run
    done, _ = again(outcome.layout.root, "context_overflow", sets=WIDER)
    output = str(Path(outcome.layout.root).parents[1])
    assert pipeline.status(output).layout.root != outcome.layout.root
    assert failed.failures_of(output).plan.run_id == outcome.layout.run_id
    assert again(output, "context_overflow", sets=WIDER)[0].layout == done.layout


def test_both_results_are_read_together_as_the_document_says(run, spark):
    outcome, _ = run
    root = outcome.layout.root
    done, _ = again(root, "context_overflow", sets=WIDER)
    duck, sparks = re.findall(r"^```sql\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    queries = [text.replace("RUN/", f"{root}/").replace("RETRY/", f"{done.layout.root}/") for text in (duck, sparks)]
    expected = by_id(root) | by_id(done.layout.root)

    found = duckdb.sql(queries[0]).arrow().read_all()
    assert found.schema.names == results_of(root).schema.names
    assert {row["query_id"]: row for row in found.to_pylist()} == expected
    rows = spark.sql(queries[1]).select("query_id", "text", "error_kind").collect()
    assert {row["query_id"]: (row["text"], row["error_kind"]) for row in rows} == {
        name: (row["text"], row["error_kind"]) for name, row in expected.items()
    }
    assert len(rows) == found.num_rows == ROWS
    assert sum(row["error_kind"] is not None for row in rows) == len(CUT) + REFUSED_ROWS


def test_rows_go_by_the_thresholds_of_their_groups(document, run_job, tiny_router, tmp_path):
    router = shutil.copytree(tiny_router, tmp_path / "router", ignore=shutil.ignore_patterns(CALIBRATIONS))
    calibrate_by("tenant", router, {"t0": 0, "t1": 1_000_000})
    document = failing(document, tmp_path)
    document["router"]["path"] = str(router)
    document["policy"] = {**GOAL, "by": "tenant"}
    outcome, _ = run_job(document)
    done, _ = again(outcome.layout.root, "context_overflow", "invalid_json", sets=("sampling.max_tokens=64", *WIDER))

    first, second = by_id(outcome.layout.root), by_id(done.layout.root)
    assert {row["tenant"]: row["tier"] for row in second.values()} == {"t0": "small", "t1": "large", "t2": "large"}
    assert all(row["tier"] == first[name]["tier"] for name, row in second.items())
    assert done.groups == outcome.groups


def test_chats_of_a_batch_file_come_through_and_out_again(document, run_job, tmp_path):
    texts = {
        f"b-{number}": f"Question {number}?" + f" {number}" * (200 if number % 4 == 0 else 1) for number in range(24)
    }
    turns = {
        name: [{"role": "system", "content": "Be brief."}, {"role": "user", "content": texts[name]}] for name in texts
    }
    lines = [{"custom_id": name, "body": {"messages": turns[name], "max_tokens": 5}} for name in texts]
    document["input"] = {"path": str(write_jsonl(tmp_path / "in" / "batch.jsonl", lines)), "format": "openai-batch"}
    for tier in ("small", "large"):
        document["tiers"][tier]["max_model_len"] = 128
    outcome, _ = run_job(document)
    done, _ = again(outcome.layout.root, "context_overflow", sets=WIDER)

    written = Path(done.layout.batch_folder).glob("*.jsonl")
    found = {line["custom_id"]: line["response"]["body"] for path in written for line in map(json.loads, path.open())}
    assert found.keys() == {f"b-{number}" for number in range(0, 24, 4)}
    assert {body["usage"]["prompt_tokens"] for body in found.values()} == {2 + 3 + 2 + 200 + 3}
    assert max(body["usage"]["completion_tokens"] for body in found.values()) <= 5


def test_without_kinds_the_command_lists_them(run):
    outcome, _ = run
    before = content(str(Path(outcome.layout.root).parents[1]))
    code, out, err = call("retry", outcome.layout.root)
    assert (code, err) == (0, "")
    assert f"{len(CUT)} invalid_json --errors invalid_json" in out
    assert f"{len(LONG)} context_overflow --errors context_overflow" in out
    assert "1 null_prompt refused before a model saw it" in out
    assert content(str(Path(outcome.layout.root).parents[1])) == before


def test_an_unknown_kind_is_refused_with_those_that_occur(run):
    root = run[0].layout.root
    code, _, err = call("retry", root, "--errors", "invalid_jsom")
    assert code == 2
    assert err == (
        f"error: --errors invalid_jsom: is no kind of error; did you mean invalid_json? Rows of run "
        f"{run[0].layout.run_id} that can be asked again: {len(LONG)} context_overflow, {len(CUT)} invalid_json. "
        "Refused unseen: 1 empty_prompt, 1 null_prompt.\n"
    )
    code, _, err = call("retry", root, "--errors", "null_prompt")
    assert code == 2
    assert err.startswith("error: --errors null_prompt: these rows were refused before any model saw them")


def test_a_kind_without_rows_is_nothing_to_do(run):
    root = run[0].layout.root
    for arguments in (["--errors", "timeout"], ["--errors", "passing"]):
        code, out, err = call("retry", root, *arguments)
        assert (code, out) == (0, "")
        assert "nothing to do: no row failed with" in err


def test_the_command_answers_them_and_keeps_its_exit_code(run):
    root = run[0].layout.root
    code, _, err = call("retry", root, "--errors", "context_overflow", "--dry-run", "--set", "sampling.seed=3")
    assert (code, f"would ask again for {len(LONG)} context_overflow" in err, "would start test-retry-" in err) == (
        0,
        True,
        True,
    )
    code, out, err = call("retry", root, "--errors", "invalid_json", "--set", "run.max_error_rate=0.5")
    assert code == 4
    assert f"0 of {len(CUT)} rows that had failed in run {run[0].layout.run_id} have an answer." in out
    assert f"{len(CUT)} of {len(CUT)} rows failed (100.0%), allowed by run.max_error_rate are 50.0%" in err


def test_a_run_without_its_routed_rows_is_refused(run, tmp_path):
    copy = copied(run, tmp_path)
    remove_routed(copy)
    code, _, err = call("retry", str(copy), "--errors", "context_overflow")
    assert code == 2
    assert re.search(rf"^error: {copy}/routed: (\d+) of \1 shards were removed", err, re.MULTILINE)
    assert not list(copy.parent.glob("test-retry-*"))


def test_a_finished_retry_is_found_finished_without_the_routed_rows(run, tmp_path):
    root = copied(run, tmp_path)
    first, _ = again(str(root), "context_overflow", sets=WIDER)
    remove_routed(root)
    before = content(first.layout.root)
    second, recorder = again(str(root), "context_overflow", sets=WIDER)
    assert (second.layout, second.already_finished) == (first.layout, True)
    assert (recorder.seen, content(first.layout.root)) == ([], before)
    sets = [argument for setting in WIDER for argument in ("--set", setting)]
    code, _, err = call("retry", str(root), "--errors", "context_overflow", *sets, "--dry-run")
    assert (code, "is finished already: nothing would be done" in err) == (0, True)


def test_an_interrupted_retry_needs_the_routed_rows_of_parts_that_are_missing_alone(run, tmp_path):
    root = copied(run, tmp_path)
    # Parts as small as shards, so that there is more than one.
    sets = (*WIDER, "shards.rows=4")
    first, _ = again(str(root), "context_overflow", sets=sets)
    whole = by_id(first.layout.root)
    retry = Path(first.layout.root)
    parts = sorted((retry / "scored").iterdir())
    assert len(parts) > 1

    def interrupted() -> None:
        for name in ("manifest.json", "results/_SUCCESS"):
            (retry / name).unlink()
        for folder in ("results", "receipts", "routed", "dead_letters"):
            shutil.rmtree(retry / folder, ignore_errors=True)

    interrupted()
    remove_routed(root)
    second, _ = again(str(root), "context_overflow", sets=sets)
    assert (second.layout, second.already_finished) == (first.layout, False)
    drop = {"latency_seconds": 0}
    assert {name: row | drop for name, row in by_id(first.layout.root).items()} == {
        name: row | drop for name, row in whole.items()
    }

    interrupted()
    parts[-1].unlink()
    with pytest.raises(InputError, match=rf"^{root}/routed: (\d+) of \1 shards were removed"):
        again(str(root), "context_overflow", sets=sets)


def test_an_unfinished_run_is_not_retried(document, tmp_path):
    config = load(failing(document, tmp_path), tmp_path)
    part = pipeline.run_part(config, Recorder(), shards=1)
    with pytest.raises(RunConflictError, match="this run is not finished; finish it by the command that started it"):
        failed.failures_of(part.layout.root)
