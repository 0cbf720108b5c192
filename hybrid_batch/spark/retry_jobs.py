"""The Spark job that collects the failed rows of a run, and what one of its tasks does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.core.errors import StorageError
from hybrid_batch.core.inputs import Split
from hybrid_batch.core.layout import RunLayout, parse_shard
from hybrid_batch.parquet import batches_to_parquet, from_parquet, read_batches
from hybrid_batch.spark.batches import BATCH_ROWS
from hybrid_batch.spark.jobs import collect, run_units
from hybrid_batch.spark.tasks import done
from hybrid_batch.storage import open_store, reading
from hybrid_batch.tables import TASK_DONE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@dataclass(frozen=True)
class FailedRowsTask:
    """Collects the rows of some shards of the run at ``source`` that failed with one of ``kinds``, and commits them as
    one part of the run at ``layout``.

    Pieces of ``splits`` are result objects of ``source``; ``schema`` is that of its scored rows.
    """

    layout: RunLayout
    source: RunLayout
    splits: Sequence[Split]
    kinds: frozenset[str]
    schema: pa.Schema

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        split = self.splits[unit]
        failed = (batch for piece in split.pieces for batch in self._failed(piece.url).to_batches())
        data, rows = batches_to_parquet(failed, self.schema)
        if rows != split.rows:
            raise StorageError(
                f"{split.pieces[0].url}: {rows:,} rows failed in this and the objects after it, by their receipts it "
                f"must be {split.rows:,}; the run's objects were changed after it was finished"
            )
        yield done(unit, open_store(self.layout.root).put_if_absent(self.layout.scored(split.number), data), rows)

    def _failed(self, url: str) -> pa.Table:
        shard = parse_shard(url)
        assert shard is not None
        routed = self.source.routed(shard)
        rows = from_parquet(open_store(routed).read(routed))
        with reading(url), open_store(url).open_input(url) as file:
            results = pa.Table.from_batches(read_batches(file, BATCH_ROWS, ["query_id", "error_kind"]))
        if not rows["query_id"].equals(results["query_id"]):
            raise StorageError(f"{url}: its rows are not those of {routed}")
        wanted = pc.is_in(results["error_kind"], pa.array(sorted(self.kinds), pa.string()))
        return rows.filter(wanted).select(self.schema.names).cast(self.schema)


def collect_failed(spark: SparkSession, task: FailedRowsTask, missing: Sequence[int]) -> None:
    """Commit the parts in ``missing`` (indices into ``task.splits``)."""
    collect(run_units(spark, task, missing, TASK_DONE))
