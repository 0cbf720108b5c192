"""Parquet as bytes: an object is built whole in memory and committed with one put."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet as pq


def to_parquet(table: pa.Table, metadata: Mapping[str, str] | None = None) -> bytes:
    """``table`` as zstd Parquet; ``metadata`` goes into the file's key-value metadata."""
    own = {key.encode(): value.encode() for key, value in (metadata or {}).items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


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
