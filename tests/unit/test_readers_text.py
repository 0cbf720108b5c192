"""JSON lines and CSV as people write them: what is read, what is refused alone, what stops the run."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.spark.batches import BATCH_ROWS
from hybrid_batch.spark.source import plan_input
from tests.support.inputs import column, parquet_bytes, read, spec_of, write

PARQUET = parquet_bytes(pa.table({"id": ["a"], "prompt": ["x"]}))
LONG = "x" * 3_000_000


def lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def jsonl(tmp_path, *rows: object, **more):
    return spec_of(write(tmp_path / "q.jsonl", lines(*rows)), **more)


def csv(tmp_path, text: str | bytes, **more):
    return spec_of(write(tmp_path / "q.csv", text), **more)


def refusal(spec) -> str:
    """The message with which reading stops, which begins with the file."""
    with pytest.raises(InputError) as refused:
        read(spec)
    assert str(refused.value).startswith(spec.path)
    return str(refused.value).removeprefix(spec.path)


OK = {"id": "a", "prompt": "x"}


def test_json_lines_are_read_whatever_their_line_ends(tmp_path):
    text = '\ufeff{"id": "a", "prompt": "x"}\r\n\r\n   \n{"id": 7, "prompt": "\\u00e9\u2028é"}\n'
    text += '{"id": "c", "prompt": null}'
    rows = read(spec_of(write(tmp_path / "q.jsonl", text)))
    assert column(rows, "query_id") == ["a", "7", "c"]
    assert column(rows, "prompt") == ["x", "é\u2028é", None]
    assert column(rows, "error_kind") == [None, None, "null_prompt"]
    assert column(rows, "source_row") == [0, 1, 2]


def test_a_missing_prompt_is_a_refused_row_and_a_missing_id_stops_the_run(tmp_path):
    rows = read(jsonl(tmp_path, OK, {"id": "b"}, {"id": "c", "prompt": ""}))
    assert column(rows, "error_kind") == [None, "null_prompt", "empty_prompt"]
    assert refusal(jsonl(tmp_path, OK, "", {"prompt": "x"})) == (
        ", line 3: column 'id' is null, allowed is text or an integer"
    )


@pytest.mark.parametrize("value", [True, 1.5, [1], {"a": 1}, None, "\ud800"], ids=str)
def test_an_id_is_text_or_an_integer(tmp_path, value):
    shown = json.dumps(value)
    assert refusal(jsonl(tmp_path, OK, {"id": value, "prompt": "x"})) == (
        f", line 2: column 'id' is {shown}, allowed is text or an integer"
    )


@pytest.mark.parametrize("value", [7, True, ["x"], {"text": "x"}], ids=str)
def test_a_prompt_that_is_no_text_is_named(tmp_path, value):
    shown = json.dumps(value)
    assert refusal(jsonl(tmp_path, {"id": "a", "prompt": value})) == (
        f", line 1: column 'prompt' is {shown}, allowed is text or null"
    )


def test_a_long_value_is_shown_shortened(tmp_path):
    assert refusal(jsonl(tmp_path, {"id": ["y" * 500], "prompt": "x"})).count("y") < 100


def test_an_empty_id_is_refused_with_its_row(tmp_path):
    expected = ": column 'id', row 1: the id is empty (rows count from 0)"
    assert refusal(jsonl(tmp_path, OK, {"id": "", "prompt": "x"})) == expected
    assert refusal(csv(tmp_path, "id,prompt\na,x\n,y\n")) == expected


def test_kept_values_that_are_no_text_are_kept_as_json(tmp_path):
    values = ["text", 7, 1.5, True, None, [1, "é"], {"a": None}]
    rows = read(jsonl(tmp_path, *({"id": n, "prompt": "x", "k": v} for n, v in enumerate(values)), keep=("k",)))
    assert column(rows, "k") == ["text", "7", "1.5", "true", None, '[1, "é"]', '{"a": null}']


def test_a_kept_key_that_a_row_lacks_is_null_and_one_that_none_has_is_refused(tmp_path):
    rows = read(jsonl(tmp_path, OK, OK | {"id": "b", "k": "v"}, keep=("k",)))
    assert column(rows, "k") == [None, "v"]
    assert refusal(jsonl(tmp_path, OK, keep=("k",))) == ": there is no column 'k'; the file has 'id', 'prompt'"


@pytest.mark.parametrize("name", ["prompt", "k"])
def test_lone_surrogates_refuse_their_row_alone(tmp_path, name):
    bad = {"id": "b", "prompt": "fine", "k": "fine"} | {name: "a\ud800b"}
    rows = read(jsonl(tmp_path, OK, bad, OK | {"id": "c"}, keep=("k",)))
    assert column(rows, "error_kind") == [None, "invalid_text", None]
    assert rows[1][name] == "a?b"


def test_surrogate_pairs_are_text(tmp_path):
    assert column(read(jsonl(tmp_path, '{"id": "a", "prompt": "\\ud83d\\ude00"}')), "prompt") == ["\U0001f600"]


def test_chats_are_lists_or_their_json(tmp_path):
    chat = [{"role": "user", "content": "é"}, {"role": "assistant", "content": "b"}]
    given = [chat, json.dumps(chat), None, "broken", 7, [{"role": "user", "content": "\ud800"}]]
    rows = read(jsonl(tmp_path, *({"id": n, "m": value} for n, value in enumerate(given)), messages_column="m"))
    assert column(rows, "prompt") == ["é", "é", None, None, None, "?"]
    assert json.loads(rows[0]["messages"]) == json.loads(rows[1]["messages"]) == chat
    assert column(rows, "error_kind") == [
        None,
        None,
        "null_prompt",
        "invalid_messages",
        "invalid_messages",
        "invalid_text",
    ]
    assert rows[3]["messages"] == "broken"


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (b"{broken}", "not JSON: Expecting property name"),
        (b'{"id": "b", "prompt": "x"', "not JSON: Expecting ',' delimiter"),
        (b'{"id": "b"} {"id": "c"}', "not JSON: Extra data"),
        (b"[1, 2]", "a line must be a JSON object, this one is a list"),
        (b'"text"', "a line must be a JSON object, this one is a str"),
        (b'{"id": "b", "prompt": "caf\xe9"}', "not UTF-8 text: "),
        (b'{"id": "b", "prompt": "x\x00y"}', "not JSON: Invalid control character"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not JSON: Exceeds the limit"),
        (b'{"k": ' + b"[" * 100_000 + b"}", "the JSON is nested too deeply"),
    ],
    ids=lambda value: str(value)[:24],
)
@pytest.mark.parametrize("before", [1, 150])
def test_a_line_that_is_no_json_object_stops_the_run_with_its_number(tmp_path, bad, complaint, before):
    good = b"".join(json.dumps({"id": n, "prompt": "x"}).encode() + b"\n" for n in range(before))
    message = refusal(spec_of(write(tmp_path / "q.jsonl", good + b"\n" + bad + b"\n")))
    assert message.startswith(f", line {before + 2}: {complaint}")
    assert "\n" not in message


def test_a_limit_counts_rows_not_lines_across_files(tmp_path):
    write(tmp_path / "in" / "a.jsonl", lines("", {"id": 1, "prompt": "x"}, "", {"id": 2, "prompt": "y"}))
    write(tmp_path / "in" / "b.jsonl", lines({"id": 3, "prompt": "z"}, {"id": 4, "prompt": "w"}))
    for limit in range(1, 6):
        plan = plan_input(spec_of(tmp_path / "in", "jsonl", limit=limit))
        rows = read(spec_of(tmp_path / "in", "jsonl", limit=limit), plan)
        assert column(rows, "query_id") == [str(n) for n in range(1, min(limit, 4) + 1)]
        assert plan.rows == min(limit, 4)
    assert plan_input(spec_of(tmp_path / "in", "jsonl")).rows is None


def test_more_rows_than_a_batch_keep_their_numbers(tmp_path):
    count = BATCH_ROWS + 3
    rows = read(jsonl(tmp_path, *({"id": n, "prompt": "x"} for n in range(count))))
    assert column(rows, "source_row") == list(range(count))
    rows = read(csv(tmp_path, "id,prompt\n" + "".join(f"{n},x\n" for n in range(count))))
    assert column(rows, "query_id") == [str(n) for n in range(count)]


def test_csv_is_read_with_quotes_newlines_and_blank_lines(tmp_path):
    text = '\ufeffid,"prompt",k\r\na,"two\nlines, ""quoted""",1\r\n\r\nb,,\r\n"c"," ",é\r\n'
    rows = read(csv(tmp_path, text, keep=("k",)))
    assert column(rows, "query_id") == ["a", "b", "c"]
    assert column(rows, "prompt") == ['two\nlines, "quoted"', "", " "]
    assert column(rows, "error_kind") == [None, "empty_prompt", "empty_prompt"]
    assert column(rows, "k") == ["1", "", "é"]
    assert column(rows, "source_row") == [0, 1, 2]


def test_columns_of_a_csv_come_in_any_order_and_others_are_left_out(tmp_path):
    rows = read(csv(tmp_path, "k,prompt,more,id\n1,x,9,a\n", keep=("k", "id")))
    assert [(row["query_id"], row["prompt"], row["k"], row["id"]) for row in rows] == [("a", "x", "1", "a")]
    assert "more" not in rows[0]


def test_old_line_ends_are_line_ends(tmp_path):
    assert column(read(csv(tmp_path, "id,prompt\ra,x\rb,y\r")), "prompt") == ["x", "y"]


def test_a_header_alone_is_a_file_without_rows(tmp_path):
    for text in ("id,prompt\n", "id,prompt", "\n\nid,prompt\n\n"):
        assert read(csv(tmp_path, text)) == []


def test_a_header_may_span_lines(tmp_path):
    assert column(read(csv(tmp_path, 'id,"two\nlines",prompt\na,b,x\n')), "prompt") == ["x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,prompt\na,x\nb\n", ", line 3: the row has 1 fields, the header has 2"),
        ('id,prompt\na,"x\ny"\nb,y,z\n', ", line 4: the row has 3 fields, the header has 2"),
        ('id,prompt\na,"open\nb,y\nc,z\n', ", line 2: the row that begins here is no CSV: its quote is never closed"),
        ('id,prompt\na,"x"y\n', ", line 2: the row that begins here is no CSV: ',' expected after '\"'"),
        ("id;prompt\na;x\n", ": there is no column 'id'; the file has 'id;prompt'"),
        ("id,query\na,x\n", ": there is no column 'prompt'; the file has 'id', 'query'"),
        ("id,prompt,prompt\na,x,y\n", ": there are 2 columns 'prompt'; it must be one"),
        ("\n \n", ": there is no column 'id'; the file has ' '"),
        ("\n\n", ": the file has only blank lines"),
        (b"id,prompt\na,caf\xe9\n", ", line 2: column 'prompt' is not UTF-8 text"),
        (b"id,prompt\n\xff,x\n", ", line 2: column 'id' is not UTF-8 text"),
    ],
    ids=lambda value: str(value)[:28],
)
def test_a_csv_that_cannot_be_told_apart_stops_the_run_with_its_line(tmp_path, text, message):
    assert refusal(csv(tmp_path, text)) == message


def test_bytes_that_are_no_utf8_in_a_column_nobody_asked_for_do_not_matter(tmp_path):
    assert column(read(csv(tmp_path, b"id,prompt,caf\xe9\na,x,\xe9\n")), "prompt") == ["x"]


def test_a_column_that_stands_there_twice_and_is_not_asked_for_does_not_matter(tmp_path):
    assert column(read(csv(tmp_path, "id,k,prompt,k\na,1,x,2\n")), "prompt") == ["x"]


def test_chats_may_stand_in_a_csv(tmp_path):
    chat = json.dumps([{"role": "user", "content": "hi"}]).replace('"', '""')
    rows = read(csv(tmp_path, f'id,m\na,"{chat}"\nb,\n', messages_column="m"))
    assert column(rows, "prompt") == ["hi", None]
    assert column(rows, "error_kind") == [None, "invalid_messages"]


def test_a_csv_is_cut_at_the_limit(tmp_path):
    text = "id,prompt\n" + "".join(f'{n},"a\nb"\n' for n in range(9))
    for limit in (1, 4, 9, 20):
        spec = csv(tmp_path, text, limit=limit)
        assert plan_input(spec).rows == min(limit, 9)
        assert column(read(spec), "query_id") == [str(n) for n in range(min(limit, 9))]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_query_of_megabytes_is_refused_alone(tmp_path, suffix):
    rows = [("a", LONG), ("b", "short"), ("c", LONG.replace("xx", "x\n"))]
    as_csv = "id,prompt\n" + "".join(f'{name},"{text}"\n' for name, text in rows)
    text = as_csv if suffix == "csv" else lines(*({"id": name, "prompt": text} for name, text in rows))
    found = read(spec_of(write(tmp_path / f"q.{suffix}", text), max_prompt_bytes=1000))
    assert column(found, "error_kind") == ["prompt_too_large", None, "prompt_too_large"]
    assert found[0]["error_message"] == "the query has 3000000 bytes, allowed are 1000"


@pytest.mark.parametrize(
    ("name", "head", "complaint"),
    [
        ("q.jsonl", b"", "line 1: the line is longer than 67,108,864 bytes"),
        ("q.csv", b"", "line 1: the line is longer than 67,108,864 bytes"),
        ("q.csv", b'id,prompt\na,"x\n', "is a quote left open?"),
    ],
)
def test_a_file_without_line_ends_is_refused_and_not_loaded(tmp_path, name, head, complaint):
    block = b"y" * 1023 + (b"\n" if head else b"y")
    path = write(tmp_path / name, head + block * 66 * 1024)
    assert complaint in refusal(spec_of(path))


@pytest.mark.parametrize("wanted", ["jsonl", "csv"])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (PARQUET, "a Parquet file; set input.format: parquet"),
        (b"\xfd7zXZ\x00 rest", "xz-compressed; only gzip and zstd are read: decompress it first, or give Parquet"),
        (b"BZh91AY&SY rest", "bzip2-compressed; only gzip and zstd are read: decompress it first"),
        (b"PK\x03\x04 rest", "a ZIP archive or an Excel workbook; give Parquet, JSON lines or CSV"),
        (b"Obj\x01 rest", "an Avro file; give Parquet, JSON lines or CSV"),
        ('{"id": 1}\n'.encode("utf-16"), "UTF-16 text; text is read as UTF-8: convert it first"),
    ],
    ids=["parquet", "xz", "bzip2", "zip", "avro", "utf16"],
)
def test_a_file_of_another_kind_is_told_by_what_it_is(tmp_path, content, kind, wanted):
    path = write(tmp_path / f"q.{wanted}", content)
    with pytest.raises(InputError) as refused:
        plan_input(spec_of(path))
    assert str(refused.value).startswith(f"{path}: input.format is {wanted}, but the file is {kind}")


def test_compressed_parquet_and_text_named_parquet_are_told_too(tmp_path):
    assert "the file is gzip-compressed" in refusal(spec_of(write(tmp_path / "a.parquet", gzip.compress(PARQUET))))
    assert "the file is no Parquet, or cut short" in refusal(spec_of(write(tmp_path / "b.parquet", lines(OK))))


def test_a_text_that_begins_like_a_signature_is_text(tmp_path):
    assert column(read(csv(tmp_path, "PAR1,id,prompt\n1,a,x\n")), "prompt") == ["x"]
    assert column(read(csv(tmp_path, "BZh,id,prompt\n1,a,x\n")), "prompt") == ["x"]
