"""What one task reads: files packed together, files cut, and what a worker holds of them."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import Piece, Split
from hybrid_batch.core.packing import located
from hybrid_batch.spark.batches import BATCH_BYTES, BATCH_ROWS, bounded
from hybrid_batch.spark.readers import read_split
from hybrid_batch.spark.source import plan_input
from tests.support.inputs import column, read, spec_of, write


def table(rows: int, start: int = 0, text: str = "p") -> pa.Table:
    return pa.table({"id": [f"q{start + n}" for n in range(rows)], "prompt": [text] * rows})


def lines(rows: int, text: str = "p", start: int = 0) -> str:
    return "".join(json.dumps({"id": f"q{n:06d}", "prompt": text}) + "\n" for n in range(start, start + rows))


def test_small_files_are_read_together_up_to_each_of_the_limits(tmp_path):
    for number in range(10):
        write(tmp_path / "p" / f"{number}.parquet", table(10, 10 * number))
        write(tmp_path / "j" / f"{number}.jsonl", lines(10, start=10 * number))
    size = (tmp_path / "j" / "0.jsonl").stat().st_size
    for folder, kind in (("p", "parquet"), ("j", "jsonl")):
        for more in ({"rows_per_split": 45}, {"files_per_split": 4}, {"bytes_per_split": 4 * size + 9}):
            if kind == "parquet" and "bytes_per_split" in more:
                continue
            spec = spec_of(tmp_path / folder, kind, **more)
            plan = plan_input(spec)
            assert [len(split.pieces) for split in plan.splits] == [4, 4, 2]
            assert column(read(spec, plan), "query_id") == [f"q{n:0{6 if kind == 'jsonl' else 1}d}" for n in range(100)]


def test_a_row_group_above_the_target_is_cut_into_ranges_of_rows(tmp_path):
    path = write(tmp_path / "q.parquet", table(100), row_group_size=60)
    spec = spec_of(path, rows_per_split=25)
    plan = plan_input(spec)
    url = str(path)
    assert plan.splits == (
        Split(0, (Piece(url, 0, 20, (0, 1)),)),
        Split(1, (Piece(url, 20, 20, (0, 1), skip=20),)),
        Split(2, (Piece(url, 40, 20, (0, 1), skip=40),)),
        Split(3, (Piece(url, 60, 20, (1, 2)),)),
        Split(4, (Piece(url, 80, 20, (1, 2), skip=20),)),
    )
    assert column(read(spec, plan), "query_id") == [f"q{n}" for n in range(100)]
    assert column(read(spec, plan), "source_row") == list(range(100))


def test_bytes_count_only_the_columns_that_are_read(tmp_path):
    wide = table(100).append_column("blob", pa.array([str(n) * 5_000 for n in range(100)]))
    path = write(tmp_path / "q.parquet", wide, row_group_size=10)
    assert len(plan_input(spec_of(path, bytes_per_split=50_000)).splits) == 1
    assert len(plan_input(spec_of(path, bytes_per_split=50_000, keep=("blob",))).splits) > 10


def test_json_lines_are_cut_by_bytes_and_by_the_rows_that_they_seem_to_have(tmp_path):
    path = write(tmp_path / "q.jsonl", lines(1000))
    size = path.stat().st_size
    for more in ({"bytes_per_split": size // 4}, {"rows_per_split": 250}):
        plan = plan_input(spec_of(path, **more))
        assert [split.pieces for split in plan.splits] == [
            (Piece(str(path), first_row, byte_range=(size * part // 4, size * (part + 1) // 4)),)
            for part, first_row in enumerate([0, None, None, None])
        ]
    assert plan_input(spec_of(path)).splits == (Split(0, (Piece(str(path)),)),)


def test_csv_is_read_whole(tmp_path):
    path = write(tmp_path / "q.csv", "id,prompt\n" + 'a,"x\ny"\n' * 1000)
    assert plan_input(spec_of(path, bytes_per_split=100)).splits == (Split(0, (Piece(str(path)),)),)


def test_ids_made_of_places_do_not_depend_on_the_cuts(tmp_path):
    write(tmp_path / "in" / "a.jsonl", "\n".join(lines(50).splitlines()) + "\n\n\n")
    write(tmp_path / "in" / "b.jsonl", lines(7))
    expected = [f"a.jsonl:{n}" for n in range(50)] + [f"b.jsonl:{n}" for n in range(7)]
    for limit in (None, 30, 53):
        for size in (64 << 20, 200, 40):
            spec = spec_of(tmp_path / "in", "jsonl", id_column=None, bytes_per_split=size, limit=limit)
            assert column(read(spec), "query_id") == expected[:limit]


def test_a_piece_whose_place_is_unknown_is_not_read(tmp_path):
    path = write(tmp_path / "q.jsonl", lines(10))
    spec = spec_of(path, bytes_per_split=100)
    with pytest.raises(ValueError, match="were not counted"):
        list(read_split(plan_input(spec).splits[1], spec, ()))


def test_counted_pieces_know_their_first_rows():
    splits = (
        Split(0, (Piece("a"), Piece("b", 0, byte_range=(0, 9)))),
        Split(1, (Piece("b", None, byte_range=(9, 18)),)),
        Split(2, (Piece("b", None, byte_range=(18, 20)), Piece("c"))),
    )
    found = located(splits, [4, 3, 0, 2, 1])
    assert [(piece.first_row, piece.rows) for split in found for piece in split.pieces] == [
        (0, 4),
        (0, 3),
        (3, 0),
        (3, 2),
        (0, 1),
    ]
    assert located(found, [4, 3, 0, 2, 1]) == found


def test_an_empty_id_in_a_later_range_is_told_with_its_row_in_the_file(tmp_path):
    text = lines(40) + "\n" + json.dumps({"id": "", "prompt": "x"}) + "\n" + lines(5)
    path = write(tmp_path / "q.jsonl", text)
    with pytest.raises(InputError, match=r"q\.jsonl: column 'id', row 40: the id is empty \(rows count from 0\)"):
        read(spec_of(path, bytes_per_split=300))


def test_a_broken_line_in_a_later_range_has_its_number_in_the_file(tmp_path):
    path = write(tmp_path / "q.jsonl", lines(150) + "\r\n{broken}\n")
    with pytest.raises(InputError, match=r"q\.jsonl, line 152: not JSON"):
        read(spec_of(path, bytes_per_split=300))


def test_a_line_longer_than_many_ranges_is_one_row(tmp_path):
    path = write(tmp_path / "q.jsonl", lines(3) + lines(1, "y" * 5_000, start=3) + lines(3, start=4))
    rows = read(spec_of(path, bytes_per_split=50))
    assert column(rows, "query_id") == [f"q{n:06d}" for n in range(7)]
    assert column(rows, "source_row") == list(range(7))


def test_a_plan_of_many_files_stays_short():
    pieces = tuple(Piece(f"s3://bucket/night/2026-11-23/part-{n:05d}.jsonl") for n in range(1_000))
    named = len(json.dumps([piece.url.rpartition("/")[2] for piece in pieces]))
    assert len(json.dumps(Split(3, pieces).to_list())) < named + 100
    known = [Piece(piece.url, 0, 12, (0, 1)) for piece in pieces]
    assert len(json.dumps(Split(3, tuple(known)).to_list())) < named + 100 + 25 * len(known)


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv"])
def test_batches_are_bounded_by_bytes(tmp_path, kind):
    sizes = [3 << 20, 10, 5 << 20, 40 << 20, 10, 10, 12 << 20, 12 << 20, 12 << 20]
    rows = [{"id": str(n), "prompt": chr(97 + n) * size} for n, size in enumerate(sizes)]
    if kind == "parquet":
        path = write(tmp_path / "q.parquet", pa.Table.from_pylist(rows))
    elif kind == "jsonl":
        path = write(tmp_path / "q.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    else:
        path = write(tmp_path / "q.csv", "id,prompt\n" + "".join(f"{row['id']},{row['prompt']}\n" for row in rows))
    spec = spec_of(path, max_prompt_bytes=1 << 30)
    (split,) = plan_input(spec).splits
    batches = list(read_split(split, spec, ()))
    assert [len(text) for batch in batches for text in batch["prompt"].to_pylist()] == sizes
    assert all(batch.num_rows == 1 or batch.nbytes <= BATCH_BYTES for batch in batches)
    assert len(batches) < len(sizes)


def test_rows_that_a_dictionary_holds_once_are_bounded_as_well(tmp_path):
    prompts = ["a" * 300_000, "b" * 300_000] * 300
    for values in (pa.array(prompts), pa.array(prompts).dictionary_encode()):
        path = write(tmp_path / "q.parquet", pa.table({"id": [str(n) for n in range(600)], "prompt": values}))
        spec = spec_of(path)
        batches = list(read_split(plan_input(spec).splits[0], spec, ()))
        assert sum(batch.num_rows for batch in batches) == 600
        assert max(batch.nbytes for batch in batches) <= BATCH_BYTES


def test_small_batches_of_many_files_are_put_together(tmp_path):
    for number in range(30):
        write(tmp_path / "in" / f"{number:02d}.jsonl", lines(3))
    spec = spec_of(tmp_path / "in", "jsonl", id_column=None)
    (split,) = plan_input(spec).splits
    (batch,) = read_split(split, spec, ())
    assert batch.num_rows == 90
    many = pa.record_batch({"n": list(range(3 * BATCH_ROWS + 1))})
    assert max(part.num_rows for part in bounded([many])) <= BATCH_ROWS


PEAK = """
import resource, sys
from hybrid_batch.core.inputs import InputSpec
from hybrid_batch.core.packing import located
from hybrid_batch.spark.readers import read_ids, read_split
from hybrid_batch.spark.source import plan_input

spec = InputSpec(path=sys.argv[1], format=sys.argv[2], id_column="id", prompt_column="prompt")
splits = plan_input(spec).splits
counts = [sum(map(len, read_ids(piece, spec))) for split in splits for piece in split.pieces]
for split in located(splits, counts):
    for batch in read_split(split, spec, ()):
        batch.num_rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("kind", ["parquet", "jsonl", "csv", "jsonl.gz"])
def test_a_worker_that_reads_queries_of_a_megabyte_stays_small(tmp_path, kind):
    """400 of them are 400 MB; a worker that reads them needs no more than 200 MB beyond one that reads 40."""
    peaks = []
    for rows in (40, 400):
        path = tmp_path / f"{rows}.{kind}"
        write_megabytes(path, kind, rows)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path), kind.removesuffix(".gz")],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        peaks.append(int(done.stdout))
        path.unlink()
    assert peaks[1] - peaks[0] < 200 << 10


def write_megabytes(path, kind, rows):
    def text(row):
        return f"{row} {chr(97 + row % 26)} " * 1_000_000

    if kind == "parquet":
        schema = pa.schema([("id", pa.string()), ("prompt", pa.string())])
        with pq.ParquetWriter(path, schema, write_batch_size=8) as writer:
            for row in range(0, rows, 8):
                batch = [{"id": str(n), "prompt": text(n)[: 1 << 20]} for n in range(row, row + 8)]
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema), row_group_size=1 << 20)
        return
    opened = pa.CompressedOutputStream(str(path), "gzip") if kind.endswith("gz") else path.open("wb")
    with opened as file:
        file.write(b"id,prompt\n" if kind == "csv" else b"")
        for row in range(rows):
            one = text(row)[: 1 << 20]
            file.write((f"{row},{one}\n" if kind == "csv" else json.dumps({"id": row, "prompt": one}) + "\n").encode())
