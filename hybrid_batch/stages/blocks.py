"""Rows on their way to their shards: packed into blocks, of which a shuffle need know nothing but where they go.

A partition is a set of whole shards.  Blocks are made of some tens of megabytes of rows at once and hold what these
have for one partition, so that the shuffle moves thousands of rows as one value, compressed, and never looks into them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.stages.route import request_text, split_runs
from hybrid_batch.tables import BLOCKS, SHARD

PACKED_BYTES: Final = 64 << 20
"""Rows that are packed at once: as many as a worker holds, and not more."""

SENT_BYTES: Final = 4 << 20
"""Blocks that are handed over at once."""

PARTITION_BYTES: Final = 64 << 20
"""Rows of one partition, uncompressed: who unpacks it holds them twice."""


def partitions_of(total_bytes: int, shards: int) -> int:
    """Partitions for ``shards`` shards of ``total_bytes`` bytes together: at least one, at most one for each shard."""
    return max(1, min(shards, -(-total_bytes // PARTITION_BYTES)))


def pack(batches: Iterable[pa.RecordBatch], partitions: int) -> Iterator[pa.RecordBatch]:
    """Rows with a ``shard`` -> ``BLOCKS``; the rows of shard ``n`` go to partition ``n % partitions``."""
    for rows in _chunks(batches):
        places = rows[SHARD].to_numpy() % partitions
        order = np.argsort(places, kind="stable")
        sorted_rows, ends = rows.take(pa.array(order)), places[order]
        edges = [0, *(np.flatnonzero(np.diff(ends)) + 1).tolist(), len(ends)]
        pieces = ((int(ends[start]), sorted_rows.slice(start, stop - start)) for start, stop in pairwise(edges))
        yield from _sent((place, _packed(piece)) for place, piece in pieces)


def unpack(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pa.Table]]:
    """All ``BLOCKS`` of one partition -> its shards in the order of their numbers, each with its rows.

    Rows stand in the order of their text and then their id, whatever the order of the blocks.
    """
    pieces = [_unpacked(block) for batch in batches for block in batch["rows"]]
    if not pieces:
        return
    rows = pa.concat_tables(pieces)
    keys = pa.table({"shard": rows[SHARD], "text": request_text(rows), "id": rows["query_id"]})
    order = pc.sort_indices(keys, [(name, "ascending") for name in keys.column_names])
    yield from split_runs(iter(rows.take(order).to_batches()), SHARD)


def _chunks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """``batches`` put together to about :data:`PACKED_BYTES` each; none is empty."""
    held: list[pa.RecordBatch] = []
    for batch in batches:
        if batch.num_rows:
            held.append(batch)
        if sum(one.nbytes for one in held) >= PACKED_BYTES:
            yield pa.concat_batches(held)
            held = []
    if held:
        yield pa.concat_batches(held)


def _options() -> pa.ipc.IpcWriteOptions:
    # Costs a task hardly more than lz4, and the shuffle carries two thirds of its bytes.
    return pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))


def _packed(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=_options()) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


def _unpacked(block: pa.BinaryScalar) -> pa.Table:
    with pa.ipc.open_stream(block.as_buffer()) as reader:
        return reader.read_all()


def _sent(blocks: Iterable[tuple[int, bytes]]) -> Iterator[pa.RecordBatch]:
    """``blocks`` as batches of about :data:`SENT_BYTES`."""
    held: list[tuple[int, bytes]] = []
    for block in blocks:
        held.append(block)
        if sum(len(rows) for _, rows in held) >= SENT_BYTES:
            yield _batch(held)
            held = []
    if held:
        yield _batch(held)


def _batch(blocks: list[tuple[int, bytes]]) -> pa.RecordBatch:
    places, rows = zip(*blocks, strict=True)
    return pa.RecordBatch.from_arrays([pa.array(places, pa.int32()), pa.array(rows, pa.binary())], schema=BLOCKS)
