"""The sample stage of a labelling: which queries are labelled, and the rows that ask for their answers.

A hash of the id decides, so the sample is the same whatever the order, the files and the workers.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from hybrid_batch.stages.route import request_text
from hybrid_batch.tables import ANSWER, SCORED

_SEED = 2
"""Apart from the hashes that sample sort keys: those rows shall not be these."""


def sample_hashes(rows: pa.RecordBatch) -> np.ndarray:
    """Hash of each row's id, 63 bits in int64 ``[n]``: Spark has no unsigned numbers."""
    hashes = (xxhash.xxh64_intdigest(value.encode(), seed=_SEED) >> 1 for value in rows["query_id"].to_pylist())
    return np.fromiter(hashes, dtype=np.int64, count=rows.num_rows)


def answerable(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Guarded rows that a model can answer; the others cannot be labelled."""
    return rows.filter(pc.is_null(rows["error_kind"]))


def smallest(hashes: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` smallest of ``hashes`` (int64 ``[n]``), in no order; all of them if there are fewer."""
    return hashes if len(hashes) <= count else np.partition(hashes, count - 1)[:count]


def sampled_rows(rows: pa.RecordBatch, limit: int, schema: pa.Schema) -> pa.RecordBatch:
    """The answerable rows whose hash is at most ``limit``, with ``schema``: scored rows without a score."""
    able = answerable(rows)
    chosen = able.filter(pa.array(sample_hashes(able) <= limit))
    columns = {name: chosen[name] for name in chosen.schema.names} | {
        "score": pa.nulls(chosen.num_rows, SCORED.field("score").type)
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def in_request_order(rows: pa.Table) -> pa.Table:
    """``rows`` by their text and then their id, so that equal beginnings sit together for an engine's prefix cache."""
    keys = pa.table({"text": request_text(rows), "id": rows["query_id"]})
    return rows.take(pc.sort_indices(keys, [("text", "ascending"), ("id", "ascending")]))


def asked_rows(rows: pa.Table, answers: int) -> pa.Table:
    """Every row ``answers`` times, one after the other; ``answer_number`` counts from 0 and ends the id."""
    index = np.repeat(np.arange(rows.num_rows), answers)
    numbers = np.tile(np.arange(answers, dtype=np.int32), rows.num_rows)
    repeated = rows.take(pa.array(index))
    ids = pc.binary_join_element_wise(repeated["query_id"], pa.array(numbers).cast(pa.string()), "#")
    place = repeated.schema.get_field_index("query_id")
    named = repeated.set_column(place, SCORED.field("query_id"), ids)
    return named.append_column(pa.field(ANSWER, pa.int32(), nullable=False), pa.array(numbers))


def queries_per_shard(shard_rows: int, answers: int) -> int:
    """Queries whose answers share a shard of about ``shard_rows`` rows: all answers to a query are in one."""
    return max(1, shard_rows // answers)
