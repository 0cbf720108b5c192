"""The whole job against the gateway: input, router and output on S3, through the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hybrid_batch.cli import NOT_PROVED
from hybrid_batch.parquet import from_parquet
from hybrid_batch.storage import TEMP_PREFIX, open_store
from tests.support.jobs import job_document, questions, save, write_parquet
from tests.support.local_runs import flipped
from tests.support.tiny_router import make_tiny_router

ROWS = 120


def upload(folder: Path, url: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            open_store(url).put(f"{url}/{path.relative_to(folder)}", path.read_bytes())


def hybrid_batch(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hybrid_batch", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env=dict(os.environ),
        check=False,
    )


@pytest.mark.s3
@pytest.mark.spark
def test_a_run_whose_input_router_and_output_are_on_s3(s3_folder: str, tmp_path: Path):
    upload(make_tiny_router(tmp_path / "router"), f"{s3_folder}/router")
    write_parquet(tmp_path / "in" / "q.parquet", questions(ROWS))
    upload(tmp_path / "in", f"{s3_folder}/in")
    document = job_document(Path("unused.parquet"), f"{s3_folder}/out", tmp_path / "unused")
    document["input"]["path"] = f"{s3_folder}/in"
    document["router"]["path"] = f"{s3_folder}/router"
    document["run"]["log_dir"] = str(tmp_path / "logs")
    config = str(save(document, tmp_path))

    first = hybrid_batch("run", config)
    assert first.returncode == 0, first.stderr
    listed = open_store(s3_folder).list(f"{s3_folder}/out")
    results = pa.concat_tables(
        from_parquet(open_store(item.url).read(item.url))
        for item in listed
        if "/results/" in item.url and item.url.endswith(".parquet")
    )
    assert sorted(results["query_id"].to_pylist()) == sorted(row["query_id"] for row in questions(ROWS))
    assert pc.sum(pc.is_valid(results["error_kind"])).as_py() == 2
    assert [item.url for item in listed if item.url.endswith("manifest.json")]

    second = hybrid_batch("run", config)
    assert second.returncode == 0, second.stderr
    assert "was finished before; nothing was done" in second.stdout
    assert open_store(s3_folder).list(f"{s3_folder}/out") == listed

    status = hybrid_batch("status", f"{s3_folder}/out")
    assert status.returncode == 0, status.stderr
    assert "finished" in status.stdout
    verified_and_cleaned(f"{s3_folder}/out", [item.url for item in listed])


def verified_and_cleaned(output: str, objects: list[str]) -> None:
    """The commands on a finished run in storage, from looking at it to finding it broken."""
    store = open_store(output)
    proof = hybrid_batch("verify", output)
    assert (proof.returncode, proof.stdout.rstrip().endswith("Proved.")) == (0, True), proof.stdout + proof.stderr
    watched = hybrid_batch("status", output, "--watch")
    assert (watched.returncode, watched.stdout.splitlines()[0].endswith("finished")) == (0, True), watched.stderr

    young = f"{output}/{TEMP_PREFIX}probe-1"
    store.put(young, b"probe")
    rows = [url for url in objects if "/scored/part-" in url or "/routed/tier=" in url]
    told = hybrid_batch("clean", output, "--intermediate")
    assert "1 unfinished writes: they are younger than an hour" in " ".join(told.stdout.split())
    assert [item.url for item in store.list(output)] == objects
    cleaned = hybrid_batch("clean", output, "--intermediate", "--yes")
    assert f"Removed {len(rows)} objects." in cleaned.stdout, cleaned.stderr
    assert [item.url for item in store.list(output)] == [url for url in objects if url not in rows]
    assert store.read(young) == b"probe"

    assert hybrid_batch("verify", output).returncode == 0
    result = next(url for url in objects if "/results/tier=large/" in url)
    store.put(result, flipped(store.read(result), "text"))
    broken = hybrid_batch("verify", output)
    assert broken.returncode == NOT_PROVED
    assert f"results: results/{result.partition('/results/')[2]}: " in broken.stdout
