"""Input on S3 that changes under a run: ETags and sizes tell, and the listing of runs is one of folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_batch import pipeline
from hybrid_batch.config import JobConfig
from hybrid_batch.core.errors import InputError, RunConflictError
from hybrid_batch.storage import open_store
from tests.spark.test_changed_input import BeforeScoring
from tests.support.jobs import Recorder, job_document, load, questions
from tests.support.tiny_router import make_tiny_router

pytestmark = [pytest.mark.s3, pytest.mark.spark]

ROWS = 60


def lines_of(start: int, stop: int) -> bytes:
    rows = questions(ROWS)[start:stop]
    return "".join(f'{{"query_id": "{row["query_id"]}", "prompt": "{row["prompt"]}"}}\n' for row in rows).encode()


@pytest.fixture
def config(s3_folder: str, tmp_path: Path) -> JobConfig:
    """A job whose input, two files, and output are on S3."""
    store = open_store(s3_folder)
    store.put(f"{s3_folder}/in/a.jsonl", lines_of(0, 30))
    store.put(f"{s3_folder}/in/b.jsonl", lines_of(30, ROWS))
    document = job_document(Path("unused.jsonl"), f"{s3_folder}/out", make_tiny_router(tmp_path / "router"))
    document["input"] |= {"path": f"{s3_folder}/in", "rows_per_split": 45, "keep": []}
    document["run"]["log_dir"] = str(tmp_path / "logs")
    return load(document, tmp_path)


def test_changed_input_is_refused_with_the_difference(config: JobConfig, s3_folder: str) -> None:
    store, url = open_store(s3_folder), f"{s3_folder}/in/b.jsonl"
    begun = pipeline.run_part(config, Recorder(), shards=1)
    kept = store.list(begun.layout.root)
    store.put(url, lines_of(30, ROWS - 5))
    store.put(f"{s3_folder}/in/c.jsonl", lines_of(ROWS - 5, ROWS))
    with pytest.raises(RunConflictError) as caught:
        pipeline.run(config, Recorder())
    sizes = f"size {len(lines_of(30, ROWS)):,} -> {len(lines_of(30, ROWS - 5)):,} bytes"
    assert str(caught.value).splitlines()[1:-1] == [
        "  added: 1 file",
        f"    {s3_folder}/in/c.jsonl",
        "  changed: 1 file",
        f"    {url}: {sizes}",
    ]
    assert store.list(begun.layout.root) == kept

    # The same bytes have the same ETag, so the input is what it was.
    store.put(url, lines_of(30, ROWS))
    store.delete(f"{s3_folder}/in/c.jsonl")
    assert pipeline.run(config, Recorder()).layout == begun.layout


def test_nothing_is_committed_of_input_that_changed_since_it_was_listed(config: JobConfig, s3_folder: str) -> None:
    store, url = open_store(s3_folder), f"{s3_folder}/in/a.jsonl"
    # As long as before: the ETag alone tells.
    other = lines_of(0, 30).replace(b"Topic", b"TOPIC")
    with pytest.raises(InputError, match=rf"{url}: size {len(other):,} bytes as before, but written again \(ETag"):
        pipeline.run(config, BeforeScoring(lambda: store.put(url, other)))
    (root,) = store.folders(f"{s3_folder}/out/runs")
    assert f"{root}/scored/part-00000.parquet" not in [item.url for item in store.list(root)]
    assert not store.list(f"{root}/routed")

    store.put(url, lines_of(0, 30))
    assert pipeline.run(config, Recorder()).manifest["rows"] == ROWS
