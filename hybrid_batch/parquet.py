"""Parquet as bytes: an object is built whole in memory and committed with one put."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS: Final = 16_384


def to_parquet(table: pa.Table, metadata: Mapping[str, str] | None = None) -> bytes:
    """``table`` as zstd Parquet; ``metadata`` goes into the file's key-value metadata."""
    own = {key.encode(): value.encode() for key, value in (metadata or {}).items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def batches_to_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> tuple[bytes, int]:
    """``batches`` as zstd Parquet, and their rows; only one row group is held uncompressed."""
    sink, total = io.BytesIO(), 0
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        group: list[pa.RecordBatch] = []
        for batch in batches:
            group.append(batch)
            total += batch.num_rows
            if sum(held.num_rows for held in group) >= ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(group, schema=schema))
                group = []
        writer.write_table(pa.Table.from_batches(group, schema=schema))
    return sink.getvalue(), total


def from_parquet(data: bytes) -> pa.Table:
    """The table in ``data``, with its metadata.  Raises ``pyarrow.ArrowInvalid`` if ``data`` is no Parquet."""
    return pq.read_table(io.BytesIO(data), use_threads=False)


def metadata_value(source: bytes | pa.NativeFile, key: str) -> str | None:
    """One entry of the key-value metadata, read from the footer alone; None if absent."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with pq.ParquetFile(file) as parquet:
        metadata = parquet.schema_arrow.metadata or {}
    value = metadata.get(key.encode())
    return value.decode() if value is not None else None
