"""Text that is compressed by gzip or zstd, whole, in several members, and broken."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import Piece
from hybrid_batch.spark.source import plan_input
from tests.support.inputs import column, parquet_bytes, read, spec_of, write


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS = {"gzip": gzip.compress, "zstd": zstd}
by_both = pytest.mark.parametrize("kind", COMPRESS)


def jsonl(start: int, stop: int, text: str = "é😀 x") -> bytes:
    return "".join(json.dumps({"id": n, "prompt": text}) + "\n" for n in range(start, stop)).encode()


@by_both
def test_members_that_follow_each_other_are_one_text(tmp_path, kind):
    text = jsonl(0, 30)
    data = b"".join(COMPRESS[kind](part) for part in (text[:100], b"", text[100:101], text[101:]))
    rows = read(spec_of(write(tmp_path / "q.jsonl", data)))
    assert column(rows, "query_id") == [str(n) for n in range(30)]
    assert set(column(rows, "prompt")) == {"é😀 x"}
    assert column(rows, "source_row") == list(range(30))


@by_both
def test_a_name_does_not_say_what_is_compressed(tmp_path, kind):
    write(tmp_path / "in" / "a.jsonl.gz", jsonl(0, 2))
    write(tmp_path / "in" / "b.jsonl", COMPRESS[kind](b"\xef\xbb\xbf" + jsonl(2, 4)))
    assert column(read(spec_of(tmp_path / "in", "jsonl")), "query_id") == ["0", "1", "2", "3"]
    assert column(read(spec_of(tmp_path / "in", "jsonl", limit=3)), "query_id") == ["0", "1", "2"]


@by_both
def test_csv_is_decompressed_too(tmp_path, kind):
    path = write(tmp_path / "q.csv", COMPRESS[kind](b'\xef\xbb\xbfid,prompt\na,"two\nlines"\nb,y\n'))
    assert column(read(spec_of(path)), "prompt") == ["two\nlines", "y"]


@by_both
def test_a_compressed_file_is_never_cut_and_counts_with_its_text(tmp_path, kind):
    for name in "abcd":
        write(tmp_path / "in" / name, COMPRESS[kind](jsonl(0, 400, "word " * 40)))
    size = (tmp_path / "in" / "a").stat().st_size
    spec = spec_of(tmp_path / "in", "jsonl", bytes_per_split=11 * size)
    plan = plan_input(spec)
    assert [[piece.url[-1] for piece in split.pieces] for split in plan.splits] == [["a", "b"], ["c", "d"]]
    small = plan_input(spec_of(tmp_path / "in", "jsonl", bytes_per_split=100, rows_per_split=1))
    assert [split.pieces for split in small.splits] == [(Piece(str(tmp_path / "in" / name)),) for name in "abcd"]


@by_both
@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.parametrize("left", [12, 0.5, -1])
def test_a_file_that_ends_too_soon_is_named(tmp_path, kind, suffix, left):
    text = jsonl(0, 3000) if suffix == "jsonl" else b"id,prompt\n" + b"".join(b"%d,x\n" % n for n in range(9000))
    data = COMPRESS[kind](text)
    path = write(tmp_path / f"q.{suffix}", data[: round(left * len(data)) if isinstance(left, float) else left])
    with pytest.raises(InputError) as refused:
        read(spec_of(path))
    assert str(refused.value) == f"{path}: the file is damaged: Truncated compressed stream"


@by_both
def test_what_follows_the_compressed_text_is_no_text(tmp_path, kind):
    path = write(tmp_path / "q.jsonl", COMPRESS[kind](jsonl(0, 3)) + jsonl(3, 4))
    with pytest.raises(InputError, match=rf"^{path}: the file is damaged: "):
        read(spec_of(path))


def test_bytes_that_changed_are_found_by_the_checksum_of_gzip(tmp_path):
    data = bytearray(gzip.compress(jsonl(0, 3000)))
    data[-6] ^= 1
    path = write(tmp_path / "q.jsonl", bytes(data))
    with pytest.raises(InputError, match=rf"^{path}: the file is damaged: zlib inflate failed: incorrect data check"):
        read(spec_of(path))


@by_both
def test_a_broken_line_has_the_number_that_it_has_in_the_text(tmp_path, kind):
    path = write(tmp_path / "q.jsonl", COMPRESS[kind](jsonl(0, 200) + b"{broken}\n"))
    with pytest.raises(InputError, match=rf"^{path}, line 201: not JSON: "):
        read(spec_of(path))


@by_both
@pytest.mark.parametrize("wanted", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("inside", "what"),
    [
        (parquet_bytes(pa.table({"id": ["a"]})), "a Parquet file; set input.format: parquet"),
        ('{"id": 1}\n'.encode("utf-16"), "UTF-16 text; text is read as UTF-8"),
        (gzip.compress(b"{}"), "gzip-compressed; text is decompressed once"),
        (zstd(b"{}"), "zstd-compressed; text is decompressed once"),
    ],
    ids=["parquet", "utf16", "gzip", "zstd"],
)
def test_what_is_no_text_inside_is_told(tmp_path, kind, wanted, inside, what):
    path = write(tmp_path / "q", COMPRESS[kind](inside))
    with pytest.raises(InputError) as refused:
        plan_input(spec_of(path, wanted))
    message = f"{path}: input.format is {wanted}, but the file is inside its {kind} compression {what}"
    assert str(refused.value).startswith(message)


@by_both
def test_nothing_compressed_is_a_file_of_blank_lines(tmp_path, kind):
    path = write(tmp_path / "q.jsonl", COMPRESS[kind](b""))
    with pytest.raises(InputError, match=r"q\.jsonl: the file has only blank lines"):
        plan_input(spec_of(path))


def test_parquet_that_was_compressed_again_is_refused(tmp_path):
    path = write(tmp_path / "q.parquet", gzip.compress(parquet_bytes(pa.table({"id": ["a"]}))))
    with pytest.raises(InputError, match=r"the file is gzip-compressed; .*Parquet is compressed inside: decompress it"):
        plan_input(spec_of(path))
