"""Parquet as bytes: an object is built whole in memory and committed with one put."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS: Final = 16_384
ROW_GROUP_BYTES: Final = 32 << 20
"""A row group is full with so many rows or so many bytes, whichever comes first."""

_DIFFERENT: Final = frozenset({"query_id", "prompt", "messages", "text", "source_row", "score"})
"""Columns whose values hardly repeat: a dictionary of them is built, and then thrown away."""


def to_parquet(table: pa.Table, metadata: Mapping[str, str] | None = None) -> bytes:
    """``table`` as zstd Parquet; ``metadata`` goes into the file's key-value metadata."""
    own = {key.encode(): value.encode() for key, value in (metadata or {}).items()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **own})
    sink = io.BytesIO()
    pq.write_table(table, sink, **_options(table.schema))
    return sink.getvalue()


def batches_to_parquet(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> tuple[bytes, int]:
    """``batches`` as zstd Parquet, and their rows; only one row group is held uncompressed."""
    sink, total = io.BytesIO(), 0
    with pq.ParquetWriter(sink, schema, **_options(schema)) as writer:
        group: list[pa.RecordBatch] = []
        rows = size = 0
        for batch in batches:
            group.append(batch)
            rows, size, total = rows + batch.num_rows, size + batch.nbytes, total + batch.num_rows
            if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(group, schema=schema))
                group, rows, size = [], 0, 0
        writer.write_table(pa.Table.from_batches(group, schema=schema))
    return sink.getvalue(), total


def _options(schema: pa.Schema) -> dict[str, Any]:
    repeating = [name for name in schema.names if name not in _DIFFERENT]
    return {
        "compression": "zstd",
        "compression_level": 1,
        "use_dictionary": repeating or False,
        "write_page_checksum": True,
    }


def read_batches(file: pa.NativeFile, most_rows: int, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The rows of ``file`` in batches of at most ``most_rows``, none larger than its row group."""
    with pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            yield from parquet.iter_batches(most_rows, [group], list(columns) if columns else None, use_threads=False)


def read_checked(source: bytes | pa.NativeFile, columns: Sequence[str], *, whole: bool) -> pa.Table:
    """The ``columns`` that are there, with the file's metadata; every page that is read is held against its checksum.

    ``whole`` reads and decodes all other columns as well.  Raises ``OSError`` or ``pyarrow.ArrowException`` for damage.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        schema = parquet.schema_arrow
        present = [name for name in columns if name in schema.names]
        wanted = None if whole else present
        groups = [
            parquet.read_row_group(group, wanted, use_threads=False).select(present)
            for group in range(parquet.num_row_groups)
        ]
    empty = schema.empty_table().select(present)
    return pa.concat_tables([empty, *groups]).replace_schema_metadata(schema.metadata)


def uncompressed_bytes(file: pa.NativeFile) -> int:
    """What the columns of ``file`` come to before compression, from its footer alone."""
    with pq.ParquetFile(file) as parquet:
        return sum(parquet.metadata.row_group(group).total_byte_size for group in range(parquet.num_row_groups))


def from_parquet(data: bytes) -> pa.Table:
    """The table in ``data``, with its metadata.  Raises ``pyarrow.ArrowInvalid`` if ``data`` is no Parquet."""
    return pq.read_table(io.BytesIO(data), use_threads=False)


def schema_of(source: pa.NativeFile) -> pa.Schema:
    """The columns of ``source``, without its metadata, read from the footer alone."""
    with pq.ParquetFile(source) as parquet:
        return parquet.schema_arrow.remove_metadata()


def metadata_value(source: bytes | pa.NativeFile, key: str) -> str | None:
    """One entry of the key-value metadata, read from the footer alone; None if absent."""
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    with pq.ParquetFile(file) as parquet:
        metadata = parquet.schema_arrow.metadata or {}
    value = metadata.get(key.encode())
    return value.decode() if value is not None else None
