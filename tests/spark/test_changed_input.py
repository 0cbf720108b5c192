"""Input that changes under a run: after it was interrupted, and while it reads."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from hybrid_batch import labelling, pipeline
from hybrid_batch.config.labelling import load_label_config
from hybrid_batch.core.errors import InputError, RunConflictError
from hybrid_batch.core.progress import Progress
from hybrid_batch.storage import open_store
from tests.spark.test_label import asked, label_document
from tests.support.jobs import Recorder, load, questions, results_of, write_jsonl

ROWS = 120


class AtNote(Recorder):
    """Does something, once, when it hears a note that begins with ``beginning``."""

    def __init__(self, beginning: str, action: Callable[[], object]) -> None:
        super().__init__()
        self._beginning = beginning
        self._action: Callable[[], object] | None = action

    def note(self, message: str) -> None:
        super().note(message)
        if message.startswith(self._beginning) and self._action:
            self._action()
            self._action = None


class BeforeScoring(Recorder):
    """Does something at the moment when all ids are checked and nothing is scored yet."""

    def __init__(self, action: Callable[[], object]) -> None:
        super().__init__()
        self._action: Callable[[], object] | None = action

    def progress(self, progress: Progress) -> None:
        super().progress(progress)
        if progress.stage == "score" and self._action:
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


@pytest.mark.parametrize(
    "observe", [partial(AtNote, "run test-"), BeforeScoring], ids=["before its ids are checked", "before it is scored"]
)
def test_nothing_is_committed_of_input_that_changed_since_it_was_listed(document, folder, tmp_path, observe):
    config, path = load(document, tmp_path), folder / "part-1.jsonl"
    rows = questions(ROWS)
    size, state = path.stat().st_size, path.stat()
    replaced = [{**row, "prompt": "Another question than the one that was listed?"} for row in rows[40:80]]
    with pytest.raises(InputError) as caught:
        pipeline.run(config, observe(lambda: write_jsonl(path, replaced)))
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("input.path: the input changed while it was read; nothing is committed")
    changed = f"    {path}: size {size:,} -> {path.stat().st_size:,} bytes"
    assert lines[1:-1] == ["  changed: 1 file", changed]
    (root,) = (tmp_path / "out" / "runs").iterdir()
    assert not (root / "scored" / "part-00001.parquet").exists()
    assert not (root / "routed").exists()

    # Put back before anybody starts the run again: by the listing it is the input that the plan names.
    write_jsonl(path, rows[40:80])
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    outcome = pipeline.run(config, Recorder())
    assert outcome.layout.root == str(root)
    asked = {row["query_id"]: row["prompt"] for row in pq.read_table(root / "scored").to_pylist()}
    assert asked == {row["query_id"]: row["prompt"] for row in rows}
    assert results_of(outcome.layout.root).num_rows == ROWS


def test_a_file_that_is_gone_when_it_is_to_be_read_is_named(document, folder, tmp_path):
    path = folder / "part-2.jsonl"
    with pytest.raises(InputError, match=rf"removed: 1 file\n    {path}"):
        pipeline.run(load(document, tmp_path), BeforeScoring(path.unlink))


def test_a_file_of_the_same_size_that_was_written_again_is_told_with_its_etags(document, folder, tmp_path):
    path = folder / "part-0.jsonl"
    config, before = load(document, tmp_path), open_store(str(path)).stat(str(path))
    with pytest.raises(InputError) as caught:
        pipeline.run(config, BeforeScoring(lambda: os.utime(path, ns=(0, 0))))
    after = open_store(str(path)).stat(str(path))
    told = f"{path}: size {before.size:,} bytes as before, but written again (ETag {before.etag} -> {after.etag})"
    assert told in str(caught.value)


def test_what_happens_to_files_that_a_run_does_not_read_is_nothing_to_it(document, folder, tmp_path):
    document["input"]["limit"] = 50
    late = {"query_id": "late", "prompt": "Too late?", "tenant": "t0"}

    def change() -> None:
        (folder / "part-2.jsonl").unlink()
        write_jsonl(folder / "part-9.jsonl", [late])

    outcome = pipeline.run(load(document, tmp_path), BeforeScoring(change))
    assert sorted(results_of(outcome.layout.root)["query_id"].to_pylist()) == [f"q{row:06d}" for row in range(50)]


def test_a_labelling_takes_no_sample_of_input_that_changed(tmp_path):
    rows = asked()
    path = write_jsonl(tmp_path / "in" / "q.jsonl", rows)
    config = tmp_path / "label.yaml"
    config.write_text(yaml.safe_dump(label_document(path, str(tmp_path / "out"))))
    observer = AtNote("sampling", lambda: write_jsonl(path, rows[1:]))
    with pytest.raises(InputError, match=rf"changed: 1 file\n    {path}: size"):
        labelling.label(load_label_config(config), observer)
    (root,) = (tmp_path / "out" / "runs").iterdir()
    assert not (root / "scored").exists()
