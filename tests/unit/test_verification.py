"""A run that is whole is proved; whatever is broken in it is found, and named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from hybrid_batch.core.errors import InputError, StorageError
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.proof import OK, WARN
from hybrid_batch.core.records import ShardId
from hybrid_batch.ledger import RECEIPT_KEY
from hybrid_batch.parquet import from_parquet
from hybrid_batch.verification import verify
from tests.support.jobs import Recorder
from tests.support.local_runs import LocalRun, a_finished_run, flipped, manifest_of
from tests.support.proofs import copy_of, edit_json, edit_parquet, levels, prove, set_column, wrong

ROWS = 60
SMALL_0 = ShardId("small", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> LocalRun:
    """A finished run for all tests of this module; each breaks a copy."""
    return a_finished_run(tmp_path_factory.mktemp("whole"), ROWS)


@pytest.fixture
def layout(whole: LocalRun, tmp_path: Path) -> RunLayout:
    """A copy of the finished run."""
    return copy_of(whole, tmp_path)


def test_a_whole_run_is_proved_with_its_figures(whole):
    proof, manifest = prove(whole.layout), manifest_of(whole.layout)
    assert proof.proved
    assert proof.finished
    assert set(levels(proof).values()) == {OK}
    told = {check.name: check.told for check in proof.checks}
    shards = len(whole.routing.shards)
    assert told["scored table"] == f"{ROWS} ids in 4 of 4 parts, none twice"
    assert told["routed shards"].startswith(
        f"{ROWS} ids in {shards} of {shards} shards = ids of the scored table; small"
    )
    assert f"{manifest['prompt_tokens']:,} prompt, {manifest['completion_tokens']:,} completion" in told["receipts"]
    assert told["dead letters"] == f"{manifest['failed_rows']} rows = failed rows of the results"
    assert manifest["usd"] in told["costs"]


def test_nothing_is_written_by_a_verification(layout):
    before = {path: path.stat().st_mtime_ns for path in Path(layout.root).rglob("*")}
    Path(layout.receipt(SMALL_0)).unlink()
    prove(layout)
    after = {path: path.stat().st_mtime_ns for path in Path(layout.root).rglob("*")}
    folder = Path(layout.receipt(SMALL_0)).parent
    assert before.keys() - after.keys() == {Path(layout.receipt(SMALL_0))}
    assert {path for path in after if before[path] != after[path]} == {folder}


def drop_row(table: pa.Table) -> pa.Table:
    return table.slice(1)


def without_receipt(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata({})


def other_receipt(table: pa.Table) -> pa.Table:
    receipt = json.loads(table.schema.metadata[RECEIPT_KEY.encode()])
    receipt["usage"]["completion_tokens"] += 1
    return table.replace_schema_metadata({RECEIPT_KEY: json.dumps(receipt)})


BROKEN = {
    "a result is gone": (
        lambda run: Path(run.results(SMALL_0)).unlink(),
        {"results": "results/tier=small/shard-000000.parquet: is missing"},
    ),
    "a result is cut": (
        lambda run: Path(run.results(SMALL_0)).write_bytes(Path(run.results(SMALL_0)).read_bytes()[:-9]),
        {"results": "results/tier=small/shard-000000.parquet: cannot be read: "},
    ),
    "a result is no Parquet": (
        lambda run: Path(run.results(SMALL_0)).write_text("answers"),
        {"results": "results/tier=small/shard-000000.parquet: cannot be read: "},
    ),
    "a row of a result is gone": (
        lambda run: edit_parquet(run.results(SMALL_0), drop_row),
        {"results": "row 0 is '", "receipts": "its receipt says"},
    ),
    "an id of a result is another": (
        lambda run: edit_parquet(run.results(SMALL_0), set_column("query_id", 2, "stranger")),
        {"results": "row 2 is 'stranger', the routed shard has '"},
    ),
    "tokens of a row are others": (
        lambda run: edit_parquet(run.results(SMALL_0), set_column("prompt_tokens", 0, 99)),
        {"receipts": "prompt_tokens, its rows come to"},
    ),
    "a row is of another tier": (
        lambda run: edit_parquet(run.results(SMALL_0), set_column("tier", 0, "large")),
        {"receipts": "it has rows of the tier large"},
    ),
    "a failure is hidden": (
        lambda run: edit_parquet(run.results(SMALL_0), set_column("error_kind", 3, None)),
        {"receipts": "failed_rows, its rows come to", "dead letters": "its 1 rows are not the 0 failed ones"},
    ),
    "an end is called another": (
        lambda run: edit_parquet(run.results(SMALL_0), set_column("finish_reason", 0, "stop")),
        {"receipts": "its receipt says finish_reason {"},
    ),
    "a result has lost its receipt": (
        lambda run: edit_parquet(run.results(SMALL_0), without_receipt),
        {"results": "it carries no receipt"},
    ),
    "a receipt says more": (
        lambda run: edit_parquet(run.results(SMALL_0), other_receipt),
        {
            "receipts": "is not the receipt that its results carry",
            "manifest": "completion_tokens is",
            "costs": "tier small",
        },
    ),
    "a copy of a receipt says otherwise": (
        lambda run: edit_json(run.receipt(SMALL_0), engine_id="another"),
        {"receipts": "receipts/tier=small/shard-000000.json: is not the receipt that its results carry"},
    ),
    "a copy of a receipt is no JSON": (
        lambda run: Path(run.receipt(SMALL_0)).write_text("{"),
        {"receipts": "receipts/tier=small/shard-000000.json: cannot be read: "},
    ),
    "dead letters are gone": (
        lambda run: Path(run.dead_letters(SMALL_0)).unlink(),
        {"dead letters": "dead_letters/tier=small/shard-000000.parquet: is missing, 1 rows failed"},
    ),
    "dead letters are of another row": (
        lambda run: edit_parquet(run.dead_letters(SMALL_0), set_column("query_id", 0, "stranger")),
        {"dead letters": "its 1 rows are not the 1 failed ones"},
    ),
    "the manifest counts other rows": (
        lambda run: edit_json(run.manifest, rows=ROWS + 1),
        {"manifest": f"manifest.json: rows is {ROWS + 1}, receipts come to {ROWS}"},
    ),
    "the manifest tells other errors": (
        lambda run: edit_json(run.manifest, errors={}),
        {"manifest": "manifest.json: errors is {}, receipts come to {"},
    ),
    "the manifest knows other shards": (
        lambda run: edit_json(run.manifest, shards=[]),
        {"manifest": "manifest.json: its shards with their rows are not those of the receipts"},
    ),
    "the manifest is of another plan": (
        lambda run: edit_json(run.manifest, fingerprint="0"),
        {"manifest": "manifest.json: fingerprint is '0'"},
    ),
    "the manifest is nothing": (
        lambda run: Path(run.manifest).write_text("{}"),
        {"manifest": "manifest.json: is not a manifest that this version can read"},
    ),
    "the manifest tells other money": (
        lambda run: edit_json(run.manifest, usd="1.5"),
        {"costs": "manifest.json: usd is 1.5, receipts come to"},
    ),
    "the cost report is gone": (
        lambda run: Path(run.cost_report).unlink(),
        {"costs": "reports/cost.parquet: is missing"},
    ),
    "the report is gone": (
        lambda run: Path(run.html_report).unlink(),
        {"costs": "reports/report.html: is missing"},
    ),
    "the cost report tells other tokens": (
        lambda run: edit_parquet(run.cost_report, set_column("prompt_tokens", 1, 5)),
        {"costs": "reports/cost.parquet: tier large: prompt_tokens is 5, the manifest comes to"},
    ),
    "a scored part is cut": (
        lambda run: Path(run.scored(1)).write_bytes(Path(run.scored(1)).read_bytes()[:100]),
        {"scored table": "scored/part-00001.parquet: cannot be read: "},
    ),
    "a scored part is short": (
        lambda run: edit_parquet(run.scored(1), drop_row),
        {"scored table": "rows of", "routed shards": "is not in the scored table as often as here"},
    ),
    "a routed shard is cut": (
        lambda run: Path(run.routed(SMALL_0)).write_bytes(Path(run.routed(SMALL_0)).read_bytes()[:100]),
        {"routed shards": "routed/tier=small/shard-000000.parquet: cannot be read: "},
    ),
    "a result that nobody planned": (
        lambda run: shutil.copy(run.results(SMALL_0), run.results(ShardId("small", 900))),
        {"results": "results/tier=small/shard-000900.parquet: is no result of this run, and readers of the folder"},
    ),
    "the plan is another's": (
        lambda run: edit_json(run.plan, identity={"answer": 2}),
        {"plan": "plan.json: its identity is not that of run"},
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found_and_named(layout, what):
    break_it, expected = BROKEN[what]
    break_it(layout)
    proof = prove(layout)
    found = wrong(proof)
    assert not proof.proved
    assert found.keys() == expected.keys()
    for check, words in expected.items():
        assert any(words in problem for problem in found[check]), found[check]


def test_one_flipped_byte_of_an_answer_is_found(layout):
    path = Path(layout.results(SMALL_0))
    path.write_bytes(flipped(path.read_bytes(), "text"))
    assert "shard-000000.parquet: cannot be read: " in wrong(prove(layout))["results"][0]


def test_ids_that_are_lost_or_doubled_are_named_with_their_places(layout):
    first = from_parquet(Path(layout.scored(0)).read_bytes())["query_id"].to_pylist()
    edit_parquet(layout.scored(1), set_column("query_id", 4, first[2]))
    found = wrong(prove(layout))
    doubled = f"id {first[2]!r} stands more than once: scored/part-00000.parquet row 2, scored/part-00001.parquet row 4"
    assert doubled in found["scored table"]
    assert any(
        f"id {first[2]!r} is not in the routed shards as often as here" in text for text in found["routed shards"]
    )
    assert any("is not in the scored table as often as here: routed/tier=" in text for text in found["routed shards"])


def test_a_row_that_two_shards_answer_is_found_without_the_scored_table(layout):
    shutil.rmtree(layout.scored_folder)
    shutil.rmtree(Path(layout.routed(SMALL_0)).parent)
    large = from_parquet(Path(layout.results(ShardId("large", 0))).read_bytes())["query_id"][1].as_py()
    edit_parquet(layout.results(SMALL_0), set_column("query_id", 1, large))
    assert f"id {large!r} stands more than once: " in wrong(prove(layout))["routed shards"][0]


def test_what_clean_removed_is_said_and_no_problem(layout):
    shutil.rmtree(layout.scored_folder)
    for tier in Path(layout.routed_folder).glob("tier=*"):
        shutil.rmtree(tier)
    proof = prove(layout)
    assert proof.proved
    assert {name for name, level in levels(proof).items() if level == WARN} == {
        "scored table",
        "routed shards",
        "results",
    }


def test_a_lost_copy_and_a_lost_mark_and_foreign_objects_are_notes(layout):
    Path(layout.receipt(SMALL_0)).unlink()
    Path(layout.success).unlink()
    Path(layout.root, "notes.txt").write_text("mine")
    Path(layout.results_folder, "_started").write_text("mine")
    Path(layout.results_folder, "_temporary", "0").mkdir(parents=True)
    Path(layout.results_folder, "_temporary", "0", "part-0.parquet").write_text("mine")
    proof = prove(layout)
    assert proof.proved
    warned = {check.name: check.told for check in proof.checks if check.level == WARN}
    assert warned.keys() == {"receipts", "manifest", "other objects"}
    assert warned["other objects"] == (
        "notes.txt, results/_started, results/_temporary/0/part-0.parquet: not of this run"
    )
    assert "_SUCCESS is missing" in warned["manifest"]


def test_a_run_in_each_of_its_states_is_proved_as_far_as_it_is(tmp_path):
    run = LocalRun(tmp_path, ROWS).plan()
    assert [(check.name, check.level) for check in prove(run.layout).checks] == [
        ("plan", OK),
        ("scored table", WARN),
        ("manifest", WARN),
        ("other objects", OK),
    ]
    run.score([0, 2])
    assert prove(run.layout).checks[1].told == f"{ROWS // 2} ids in 2 of 4 parts, none twice"
    run.score().route()
    proof = prove(run.layout)
    assert levels(proof) | {"results": WARN, "receipts": WARN, "manifest": WARN} == levels(proof)
    assert levels(proof)["routed shards"] == OK
    run.answer([SMALL_0])
    Path(run.layout.routed(ShardId("large", 1))).unlink()
    proof = prove(run.layout)
    assert proof.proved
    assert not proof.finished
    assert levels(proof)["routed shards"] == WARN
    run.route().answer()
    assert set(levels(prove(run.layout)).values()) == {OK, WARN}
    run.finish()
    assert set(levels(prove(run.layout)).values()) == {OK}


def test_batch_files_are_held_against_the_results(tmp_path):
    run = a_finished_run(tmp_path, ROWS, batch=True)
    proof = prove(run.layout)
    assert proof.proved, wrong(proof)
    assert levels(proof)["batch files"] == OK
    output = Path(run.layout.batch_output(0))
    first, rest = output.read_text().split("\n", 1)
    output.write_text(rest)
    about = f"the first that differs is {json.loads(first)['custom_id']!r}"
    assert about in wrong(prove(run.layout))["batch files"][0]
    output.unlink()
    assert "batch/output-00000.jsonl: 0 ids for" in wrong(prove(run.layout))["batch files"][0]


def test_a_folder_without_a_run_and_a_store_that_fails_are_no_proofs(layout, tmp_path):
    with pytest.raises(InputError, match="no run here"):
        verify(str(tmp_path / "nothing"), Recorder())
    Path(layout.results(SMALL_0)).unlink()
    Path(layout.results(SMALL_0)).symlink_to("/proc/self/mem")
    with pytest.raises(StorageError, match=r"cannot read .*shard-000000\.parquet"):
        prove(layout)
