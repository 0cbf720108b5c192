"""OpenAI's batch files as input: every line is a row, and a wrong one is refused alone or ends the run by name."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import OPENAI_BATCH
from hybrid_batch.spark.source import plan_input
from tests.support.inputs import column, read, spec_of, write
from tests.unit.test_docs import text_of

TURNS = [{"role": "user", "content": "Hi?"}]


def line(name: object, **more: Any) -> dict[str, Any]:
    body = {"model": "any", "messages": TURNS, **more.pop("body", {})}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body, **more}


def batch(folder: Path, *lines: object, name: str = "b.jsonl", **more: Any):
    text = "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines)
    path = write(folder / "in" / name, gzip.compress(text.encode()) if name.endswith(".gz") else text)
    return spec_of(path, OPENAI_BATCH, id_column="custom_id", messages_column="body", **more)


@pytest.mark.parametrize("name", ["b.jsonl", "b.jsonl.gz"])
def test_a_line_is_a_row_with_its_chat_and_what_it_asks_for(tmp_path, name):
    asked = line("b", body={"max_tokens": 7, "temperature": 0.5, "stream": False, "metadata": {"a": "b"}, "seed": None})
    short = {"custom_id": "c", "body": {"messages": TURNS}}
    rows = read(batch(tmp_path, line("a"), asked, short, name=name))
    assert column(rows, "query_id") == ["a", "b", "c"]
    assert column(rows, "prompt") == ["Hi?"] * 3
    assert [json.loads(row["messages"]) for row in rows] == [TURNS] * 3
    assert column(rows, "request") == [None, '{"max_tokens":7,"temperature":0.5}', None]
    assert column(rows, "error_kind") == [None] * 3
    assert column(rows, "source_row") == [0, 1, 2]


@pytest.mark.parametrize(
    ("bad", "kind", "said"),
    [
        (line("b", method="GET"), "invalid_request", "method is 'GET', allowed is 'POST'"),
        (line("b", method=None), "invalid_request", "method is None, allowed is 'POST'"),
        (line("b", url="/v1/embeddings"), "invalid_request", "url is '/v1/embeddings', allowed is '/v1/chat/completi"),
        (line("b", note="x"), "invalid_request", "the line has a key 'note', allowed are custom_id, method, url, body"),
        (line("b", body={"stream": True}), "invalid_request", "body.stream is true"),
        (line("b", body={"temperature": 9}), "invalid_request", "temperature: 9 is not allowed"),
        (line("b", body={"no_such": 9}), "invalid_request", "no_such: there is no such field"),
        (
            line("b", body={"messages": "Hi?"}),
            "invalid_messages",
            "body.messages must be a list of chat turns, got str",
        ),
        (line("b", body={"messages": [{"role": "wizard"}]}), "invalid_messages", "messages[0].role is 'wizard'"),
        (line("b", body={"messages": [{"role": "user", "content": " "}]}), "empty_prompt", "the query is empty or"),
        (line("b", body={"messages": [{"role": "user", "content": "\ud800"}]}), "invalid_text", "lone surrogates"),
        ({"custom_id": "b"}, "invalid_request", "body must be an object, got NoneType"),
        ({"custom_id": "b", "body": []}, "invalid_request", "body must be an object, got list"),
        (
            {"custom_id": "b", "body": {}},
            "invalid_messages",
            "body.messages must be a list of chat turns, got NoneType",
        ),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_line_that_is_no_request_is_refused_alone(tmp_path, bad, kind, said):
    rows = read(batch(tmp_path, line("a"), bad, line("c")))
    assert column(rows, "query_id") == ["a", "b", "c"]
    assert column(rows, "error_kind") == [None, kind, None]
    assert said in rows[1]["error_message"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("[]", ", line 2: a line must be a JSON object, this one is a list"),
        ("{", ", line 2: not JSON"),
        ({"body": {"messages": TURNS}}, ", line 2: column 'custom_id' is null, allowed is text"),
        (line(7), ", line 2: column 'custom_id' is 7, allowed is text"),
        (line(""), "column 'custom_id', row 1: the id is empty"),
    ],
)
def test_a_line_without_a_place_in_the_answer_ends_the_run_with_its_number(tmp_path, bad, said):
    with pytest.raises(InputError) as caught:
        read(batch(tmp_path, line("a"), bad, line("c")))
    assert said in str(caught.value)
    assert "b.jsonl" in str(caught.value)


def test_further_keys_of_a_line_are_kept_where_they_are_named(tmp_path):
    rows = read(batch(tmp_path, line("a", tenant="t"), line("b"), keep=("tenant",)))
    assert column(rows, "tenant") == ["t", None]
    assert column(rows, "error_kind") == [None, None]


def test_the_examples_of_the_documents_are_rows(tmp_path):
    page = text_of("docs/inputs.md")
    (example,) = re.findall(r'^\{"custom_id".*$', page, re.MULTILINE)
    row = read(batch(tmp_path, example))[0]
    assert (row["query_id"], row["prompt"], row["request"]) == ("a-1", "Hi", '{"max_tokens":16}')
    parts = [json.loads(part) for part in re.findall(r'^\{"type": "text".*$', page, re.MULTILINE)]
    chat = line("b", body={"messages": [{"role": "user", "content": parts}]})
    assert read(batch(tmp_path, chat))[0]["prompt"] == "What is on this picture?"


def test_a_large_file_is_cut_and_a_limit_counted(tmp_path):
    lines = [line(f"r{number:03d}") for number in range(200)]
    spec = batch(tmp_path, *lines, bytes_per_split=4_000)
    assert len(plan_input(spec).splits) > 3
    assert column(read(spec), "query_id") == [one["custom_id"] for one in lines]
    few = batch(tmp_path, *lines, limit=7)
    assert column(read(few), "query_id") == [f"r{number:03d}" for number in range(7)]


def test_a_file_of_something_else_is_told(tmp_path):
    with pytest.raises(InputError, match=r"there is no column 'custom_id'; the file has 'id', 'prompt'"):
        plan_input(batch(tmp_path, {"id": "a", "prompt": "x"}))
