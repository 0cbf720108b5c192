"""Parquet as people write it, and as disks break it."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pyarrow as pa
import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import Piece, Split
from hybrid_batch.spark.source import plan_input
from tests.support.inputs import column, parquet_bytes, read, spec_of, write

TWO = pa.table({"id": ["a", "b"], "prompt": ["x", None]})
NOT_UTF8 = pa.Array.from_buffers(pa.string(), 3, pa.array([b"ok", b"\xff\xfe", b"ok"], pa.binary()).buffers())


def numbered(rows: int, start: int = 0) -> pa.Table:
    return pa.table({"id": [f"q{start + n}" for n in range(rows)], "prompt": [f"p{start + n}" for n in range(rows)]})


def test_row_groups_become_splits_of_about_the_size_asked_for(tmp_path):
    path = write(tmp_path / "q.parquet", numbered(70), row_group_size=10)
    plan = plan_input(spec_of(path, rows_per_split=25))
    assert plan.splits == (
        Split(0, (Piece(str(path), 0, 20, (0, 2)),)),
        Split(1, (Piece(str(path), 20, 20, (2, 4)),)),
        Split(2, (Piece(str(path), 40, 20, (4, 6)),)),
        Split(3, (Piece(str(path), 60, 10, (6, 7)),)),
    )
    assert plan.rows == 70
    assert plan.bytes == path.stat().st_size


def test_rows_come_in_order_with_their_place_in_the_file(tmp_path):
    write(tmp_path / "in" / "b.parquet", numbered(7, 5), row_group_size=3)
    write(tmp_path / "in" / "a.parquet", numbered(5), row_group_size=2)
    rows = read(spec_of(tmp_path / "in", "parquet", rows_per_split=3))
    assert column(rows, "query_id") == [f"q{n}" for n in range(12)]
    assert column(rows, "source_row") == [*range(5), *range(7)]
    assert column(rows, "source_file") == [str(tmp_path / "in/a.parquet")] * 5 + [str(tmp_path / "in/b.parquet")] * 7


@pytest.mark.parametrize("limit", [1, 4, 5, 6, 11, 12, 99])
def test_a_limit_takes_the_first_rows_across_files(tmp_path, limit):
    write(tmp_path / "in" / "a.parquet", numbered(5), row_group_size=2)
    write(tmp_path / "in" / "b.parquet", numbered(7, 5), row_group_size=3)
    spec = spec_of(tmp_path / "in", "parquet", rows_per_split=3, limit=limit)
    plan = plan_input(spec)
    assert column(read(spec, plan), "query_id") == [f"q{n}" for n in range(min(limit, 12))]
    assert plan.rows == min(limit, 12)
    assert [split.number for split in plan.splits] == list(range(len(plan.splits)))


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int32(), pa.large_string()),
    ],
    ids=str,
)
def test_text_is_text_in_whatever_encoding(tmp_path, kind):
    columns = {name: pa.array(TWO[name].to_pylist()).cast(kind) for name in TWO.schema.names}
    rows = read(spec_of(write(tmp_path / "q.parquet", pa.table(columns)), keep=("id",)))
    assert column(rows, "query_id") == column(rows, "id") == ["a", "b"]
    assert column(rows, "prompt") == ["x", None]
    assert column(rows, "error_kind") == [None, "null_prompt"]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()], ids=str)
def test_whole_numbers_are_ids(tmp_path, kind):
    table = pa.table({"id": pa.array([7, 120], kind), "prompt": ["x", "y"]})
    assert column(read(spec_of(write(tmp_path / "q.parquet", table))), "query_id") == ["7", "120"]


def test_ids_are_made_from_places_where_there_is_no_column(tmp_path):
    write(tmp_path / "in" / "day" / "a.parquet", numbered(3), row_group_size=2)
    spec = spec_of(tmp_path / "in", "parquet", id_column=None, rows_per_split=1)
    assert column(read(spec), "query_id") == ["day/a.parquet:0", "day/a.parquet:1", "day/a.parquet:2"]
    alone = spec_of(tmp_path / "in" / "day" / "a.parquet", id_column=None)
    assert column(read(alone), "query_id")[2] == "a.parquet:2"


def test_chats_come_as_lists_of_structs_without_their_null_fields(tmp_path):
    chat = [{"role": "system", "content": "s", "name": None}, {"role": "user", "content": "é", "name": "n"}]
    table = pa.table({"id": ["a", "b", "c"], "chat": [chat, None, [{"role": "user", "content": None, "name": None}]]})
    rows = read(spec_of(write(tmp_path / "q.parquet", table), messages_column="chat"))
    assert column(rows, "prompt") == ["é", None, None]
    assert json.loads(rows[0]["messages"]) == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "é", "name": "n"},
    ]
    assert column(rows, "error_kind") == [None, "null_prompt", "invalid_messages"]
    assert rows[2]["error_message"].startswith("messages[0] must be an object with a 'content' that is text or")


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ('[{"role":"user","content":"x"}]', None, None),
        ('[{"role":"wizard","content":"x"}]', "invalid_messages", "role is 'wizard'"),
        ("not json", "invalid_messages", "messages is no JSON"),
        ("", "invalid_messages", "messages is no JSON"),
        ('"hello"', "invalid_messages", "got str"),
        ("[]", "invalid_messages", "non-empty list"),
        ('[{"role":"user","content":"x","weight":NaN}]', "invalid_messages", "not JSON compliant"),
        ('[{"role":"user","content":"\\ud800"}]', "invalid_text", "lone surrogates"),
        ("[" * 100_000, "invalid_messages", "nested too deeply"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_chat_as_text_is_refused_alone(tmp_path, text, kind, message):
    table = pa.table({"id": ["a", "b"], "chat": [text, '[{"role":"user","content":"fine"}]']})
    rows = read(spec_of(write(tmp_path / "q.parquet", table), messages_column="chat"))
    assert column(rows, "error_kind") == [kind, None]
    assert rows[1]["prompt"] == "fine"
    assert (rows[0]["error_message"] is None) if message is None else (message in rows[0]["error_message"])


def test_a_chat_that_is_no_json_is_refused_alone(tmp_path):
    turns = [[{"role": "user", "content": "x", "at": dt.datetime(2026, 1, 1)}], None]
    table = pa.table({"id": ["a", "b"], "chat": turns})
    rows = read(spec_of(write(tmp_path / "q.parquet", table), messages_column="chat"))
    assert column(rows, "error_kind") == ["invalid_messages", "null_prompt"]
    assert "datetime is not JSON" in rows[0]["error_message"]


def test_kept_columns_keep_their_values_in_types_that_spark_carries(tmp_path):
    noon = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)
    table = pa.table(
        {
            "id": ["a"],
            "prompt": ["x"],
            "u8": pa.array([200], pa.uint8()),
            "half": pa.array([1.5], pa.float16()),
            "zoned": pa.array([noon], pa.timestamp("ms", "Europe/Berlin")),
            "nano": pa.array([1_000_000_000_123_456_789], pa.timestamp("ns")),
            "day": pa.array([dt.date(2026, 1, 1)], pa.date64()),
            "word": pa.array(["w"]).dictionary_encode(),
            "none": pa.nulls(1),
            "money": pa.array([Decimal("1.50")]),
            "list": pa.array([[1, 2]], pa.large_list(pa.uint16())),
            "deep": pa.array([{"a": [{"b": "c"}]}]),
            "raw": pa.array([b"ab"], pa.binary(2)),
            "yes": [True],
        }
    )
    names = tuple(table.schema.names[2:])
    spec = spec_of(write(tmp_path / "q.parquet", table), keep=names)
    plan = plan_input(spec)
    row = read(spec, plan)[0]
    assert {field.name: str(field.type) for field in plan.kept} == {
        "u8": "int16",
        "half": "float",
        "zoned": "timestamp[us, tz=UTC]",
        "nano": "timestamp[us]",
        "day": "date32[day]",
        "word": "string",
        "none": "string",
        "money": "decimal128(3, 2)",
        "list": "list<item: int32>",
        "deep": "struct<a: list<item: struct<b: string>>>",
        "raw": "binary",
        "yes": "bool",
    }
    assert (row["u8"], row["half"], row["zoned"], row["day"]) == (200, 1.5, noon, dt.date(2026, 1, 1))
    assert row["nano"] == dt.datetime.fromtimestamp(1_000_000_000, dt.UTC).replace(microsecond=123_456, tzinfo=None)
    assert (row["word"], row["none"], row["money"], row["list"]) == ("w", None, Decimal("1.50"), [1, 2])
    assert (row["deep"], row["raw"], row["yes"]) == ({"a": [{"b": "c"}]}, b"ab", True)


@pytest.mark.parametrize(
    "kind",
    [pa.uint64(), pa.duration("s"), pa.time64("us"), pa.map_(pa.string(), pa.int8()), pa.list_(pa.uint64())],
    ids=str,
)
def test_a_kept_column_that_spark_cannot_carry_is_refused_before_anything_is_read(tmp_path, kind):
    table = pa.table({"id": ["a"], "prompt": ["x"], "odd": pa.nulls(1, kind)})
    with pytest.raises(InputError, match=r"q\.parquet: column 'odd' is .* and cannot be kept; allowed are text"):
        plan_input(spec_of(write(tmp_path / "q.parquet", table), keep=("odd",)))


def test_a_timestamp_beyond_spark_is_told_with_file_and_column(tmp_path):
    table = pa.table({"id": ["a"], "prompt": ["x"], "at": pa.array([2**60], pa.timestamp("ms"))})
    spec = spec_of(write(tmp_path / "q.parquet", table), keep=("at",))
    with pytest.raises(InputError, match=r"q\.parquet: column 'at' cannot be kept as timestamp.*out of bounds"):
        read(spec)


def test_kept_types_must_agree_between_files(tmp_path):
    write(tmp_path / "in/a.parquet", TWO.append_column("k", pa.array([1, 2], pa.int64())))
    write(tmp_path / "in/b.parquet", TWO.append_column("k", pa.array(["1", "2"])))
    with pytest.raises(InputError, match=r"b\.parquet: column 'k' is string, in a\.parquet it is int64"):
        plan_input(spec_of(tmp_path / "in", "parquet", keep=("k",)))


def test_a_category_in_one_file_and_text_in_the_next_agree(tmp_path):
    words = pa.array(["v", "w"])
    write(tmp_path / "in/a.parquet", TWO.append_column("k", words.dictionary_encode()))
    write(tmp_path / "in/b.parquet", pa.table({"id": ["c", "d"], "prompt": ["x", "y"], "k": words}))
    assert column(read(spec_of(tmp_path / "in", "parquet", keep=("k",))), "k") == ["v", "w", "v", "w"]


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("id", [1.5], "column 'id' is double, allowed is text or an integer"),
        ("id", [True], "column 'id' is bool, allowed is text or an integer"),
        ("prompt", [7], "column 'prompt' is int64, allowed is text"),
        ("prompt", [b"x"], "column 'prompt' is binary, allowed is text"),
        ("prompt", [None], "column 'prompt' is null, allowed is text"),
        ("prompt", [["x"]], "allowed is text"),
    ],
)
def test_a_column_of_the_wrong_type_is_refused_with_its_type(tmp_path, name, values, complaint):
    table = pa.table({"id": ["a"], "prompt": ["x"]} | {name: values})
    with pytest.raises(InputError, match=complaint) as refused:
        plan_input(spec_of(write(tmp_path / "q.parquet", table)))
    assert str(tmp_path / "q.parquet") in str(refused.value)


@pytest.mark.parametrize("values", [[["x"]], [1], [{"role": "user"}]], ids=str)
def test_messages_are_text_or_a_list_of_structs(tmp_path, values):
    path = write(tmp_path / "q.parquet", pa.table({"id": ["a"], "chat": values}))
    with pytest.raises(InputError, match=r"column 'chat' is .*, allowed is text \(JSON\) or a list of structs"):
        plan_input(spec_of(path, messages_column="chat"))


def test_a_missing_column_is_named_beside_those_that_are_there(tmp_path):
    path = write(tmp_path / "q.parquet", pa.table({"id": ["a"], " prompt": ["x"]}))
    with pytest.raises(InputError, match=r"q\.parquet: there is no column 'prompt'; the file has 'id', ' prompt'"):
        plan_input(spec_of(path))
    wide = write(tmp_path / "wide.parquet", pa.table({f"c{n}": [1] for n in range(50)}))
    with pytest.raises(InputError, match=r"'c39' and 10 more$"):
        plan_input(spec_of(wide))


def test_a_column_that_stands_there_twice_is_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["x"]), pa.array(["y"])], names=["id", "prompt", "prompt"])
    with pytest.raises(InputError, match=r"q\.parquet: there are 2 columns 'prompt'; it must be one"):
        plan_input(spec_of(write(tmp_path / "q.parquet", table)))


@pytest.mark.parametrize(("ids", "reason"), [(["a", None, "c"], "null"), (["a", "", "c"], "empty")])
def test_an_id_that_names_nothing_is_refused_with_its_row(tmp_path, ids, reason):
    table = pa.table({"id": ids, "prompt": ["x", "y", "z"]})
    path = write(tmp_path / "q.parquet", table, row_group_size=1)
    with pytest.raises(InputError, match=rf"q\.parquet: column 'id', row 1: the id is {reason} \(rows count from 0\)"):
        read(spec_of(path, rows_per_split=1))


@pytest.mark.parametrize("name", ["id", "prompt", "k"])
@pytest.mark.parametrize("groups", [1, 3])
def test_text_that_is_not_utf8_is_refused_with_column_and_row(tmp_path, name, groups):
    columns = {"id": ["a", "b", "c"], "prompt": ["x", "y", "z"], "k": ["l", "m", "n"]} | {name: NOT_UTF8}
    path = write(tmp_path / "q.parquet", pa.table(columns), row_group_size=groups)
    with pytest.raises(InputError, match=rf"q\.parquet: column '{name}', row 1 .*: it is not UTF-8 text"):
        read(spec_of(path, keep=("k",), rows_per_split=1))


@pytest.mark.parametrize(
    "content",
    [b"PAR1", b"PAR1PAR1", b"hello", parquet_bytes(TWO)[:-9], parquet_bytes(TWO)[:-1], parquet_bytes(TWO)[:40]],
    ids=["magic", "twice", "text", "footer", "byte", "head"],
)
def test_a_file_that_is_cut_short_is_refused_before_anything_is_read(tmp_path, content):
    path = write(tmp_path / "q.parquet", content)
    with pytest.raises(InputError) as refused:
        plan_input(spec_of(path))
    assert str(path) in str(refused.value)


def test_damage_inside_a_file_is_told_with_the_file(tmp_path):
    content = bytearray(parquet_bytes(pa.table({"id": ["a"] * 500, "prompt": ["x" * 50] * 500})))
    for place in range(6, 60):
        content[place] ^= 0xFF
    spec = spec_of(write(tmp_path / "q.parquet", bytes(content)))
    with pytest.raises(InputError, match=r"q\.parquet"):
        read(spec)


def test_a_file_without_rows_is_read_as_none(tmp_path):
    empty = TWO.slice(0, 0)
    write(tmp_path / "in/a.parquet", empty)
    assert plan_input(spec_of(tmp_path / "in", "parquet")).rows == 0
    write(tmp_path / "in/b.parquet", TWO)
    assert column(read(spec_of(tmp_path / "in", "parquet", limit=1)), "query_id") == ["a"]
