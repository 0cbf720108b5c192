"""What one Spark task does to write results as OpenAI's batch files; as safe to repeat as the tasks of a run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.records import Receipt, ShardId
from hybrid_batch.ledger import RECEIPT_KEY
from hybrid_batch.parquet import from_parquet
from hybrid_batch.spark.tasks import done
from hybrid_batch.stages.batch_lines import batch_lines
from hybrid_batch.storage import open_store


@dataclass(frozen=True)
class BatchFilesTask:
    """Writes the answers and the errors of one committed shard as an object each, where there are any, else removes it.

    ``shards`` are all shards of the run: the place of one among them is the number of its objects.
    """

    layout: RunLayout
    shards: Sequence[ShardId]

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        store = open_store(self.layout.root)
        results = from_parquet(store.read(self.layout.results(self.shards[unit])))
        receipt = Receipt.from_dict(json.loads((results.schema.metadata or {})[RECEIPT_KEY.encode()]))
        lines = batch_lines(results, self.layout.run_id, receipt.finished_us // 1_000_000)
        places = (self.layout.batch_output(unit), self.layout.batch_errors(unit))
        for url, data in zip(places, lines, strict=True):
            # What lies there may come from a result that somebody deleted in order to have it answered again.
            if data:
                store.put(url, data)
            else:
                store.delete(url)
        yield done(unit, True, results.num_rows)
