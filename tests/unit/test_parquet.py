"""Parquet as bytes: row groups of bounded size, and what footers tell."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_batch.parquet import (
    ROW_GROUP_BYTES,
    ROW_GROUP_ROWS,
    batches_to_parquet,
    read_batches,
    read_checked,
    to_parquet,
    uncompressed_bytes,
)

SCHEMA = pa.schema([("query_id", pa.string()), ("prompt", pa.string()), ("source_file", pa.string())])


def batch_of(rows: int, size: int) -> pa.RecordBatch:
    columns = [pa.array([f"{n}" for n in range(rows)]), pa.array(["x" * size] * rows), pa.repeat("a.parquet", rows)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@pytest.mark.parametrize(
    ("rows", "size", "batches", "groups"),
    [(0, 0, 0, [0]), (10, 10, 3, [30]), (ROW_GROUP_ROWS // 2, 1, 3, [ROW_GROUP_ROWS, ROW_GROUP_ROWS // 2])],
)
def test_row_groups_are_full_with_so_many_rows(rows: int, size: int, batches: int, groups: list[int]):
    data, total = batches_to_parquet([batch_of(rows, size)] * batches, SCHEMA)
    assert total == rows * batches
    assert groups_of(data) == groups


def test_row_groups_are_full_with_so_many_bytes_too():
    data, _ = batches_to_parquet([batch_of(8, ROW_GROUP_BYTES // 16)] * 5, SCHEMA)
    assert groups_of(data) == [16, 16, 8]


def groups_of(data: bytes) -> list[int]:
    metadata = pq.read_metadata(io.BytesIO(data))
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def test_batches_are_read_within_row_groups_and_columns_as_asked():
    data, _ = batches_to_parquet([batch_of(8, ROW_GROUP_BYTES // 16)] * 3, SCHEMA)
    read = list(read_batches(pa.BufferReader(data), 10, ["query_id"]))
    assert [batch.num_rows for batch in read] == [10, 6, 8]
    assert read[0].schema.names == ["query_id"]
    whole = pa.Table.from_batches(read_batches(pa.BufferReader(data), 10, None))
    assert whole.equals(pa.Table.from_batches([batch_of(8, ROW_GROUP_BYTES // 16)] * 3))


def test_every_bit_of_a_page_is_under_its_checksum():
    texts = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(2_000)]
    table = pa.table({"text": pa.array(texts), "other": pa.array(range(2_000))}).replace_schema_metadata(
        {"own": "kept"}
    )
    data = to_parquet(table)
    read = read_checked(data, ["other", "absent"], whole=True)
    assert read.schema.names == ["other"]
    assert read.schema.metadata[b"own"] == b"kept"
    chunk = pq.read_metadata(io.BytesIO(data)).row_group(0).column(0)
    header = 200
    begin, end = chunk.data_page_offset + header, chunk.data_page_offset + chunk.total_compressed_size
    assert chunk.total_compressed_size > 50_000
    for place in np.random.default_rng(0).integers(begin, end, 50).tolist():
        broken = bytearray(data)
        broken[place] ^= 1 << (place % 8)
        with pytest.raises(OSError, match="CRC checksum verification failed"):
            read_checked(bytes(broken), ["other"], whole=True)
        assert read_checked(pa.BufferReader(bytes(broken)), ["other"], whole=False).num_rows == 2_000


def test_the_size_of_rows_counts_equal_texts_as_often_as_they_stand_there():
    data, _ = batches_to_parquet([batch_of(100, 10_000)], SCHEMA)
    assert len(data) < 20_000
    assert 1_000_000 < uncompressed_bytes(pa.BufferReader(data)) < 1_010_000
