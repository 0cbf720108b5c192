"""Query files on S3: cut, packed and compressed as on a disk."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec
from hybrid_batch.spark.source import plan_input
from hybrid_batch.storage import open_store
from tests.support.inputs import parquet_bytes, read

pytestmark = pytest.mark.s3

ROWS = [{"id": f"q{n}", "prompt": f"é {n} " * (n % 50)} for n in range(400)]
TEXT = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def spec_at(folder: str, file_format: str, **more: int) -> InputSpec:
    return InputSpec(path=folder, format=file_format, id_column="id", prompt_column="prompt", **more)


def test_cut_and_packed_files_have_the_rows_that_they_have_whole(s3_folder: str) -> None:
    table = pa.Table.from_pylist(ROWS)
    content = {"jsonl": TEXT, "parquet": parquet_bytes(table, row_group_size=150)}
    for kind, data in content.items():
        for name in ("a", "b"):
            open_store(s3_folder).put(f"{s3_folder}/{kind}/{name}", data)
        whole = read(spec_at(f"{s3_folder}/{kind}", kind))
        cut = spec_at(f"{s3_folder}/{kind}", kind, rows_per_split=70)
        assert len(plan_input(cut).splits) > 8
        assert read(cut) == whole
        assert [row["source_row"] for row in whole] == [*range(400), *range(400)]


def test_compressed_text_is_read_and_damage_is_told_from_a_failing_store(s3_folder: str) -> None:
    url = f"{s3_folder}/q.jsonl.gz"
    open_store(url).put(url, gzip.compress(TEXT[:5000]) + gzip.compress(TEXT[5000:]))
    assert [row["query_id"] for row in read(spec_at(url, "jsonl"))] == [row["id"] for row in ROWS]
    open_store(url).put(url, gzip.compress(TEXT)[:-20])
    with pytest.raises(InputError, match=rf"^{url}: the file is damaged: Truncated compressed stream"):
        read(spec_at(url, "jsonl"))


def test_the_number_of_a_broken_line_is_counted_in_the_file(s3_folder: str) -> None:
    url = f"{s3_folder}/q.jsonl"
    open_store(url).put(url, TEXT + b"\n{broken}\n")
    with pytest.raises(InputError, match=rf"^{url}, line 402: not JSON"):
        read(spec_at(url, "jsonl", bytes_per_split=5000))
