"""What lies in a results folder is what readers of all kinds see, while a run goes on and after it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from hybrid_batch.storage import TEMP_PREFIX

Rows = Counter[tuple[str, str]]
"""How often a reader sees an id with its tier."""


def by_spark(folder: Path, spark: Any) -> Rows:
    rows = spark.read.parquet(str(folder)).select("query_id", "tier").collect()
    return Counter((row["query_id"], row["tier"]) for row in rows)


def by_duckdb(folder: Path, _: Any) -> Rows:
    query = f"select query_id, tier from read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"
    return Counter(duckdb.sql(query).fetchall())


def by_pandas(folder: Path, _: Any) -> Rows:
    frame = pd.read_parquet(folder)
    return Counter(zip(frame["query_id"], frame["tier"].astype(str), strict=True))


def by_dataset(folder: Path, _: Any) -> Rows:
    return _seen(ds.dataset(str(folder)))


def by_partitioned_dataset(folder: Path, _: Any) -> Rows:
    return _seen(ds.dataset(str(folder), partitioning=ds.HivePartitioning.discover(infer_dictionary=True)))


def _seen(dataset: ds.Dataset) -> Rows:
    table = dataset.to_table(["query_id", "tier"])
    return Counter(zip(table["query_id"].to_pylist(), table["tier"].to_pylist(), strict=True))


READERS: dict[str, Callable[[Path, Any], Rows]] = {
    "spark": by_spark,
    "duckdb": by_duckdb,
    "pandas": by_pandas,
    "pyarrow": by_dataset,
    "pyarrow with partitions": by_partitioned_dataset,
}


def expected(folder: Path) -> Rows:
    """What the files say, read one by one."""
    files = folder.glob("tier=*/shard-*.parquet")
    return Counter(
        (name.as_py(), file.parent.name.removeprefix("tier="))
        for file in files
        for name in pq.read_table(file, partitioning=None)["query_id"]
    )


@pytest.mark.parametrize("reader", READERS)
def test_readers_see_committed_rows_while_a_run_goes_on_and_after_it(finished, spark, tmp_path, reader):
    whole = Path(finished[0].layout.results_folder)
    growing = tmp_path / "growing"
    shutil.copytree(whole, growing)
    (growing / "_SUCCESS").unlink()
    (growing / "tier=large" / "shard-000001.parquet").unlink()
    (growing / "tier=small" / f"{TEMP_PREFIX}0123").write_bytes(b"PAR1 the beginning of")

    read = READERS[reader]
    assert (whole / "_SUCCESS").read_bytes() == b""
    assert read(whole, spark) == expected(whole)
    assert set(read(whole, spark).values()) == {1}
    assert read(growing, spark) == expected(growing)
    assert expected(growing).total() < expected(whole).total() == finished[0].manifest["rows"]


def test_a_lost_mark_is_made_again_by_the_same_command(document, run_job):
    outcome, _ = run_job(document)
    mark = Path(outcome.layout.success)
    before = {path for path in Path(outcome.layout.root).rglob("*") if path.is_file()}
    mark.unlink()
    again, _ = run_job(document)
    assert again.already_finished
    assert {path for path in Path(outcome.layout.root).rglob("*") if path.is_file()} == before
