"""Leftovers are named first, and nothing else is ever removed."""

from __future__ import annotations

import io
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from hybrid_batch.cleaning import ROUTED, SCORED, UNFINISHED, find_leftovers, remove
from hybrid_batch.cli import app
from hybrid_batch.core.errors import InputError
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import RETRY
from hybrid_batch.ledger import Ledger
from hybrid_batch.reports.console import status_view
from hybrid_batch.status import status
from hybrid_batch.storage import TEMP_PREFIX
from hybrid_batch.verification import verify
from tests.support.jobs import Recorder
from tests.support.local_runs import LocalRun, a_finished_run

ROWS = 24


def leave(folder: Path | str, hours: float, name: str = "abc") -> Path:
    """An unfinished write in ``folder`` that is so old."""
    path = Path(folder) / f"{TEMP_PREFIX}{name}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    moment = time.time() - hours * 3600
    os.utime(path, (moment, moment))
    return path


def files(folder: Path | str) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def test_old_unfinished_writes_go_and_young_ones_stay(tmp_path):
    run = a_finished_run(tmp_path, ROWS)
    before = files(tmp_path / "out")
    young = leave(run.layout.results_folder, 0.9, "young")
    leave(run.layout.results_folder, 1.1)
    leave(Path(run.layout.scored_folder), 30)
    leave(tmp_path / "out", 30, "probe-1")
    found = find_leftovers(str(tmp_path / "out"), intermediate=False)

    assert [(group.kind, group.run_id, len(group.urls), group.bytes) for group in found.groups] == [
        (UNFINISHED, None, 1, 1000),
        (UNFINISHED, run.layout.run_id, 2, 2000),
    ]
    assert found.kept == ("1 unfinished writes: they are younger than an hour",)
    assert remove(found) == 3
    assert remove(found) == 3
    assert files(tmp_path / "out") == before | {str(young.relative_to(tmp_path / "out"))}
    assert find_leftovers(run.layout.root, intermediate=False).groups == ()


def test_intermediate_rows_of_finished_runs_go_and_everything_else_stays(tmp_path):
    run = a_finished_run(tmp_path, ROWS)
    open_run = LocalRun(tmp_path / "other", ROWS - 1, output=str(tmp_path / "out")).plan().score().route()
    before, of_run = files(tmp_path / "out"), files(run.layout.root)
    found = find_leftovers(str(tmp_path / "out"), intermediate=True)

    assert {(group.kind, group.run_id) for group in found.groups} == {
        (SCORED, run.layout.run_id),
        (ROUTED, run.layout.run_id),
    }
    assert found.kept == (f"run {open_run.layout.run_id}: it is unfinished",)
    removed = remove(found)
    gone = {name for name in of_run if name.startswith(("scored/", "routed/tier="))}
    assert removed == len(gone) == 4 + len(run.routing.shards)
    assert before - files(tmp_path / "out") == {f"runs/{run.layout.run_id}/{name}" for name in gone}
    assert find_leftovers(run.layout.root, intermediate=True).groups == ()
    assert verify(run.layout.root, Recorder()).proved
    scoring, *others = status(run.layout.root).stages
    assert scoring.removed
    assert not any(stage.removed for stage in others)
    console = Console(file=io.StringIO(), width=100)
    console.print(status_view(status(run.layout.root)))
    line = next(line for line in console.file.getvalue().splitlines() if line.startswith("score"))
    assert line.split() == ["score", "removed"]
    assert not any(stage.removed for stage in status(open_run.layout.root).stages)


def test_a_run_that_lost_a_result_keeps_what_it_could_be_made_of(tmp_path):
    run = a_finished_run(tmp_path, ROWS)
    Path(run.layout.results(run.routing.shards[0])).unlink()
    found = find_leftovers(run.layout.root, intermediate=True)
    assert found.groups == ()
    assert found.kept == (f"run {run.layout.run_id}: results of 1 of its shards are missing",)


def test_what_somebody_else_put_beside_the_rows_stays(tmp_path):
    run = a_finished_run(tmp_path, ROWS)
    Path(run.layout.scored_folder, "notes.txt").write_text("mine")
    Path(run.layout.root, "tier=small").mkdir()
    shutil.copy(run.layout.results(run.routing.shards[0]), f"{run.layout.root}/tier=small/shard-000000.parquet")
    remove(find_leftovers(run.layout.root, intermediate=True))
    assert {"scored/notes.txt", "tier=small/shard-000000.parquet", "routed/routing.parquet"} <= files(run.layout.root)


def test_a_place_where_nothing_lies_is_an_error(tmp_path):
    with pytest.raises(InputError, match="nothing: nothing lies here; give the folder of a run"):
        find_leftovers(str(tmp_path / "nothing"), intermediate=False)


def test_the_command_says_what_it_would_remove_and_removes_it_only_when_told(tmp_path):
    run = a_finished_run(tmp_path, ROWS)
    old = leave(run.layout.results_folder, 2)

    def clean(*options: str) -> str:
        done = CliRunner().invoke(app, ["clean", str(tmp_path / "out"), *options], env={"COLUMNS": "120"})
        assert (done.exit_code, done.stderr) == (0, "")
        return done.stdout

    told = clean()
    line = next(line for line in told.splitlines() if line.startswith(UNFINISHED))
    assert line.split() == ["unfinished", "writes", run.layout.run_id, "1", "0.0"]
    assert told.endswith("Nothing was removed. The same command with --yes removes it.\n")
    assert old.exists()
    assert clean("--yes").endswith("Removed 1 objects.\n")
    assert not old.exists()
    assert "None." in clean("--yes")
    assert "Removed" not in clean("--yes")


def test_a_run_that_lost_its_routing_keeps_everything(tmp_path):
    run = a_finished_run(tmp_path, ROWS)
    Path(run.layout.routing).unlink()
    found = find_leftovers(run.layout.root, intermediate=True)
    assert found.groups == ()
    assert found.kept == (f"run {run.layout.run_id}: its routed/routing.parquet is missing",)


def test_rows_that_an_unfinished_retry_reads_stay_until_it_is_finished(tmp_path):
    run = a_finished_run(tmp_path, ROWS)
    identity = {"kind": RETRY, "retry_of": {"run_id": run.layout.run_id, "fingerprint": "0", "errors": ["timeout"]}}
    retry = Ledger(RunLayout.of(str(tmp_path / "out"), "night-retry-0"))
    retry.commit_plan(replace(run.plan_held, run_id="night-retry-0", identity=identity))
    for target in (run.layout.root, f"{run.layout.root}/", str(tmp_path / "out")):
        found = find_leftovers(target, intermediate=True)
        assert [(group.kind, group.run_id) for group in found.groups] == [(SCORED, run.layout.run_id)]
        told = f"run {run.layout.run_id}: its routed rows stay, the unfinished retry night-retry-0 reads them"
        assert told in found.kept
    retry.commit_manifest({})
    kinds = {group.kind for group in find_leftovers(run.layout.root, intermediate=True).groups}
    assert kinds == {SCORED, ROUTED}


@pytest.mark.parametrize("content", ['{"shards": [["sm', "{}", '{"shards": [["small", 0]]}', "null"])
def test_a_run_whose_manifest_cannot_be_read_keeps_everything(tmp_path, content):
    run = a_finished_run(tmp_path, ROWS)
    Path(run.layout.manifest).write_text(content)
    found = find_leftovers(run.layout.root, intermediate=True)
    assert found.groups == ()
    assert found.kept[0].startswith(f"run {run.layout.run_id}: its manifest.json cannot be read: ")
