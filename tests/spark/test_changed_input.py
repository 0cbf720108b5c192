"""Input that changes under a run: after it was interrupted, and while it reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid_batch import pipeline
from hybrid_batch.core.errors import InputError, RunConflictError
from hybrid_batch.core.progress import Progress
from tests.support.jobs import Recorder, load, questions, results_of, write_jsonl

ROWS = 120


class AfterScoring(Recorder):
    """Does something at the moment when all queries are scored."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self._action: Callable[[], None] | None = action

    def progress(self, progress: Progress) -> None:
        super().progress(progress)
        if progress.stage == "score" and progress.done_rows == progress.total_rows and self._action:
            self._action()
            self._action = None


@pytest.fixture
def folder(document: dict[str, Any], tmp_path: Path) -> Path:
    """The input of ``document`` as three files of a folder, each a part of its own."""
    rows = questions(ROWS)
    place = tmp_path / "files"
    for number in range(3):
        write_jsonl(place / f"part-{number}.jsonl", rows[number * 40 : number * 40 + 40])
    document["input"] |= {"path": str(place), "rows_per_split": 60}
    return place


def written_again(path: Path) -> tuple[bytes, tuple[int, int]]:
    """Change ``path`` -> what it takes to put it back."""
    state, data = path.stat(), path.read_bytes()
    path.write_bytes(data + b'{"query_id": "more", "prompt": "One more?", "tenant": "t"}\n')
    return data, (state.st_atime_ns, state.st_mtime_ns)


def put_back(path: Path, before: tuple[bytes, tuple[int, int]]) -> None:
    path.write_bytes(before[0])
    os.utime(path, ns=before[1])


def test_an_unfinished_run_is_not_left_behind_when_its_input_changed(document, folder, tmp_path):
    config = load(document, tmp_path)
    begun = pipeline.run_part(config, Recorder(), shards=1)
    size = (folder / "part-1.jsonl").stat().st_size
    before = written_again(folder / "part-1.jsonl")
    shutil.copy(folder / "part-0.jsonl", folder / "part-3.jsonl")
    (folder / "part-2.jsonl").rename(tmp_path / "part-2.jsonl")

    for start in (pipeline.run, pipeline.dry_run, lambda *given: pipeline.run_part(*given, shards=1)):
        with pytest.raises(RunConflictError) as caught:
            start(config, Recorder())
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{begun.layout.root}: this run is unfinished, and its input has changed")
    changed = f"    {folder}/part-1.jsonl: size {size:,} -> {(folder / 'part-1.jsonl').stat().st_size:,} bytes"
    added, removed = f"    {folder}/part-3.jsonl", f"    {folder}/part-2.jsonl"
    assert lines[1:-1] == ["  added: 1 file", added, "  removed: 1 file", removed, "  changed: 1 file", changed]
    assert "--new-run" in lines[-1]
    assert "run.name" in lines[-1]
    assert [path.name for path in Path(begun.layout.root).parent.iterdir()] == [begun.layout.run_id]

    put_back(folder / "part-1.jsonl", before)
    (folder / "part-3.jsonl").unlink()
    (tmp_path / "part-2.jsonl").rename(folder / "part-2.jsonl")
    finished = pipeline.run(config, Recorder())
    assert finished.layout == begun.layout
    assert results_of(finished.layout.root).num_rows == ROWS


def test_a_new_run_is_started_beside_it_where_that_is_wanted(document, folder, tmp_path):
    config = load(document, tmp_path)
    begun = pipeline.run_part(config, Recorder(), shards=0)
    kept = {path: path.read_bytes() for path in Path(begun.layout.root).rglob("*") if path.is_file()}
    written_again(folder / "part-1.jsonl")
    beside = pipeline.run(config, Recorder(), new_run=True)

    assert beside.layout != begun.layout
    assert results_of(beside.layout.root).num_rows == ROWS + 1
    assert {path: path.read_bytes() for path in kept} == kept
    assert pipeline.run(config, Recorder()).already_finished
    # The unfinished one is older than a finished run like it: the next input is no conflict.
    written_again(folder / "part-2.jsonl")
    recorder = Recorder()
    pipeline.dry_run(config, recorder)
    assert any(note.startswith("would start run") for note in recorder.notes)


def test_input_that_changes_while_it_is_read_is_not_routed(document, folder, tmp_path):
    config, path = load(document, tmp_path), folder / "part-1.jsonl"
    before: list[tuple[bytes, tuple[int, int]]] = []
    observer = AfterScoring(lambda: before.append(written_again(path)))
    with pytest.raises(InputError) as caught:
        pipeline.run(config, observer)
    message = str(caught.value)
    assert "the input changed while the run read it; nothing was routed or answered" in message
    assert f"{path}: size" in message
    (root,) = (tmp_path / "out" / "runs").iterdir()
    assert sorted(part.name for part in (root / "scored").iterdir()) == ["part-00000.parquet", "part-00002.parquet"]
    assert not (root / "routed").exists()

    put_back(path, before[0])
    outcome = pipeline.run(config, Recorder())
    assert outcome.layout.root == str(root)
    assert sorted(results_of(outcome.layout.root)["query_id"].to_pylist()) == [
        row["query_id"] for row in questions(ROWS)
    ]


def test_a_file_that_is_removed_while_the_run_reads_is_named(document, folder, tmp_path):
    path = folder / "part-2.jsonl"
    with pytest.raises(InputError, match=rf"removed: 1 file\n    {path}"):
        pipeline.run(load(document, tmp_path), AfterScoring(path.unlink))


def test_files_that_come_while_the_run_reads_are_told_and_no_part_of_it(document, folder, tmp_path):
    late = {"query_id": "late", "prompt": "Too late?", "tenant": "t0"}
    observer = AfterScoring(lambda: write_jsonl(folder / "part-9.jsonl", [late]) and None)
    outcome = pipeline.run(load(document, tmp_path), observer)
    assert results_of(outcome.layout.root).num_rows == ROWS
    assert any("came after the run began" in note and "part-9.jsonl" in note for note in observer.notes)
