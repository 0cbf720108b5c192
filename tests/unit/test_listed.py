"""What a task read is committed only if its files are still those that were listed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hybrid_batch.core.errors import InputError, StorageError
from hybrid_batch.core.inputs import Piece, Split
from hybrid_batch.spark.label_tasks import SampleHashesTask, SampleTask
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.tasks import IdsTask
from hybrid_batch.storage import open_store
from tests.support.jobs import questions, write_parquet
from tests.support.local_runs import LocalRun

ROWS = 60


@pytest.fixture
def run(tmp_path: Path) -> LocalRun:
    return LocalRun(tmp_path, ROWS).plan()


def input_of(run: LocalRun) -> Path:
    return Path(run.source.files[0].url)


def replaced(path: Path) -> Callable[[], None]:
    """Write other prompts to ``path`` -> what puts the file back, with its time of change."""
    state, data = path.stat(), path.read_bytes()
    write_parquet(path, [{**row, "prompt": "Another question?"} for row in questions(ROWS)], row_group=-(-ROWS // 4))

    def put_back() -> None:
        path.write_bytes(data)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))

    return put_back


def test_a_part_of_a_file_that_was_replaced_is_not_committed(run: LocalRun) -> None:
    path = input_of(run)
    run.score([0])
    put_back = replaced(path)
    with pytest.raises(InputError, match=rf"nothing is committed.*\n  changed: 1 file\n    {path}: size") as caught:
        run.score([1])
    before, after = run.source.files[0], path.stat()
    assert f"size {before.size:,} -> {after.st_size:,} bytes" in str(caught.value)
    assert run.ledger.scored_parts() == {0}

    put_back()
    run.score([1, 2, 3])
    scored = pq.read_table(run.layout.scored_folder).to_pylist()
    assert [row["prompt"] for row in scored] == [row["prompt"] for row in questions(ROWS)]


def test_no_task_that_reads_input_says_anything_of_a_file_that_was_replaced(run: LocalRun) -> None:
    splits, spec, listed = run.source.splits, run.config.input.to_spec(), Listed.of(run.source.files, run.source.splits)
    tasks = [
        IdsTask(splits, spec, listed),
        SampleHashesTask(splits, spec, 10, listed),
        SampleTask(run.layout, splits, spec, run.source.kept, 1 << 62, listed),
    ]
    put_back = replaced(input_of(run))
    for task in tasks:
        with pytest.raises(InputError, match="the input changed while it was read"):
            list(task(0))
    assert run.ledger.scored_parts() == set()
    put_back()
    assert all(list(task(0)) for task in tasks)


def test_an_error_that_comes_of_a_change_is_told_as_the_change(run: LocalRun) -> None:
    path = input_of(run)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=rf"\n    {path}: size {run.source.files[0].size:,} -> 100 bytes"):
        run.score([0])
    path.unlink()
    with pytest.raises(InputError, match=rf"  removed: 1 file\n    {path}"):
        run.score([0])


def test_an_error_of_a_file_that_did_not_change_stays_what_it_is(run: LocalRun) -> None:
    listed = Listed.of(run.source.files, run.source.splits)
    with pytest.raises(StorageError, match="the store is slow"), listed.held(run.source.splits[0]):
        raise StorageError("the store is slow")


def test_every_file_of_a_split_is_looked_at_and_no_other(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.jsonl" for number in range(6)]
    for path in paths:
        path.write_text("{}\n")
    files = open_store(str(tmp_path)).list(str(tmp_path))
    two, three = (Split(n, tuple(Piece(str(path)) for path in own)) for n, own in enumerate([paths[:2], paths[2:5]]))
    listed = Listed.of(files, [two, three])
    assert listed.states.keys() == {str(path) for path in paths[:5]}
    paths[4].write_text("{} \n")
    paths[5].unlink()
    with listed.held(two):
        pass
    with pytest.raises(InputError, match=rf"{paths[4]}: size 3 -> 4 bytes"), listed.held(three):
        pass
