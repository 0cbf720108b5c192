"""Cutting and packing of the input: every row is read exactly once, in order, wherever the cuts fall."""

from __future__ import annotations

import json
from itertools import pairwise

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec, Piece, Split
from hybrid_batch.core.packing import Sized, Target, cut_bytes, cut_rows, limited, located, pack
from hybrid_batch.spark.batches import bounded, window
from hybrid_batch.spark.jsonl import Lines, count_jsonl, rows_before
from hybrid_batch.spark.readers import read_ids, read_split
from hybrid_batch.spark.source import plan_input
from tests.support.inputs import parquet_bytes, read, spec_of, write

LINES = st.sampled_from(
    [b"x", b"", b" ", b"\t", b"\r", b"long" * 9, b"\xef\xbb\xbf", "\u2028é😀".encode(), b"\x00", b"\xff"]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\n\n"])
texts = st.lists(st.tuples(LINES, ENDS), max_size=12).map(lambda pairs: b"".join(a + b for a, b in pairs))
contents = st.builds(lambda text, tail: text + tail, texts, st.sampled_from([b"", b"tail", b"\r"]))

VALUES = st.text(max_size=5) | st.none()
rows = st.lists(VALUES, max_size=12)
groups = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40)), max_size=6)


def ranges(size: int, cuts: set[int]) -> list[tuple[int, int]]:
    return list(pairwise([0, *sorted(cut % size for cut in cuts if cut % size), size]))


@given(contents.filter(bool), st.sets(st.integers(0, 400), max_size=8))
@example(b"a\nb\n", {1, 2, 3})
@example(b"a\r\nb", {1, 2, 3})
@example(b"\n\n\n", {1, 2})
@example(b"one line without an end", {3, 5, 9})
def test_every_line_is_in_one_range_with_its_number(tmp_path_factory, content, cuts):
    path = str(write(tmp_path_factory.mktemp("cut") / "q.jsonl", content))
    whole = [(f"{path}, line {number}", line) for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    parts = [Lines(path, *part) for part in ranges(len(content), cuts)]
    found = [(part.place(number), line.removesuffix(b"\n")) for part in parts for number, line in part]
    assert found == whole
    pieces = [Piece(path, byte_range=part) for part in ranges(len(content), cuts)]
    counts = [count_jsonl(piece) for piece in pieces]
    assert [rows_before(piece) for piece in pieces] == [sum(counts[:place]) for place in range(len(pieces))]


def as_line(number: int, value: str | None, end: str) -> str:
    return json.dumps({"id": number, "prompt": value}, ensure_ascii=number % 2 == 0) + end


@given(
    rows.filter(bool), st.sampled_from(["\n", "\r\n", "\n \n"]), st.booleans(), st.sets(st.integers(0, 400), max_size=8)
)
def test_a_cut_file_has_the_rows_and_places_of_the_whole_one(tmp_path_factory, values, end, last, cuts):
    text = "\ufeff" + "".join(as_line(number, value, end) for number, value in enumerate(values))
    path = write(tmp_path_factory.mktemp("cut") / "q.jsonl", text if last else text.removesuffix(end))
    size = path.stat().st_size
    for spec in (spec_of(path), spec_of(path, id_column=None)):
        plan = plan_input(spec)
        whole = [row for batch in read_split(plan.splits[0], spec, ()) for row in batch.to_pylist()]
        pieces = tuple(Piece(str(path), None if a else 0, byte_range=(a, b)) for a, b in ranges(size, cuts))
        counts = [sum(map(len, read_ids(piece, spec))) for piece in pieces]
        (split,) = located([Split(0, pieces)], counts)
        assert [row for batch in read_split(split, spec, ()) for row in batch.to_pylist()] == whole
        assert [row["source_row"] for row in whole] == list(range(len(values)))


@given(
    rows.filter(bool),
    st.integers(0, 11),
    st.sampled_from(["{", "[]", '{"id": []}', '\ufeff{"id": 1}']),
    st.sets(st.integers(0, 400)),
)
def test_a_broken_line_is_told_by_the_same_message_wherever_the_file_is_cut(tmp_path_factory, values, at, bad, cuts):
    lines = [as_line(number, value, "\n") for number, value in enumerate(values)]
    lines.insert(at, f"{bad}\n")
    path = write(tmp_path_factory.mktemp("cut") / "q.jsonl", "".join(lines))
    spec = spec_of(path)
    pieces = [Piece(str(path), None if a else 0, byte_range=(a, b)) for a, b in ranges(path.stat().st_size, cuts)]
    assert message([Piece(str(path))], spec) == message(pieces, spec)


def message(pieces: list[Piece], spec: InputSpec) -> str | None:
    try:
        for piece in pieces:
            list(read_ids(piece, spec))
    except InputError as error:
        return str(error)
    return None


@settings(max_examples=50)
@given(
    st.lists(rows, min_size=1, max_size=4),
    st.integers(1, 7),
    st.integers(1, 30),
    st.integers(20, 2000),
    st.integers(1, 3),
    st.none() | st.integers(1, 20),
    st.sampled_from(["parquet", "jsonl", "csv"]),
)
def test_packed_splits_hold_the_rows_of_all_files_in_order(
    tmp_path_factory, files, group, rows_per_split, bytes_per_split, files_per_split, limit, file_format
):
    folder = tmp_path_factory.mktemp("in")
    expected = []
    for number, values in enumerate(files):
        named = [{"id": f"{number}-{row}", "prompt": value or "-"} for row, value in enumerate(values)]
        expected += [(row["id"], place) for place, row in enumerate(named)]
        if file_format == "parquet":
            table = pa.Table.from_pylist(named, pa.schema([("id", pa.string()), ("prompt", pa.string())]))
            content: bytes | str = parquet_bytes(table, row_group_size=group)
        elif file_format == "jsonl":
            named = [*named, {"id": f"{number}-x", "prompt": "\n" * group}]
            expected.append((f"{number}-x", len(values)))
            content = "".join(json.dumps(row) + "\n" for row in named)
        else:
            content = "id,prompt\n" + "".join(f'{row["id"]},"{group * chr(10)}"\n' for row in named)
        write(folder / f"{number}.{file_format}", content)
    sizes = {"rows_per_split": rows_per_split, "bytes_per_split": bytes_per_split, "files_per_split": files_per_split}
    spec = spec_of(folder, file_format, limit=limit, **sizes)
    plan = plan_input(spec)
    assert [(row["query_id"], row["source_row"]) for row in read(spec, plan)] == expected[:limit]
    assert [split.number for split in plan.splits] == list(range(len(plan.splits)))
    assert all(len(split.pieces) <= files_per_split for split in plan.splits)
    if plan.rows is not None:
        assert plan.rows == len(expected[:limit])
    if file_format == "parquet":
        assert all((split.rows or 0) <= rows_per_split for split in plan.splits)


@given(groups, st.integers(1, 20), st.integers(1, 60), st.integers(1, 4), st.none() | st.integers(1, 60))
def test_splits_are_as_full_as_the_target_allows(found, rows_, size, pieces, limit):
    target = Target(rows_, size, pieces)
    sized, first_row = [], 0
    for index, (own, own_size) in enumerate(found):
        whole = Piece("/a", first_row, own, (index, index + 1))
        cut = cut_rows(whole, target.parts(own, own_size))
        sized += [Sized(piece, piece.rows, own_size * piece.rows // own) for piece in cut]
        first_row += own
    if limit is not None:
        sized = list(limited(sized, limit))
    splits = pack(sized, target)
    held = [piece for split in splits for piece in split.pieces]
    row = 0
    for piece in held:
        assert piece.first_row == row
        assert sum(own for own, _ in found[: piece.row_groups[0]]) + piece.skip == row
        row += piece.rows
        assert sum(own for own, _ in found[: piece.row_groups[1]]) >= row
    assert row == min(limit or first_row, first_row)
    assert all(0 < (split.rows or 0) <= rows_ for split in splits)
    assert located(splits, [piece.rows for piece in held]) == splits


@given(st.integers(1, 1000), st.integers(1, 20))
def test_bytes_are_cut_without_gaps(size, parts):
    pieces = list(cut_bytes("/a", size, parts))
    if parts > 1:
        assert [piece.byte_range for piece in pieces] == list(pairwise([0, *(p.byte_range[1] for p in pieces)]))
        assert pieces[-1].byte_range[1] == size
        assert max(b - a for a, b in (piece.byte_range for piece in pieces)) <= -(-size // parts)
    assert [piece.first_row for piece in pieces] == [0] + [None] * (len(pieces) - 1)


@given(st.lists(st.integers(0, 9), max_size=6), st.integers(0, 30), st.none() | st.integers(0, 30))
def test_a_window_is_a_slice(sizes, skip, rows_):
    numbers = iter(range(sum(sizes)))
    batches = [pa.record_batch({"n": [next(numbers) for _ in range(size)]}) for size in sizes]
    found = [value for batch in window(batches, skip, rows_) for value in batch["n"].to_pylist()]
    assert found == list(range(sum(sizes)))[skip : None if rows_ is None else skip + rows_]
    assert [value for batch in bounded(batches) for value in batch["n"].to_pylist()] == list(range(sum(sizes)))
