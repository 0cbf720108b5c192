"""Columns beside the query: what a row asks for in place of the job's sampling, and images."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.spark.source import plan_input
from tests.support.inputs import column, read, spec_of, write

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 8
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
WEB = "https://host/cat.png"
ASKED = {"max_tokens": 7, "n": 2}
TEXT = '{"max_tokens":7,"n":2}'


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    return write(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def image_part(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def test_what_a_row_asks_for_is_text_or_an_object_in_json_lines(tmp_path):
    given = [ASKED, json.dumps(ASKED), None, "", {}, {"n": 0}, [1], "x", {"user": "\ud800"}]
    rows = [{"id": n, "prompt": "p", "ask": value} for n, value in enumerate(given)]
    found = read(spec_of(jsonl(tmp_path / "q.jsonl", *rows), request_column="ask"))
    assert column(found, "request")[:5] == [TEXT, TEXT, None, None, None]
    assert column(found, "error_kind") == [None] * 5 + ["invalid_request"] * 3 + ["invalid_text"]
    assert column(found, "prompt") == ["p"] * len(given)
    assert [row["request"] for row in found[5:8]] == ['{"n": 0}', "[1]", "x"]
    assert "n: 0 is not allowed" in found[5]["error_message"]


def test_what_a_row_asks_for_is_text_or_a_struct_in_parquet(tmp_path):
    structs = pa.table({"id": ["a", "b", "c"], "prompt": ["p"] * 3, "ask": [ASKED, {"max_tokens": None, "n": 0}, None]})
    rows = read(spec_of(write(tmp_path / "s.parquet", structs), request_column="ask"))
    assert column(rows, "request") == [TEXT, '{"n": 0}', None]
    assert column(rows, "error_kind") == [None, "invalid_request", None]
    texts = pa.table({"id": ["a", "b"], "prompt": ["p"] * 2, "ask": pa.array([TEXT, None]).dictionary_encode()})
    assert column(read(spec_of(write(tmp_path / "t.parquet", texts), request_column="ask")), "request") == [TEXT, None]


def test_what_a_row_asks_for_is_text_in_csv(tmp_path):
    path = write(tmp_path / "q.csv", 'id,prompt,ask\na,p,"{""n"": 2}"\nb,p,\nc,p,"{""n"": ""2""}"\n')
    rows = read(spec_of(path, request_column="ask", keep=("ask",)))
    assert column(rows, "request") == ['{"n":2}', None, '{"n": "2"}']
    assert column(rows, "error_kind") == [None, None, "invalid_request"]
    assert column(rows, "ask") == ['{"n": 2}', "", '{"n": "2"}']


def test_an_image_makes_a_chat_of_a_prompt(tmp_path):
    table = pa.table(
        {
            "id": list("abcdefg"),
            "prompt": ["what?", "what?", " ", "", None, "what?", "  "],
            "image": [PNG, None, PNG, PNG, PNG, b"BM", b""],
        }
    )
    rows = read(spec_of(write(tmp_path / "q.parquet", table), image_column="image"))
    assert column(rows, "error_kind") == [None, None, None, None, "null_prompt", "invalid_image", "empty_prompt"]
    asked = [[text_part("what?"), image_part(DATA)], None, [text_part(" "), image_part(DATA)], [image_part(DATA)]]
    for row, content in zip(rows, asked, strict=False):
        assert row["messages"] is None if content is None else json.loads(row["messages"])[0]["content"] == content
    assert rows[0]["prompt"] == "what?"
    assert "image: bytes that begin with b'BM'" in rows[5]["error_message"]


def test_an_address_of_an_image_joins_the_last_question_of_a_chat(tmp_path):
    chat = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "two"},
    ]
    given = [WEB, DATA, None, "", "cat.png", 7]
    rows = [{"id": n, "chat": chat, "image": image} for n, image in enumerate(given)]
    path = jsonl(tmp_path / "q.jsonl", *rows, {"id": 9, "chat": "broken", "image": WEB})
    found = read(spec_of(path, messages_column="chat", image_column="image"))
    kinds = [None, None, None, None, "invalid_image", "invalid_image", "invalid_messages"]
    assert column(found, "error_kind") == kinds
    last = [json.loads(row["messages"])[-1]["content"] for row in found[:4]]
    assert last == [[text_part("two"), image_part(WEB)], [text_part("two"), image_part(DATA)], "two", "two"]
    assert column(found[:4], "prompt") == ["one\ntwo"] * 4


def test_a_chat_of_images_alone_is_a_query_and_one_of_blanks_is_none(tmp_path):
    told = 'say "type":"image_url"'
    contents = [[image_part(WEB)], [text_part(" ")], [text_part("")], [text_part(""), image_part(WEB)], told]
    rows = [{"id": n, "chat": [{"role": "user", "content": content}]} for n, content in enumerate(contents)]
    rows.append({"id": 7, "chat": [{"role": "system", "content": told}, {"role": "user", "content": ""}]})
    found = read(spec_of(jsonl(tmp_path / "q.jsonl", *rows), messages_column="chat"))
    assert column(found, "error_kind") == [None, "empty_prompt", "empty_prompt", None, None, "empty_prompt"]


def test_a_developers_turn_is_the_systems(tmp_path):
    turns = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    row = read(spec_of(jsonl(tmp_path / "q.jsonl", {"id": "a", "chat": turns}), messages_column="chat"))[0]
    assert (row["error_kind"], row["prompt"]) == (None, "Hi")
    assert [turn["role"] for turn in json.loads(row["messages"])] == ["system", "user"]


def test_parts_come_from_parquet_without_the_fields_of_other_parts(tmp_path):
    content = [{**text_part("what?"), "image_url": None}, {**image_part(WEB), "text": None}]
    table = pa.table({"id": ["a"], "chat": [[{"role": "user", "content": content}]]})
    row = read(spec_of(write(tmp_path / "q.parquet", table), messages_column="chat"))[0]
    assert row["error_kind"] is None
    assert json.loads(row["messages"])[0]["content"] == [text_part("what?"), image_part(WEB)]


def test_an_image_counts_among_the_bytes_of_its_query(tmp_path):
    images = [DATA, f"data:image/png;base64,{base64.b64encode(bytes(300)).decode()}"]
    rows = [{"id": n, "prompt": "p", "image": image} for n, image in enumerate(images)]
    spec = spec_of(jsonl(tmp_path / "q.jsonl", *rows), image_column="image", max_prompt_bytes=300)
    assert column(read(spec), "error_kind") == [None, "prompt_too_large"]


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [("request_column", [7], r"text \(JSON\) or a struct"), ("image_column", [7], r"text \(addresses\) or binary")],
)
def test_a_column_of_another_type_is_told_before_anything_is_read(tmp_path, name, values, allowed):
    path = write(tmp_path / "q.parquet", pa.table({"id": ["a"], "prompt": ["p"], "x": values}))
    with pytest.raises(InputError, match=rf"column 'x' is int64, allowed is {allowed}"):
        plan_input(spec_of(path, **{name: "x"}))
    with pytest.raises(InputError, match=r"there is no column 'y'"):
        plan_input(spec_of(path, **{name: "y"}))
