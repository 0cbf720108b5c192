"""Damage to Parquet that pyarrow takes without a word: rows are never left out in silence."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from hybrid_batch.core.errors import InputError
from tests.support.inputs import parquet_bytes, read, spec_of, write

ROWS = 43
COUNT = bytes([2 * ROWS])
"""The number of rows, as a footer writes it."""


def a_file(**options: object) -> bytes:
    table = pa.table({"id": [f"q{n}" for n in range(ROWS)], "prompt": [f"question {n}" for n in range(ROWS)]})
    return parquet_bytes(table, **options)


def rows_or_refusal(path: Path, content: bytes) -> int | None:
    write(path, content)
    try:
        return len(read(spec_of(path)))
    except InputError:
        return None


def footer_of(content: bytes) -> range:
    """The places of the footer."""
    return range(len(content) - 8 - int.from_bytes(content[-8:-4], "little"), len(content) - 8)


@pytest.mark.parametrize("options", [{}, {"compression": "lz4", "data_page_version": "2.0", "data_page_size": 64}])
def test_a_flipped_bit_in_the_head_of_a_page_leaves_no_row_out(tmp_path, options):
    content = a_file(**options, write_batch_size=8)
    flips = [(at, 1 << bit) for at in range(4, 16) for bit in range(8)]
    files = [content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :] for at, bit in flips]
    found = [rows_or_refusal(tmp_path / "q.parquet", damaged) for damaged in files]
    assert set(found) <= {ROWS, None}
    assert None in found


def test_a_footer_whose_counts_disagree_is_refused(tmp_path):
    content = a_file()
    places = [at for at in footer_of(content) if content[at : at + 1] == COUNT]
    found = [rows_or_refusal(tmp_path / "q.parquet", content[:at] + b"\x54" + content[at + 1 :]) for at in places]
    assert set(found) <= {ROWS, None}
    assert found.count(None) >= 2


def test_a_column_whose_name_is_no_text_is_refused_with_the_file(tmp_path):
    path = write(tmp_path / "q.parquet", a_file(store_schema=False).replace(b"prompt", b"\xffrompt"))
    with pytest.raises(InputError, match=r"q\.parquet: input\.format is parquet, but the file is no Parquet, or cut"):
        read(spec_of(path))
