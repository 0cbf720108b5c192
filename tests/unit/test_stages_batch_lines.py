"""Results as lines of batch files: nothing of an answer is lost, and every row has its line."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import pytest

from hybrid_batch.core.routing import LARGE, REJECTED
from hybrid_batch.stages.batch_lines import batch_lines
from hybrid_batch.tables import RESULTS, with_kept
from tests.unit.test_docs import text_of


def result(name: str, **more: Any) -> dict[str, Any]:
    counts = {"prompt_tokens": 9, "completion_tokens": 2, "latency_seconds": 0.1, "cached_prompt_tokens": 4}
    return {"query_id": name, "tier": LARGE, "model": "m", "tenant": "t", **counts, **more}


def failure(name: str, kind: str, **more: Any) -> dict[str, Any]:
    return result(name, error_kind=kind, error_message="why", **more)


def lines(*rows: dict[str, Any], run_id: str = "run", created: int = 7) -> tuple[list[Any], list[Any]]:
    schema = with_kept(RESULTS, [pa.field("tenant", pa.string())])
    both = batch_lines(pa.Table.from_pylist(list(rows), schema=schema), run_id, created)
    answers, errors = ([json.loads(line) for line in data.decode().split("\n")[:-1]] for data in both)
    return answers, errors


def choices(row: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lines(row)[0][0]["response"]["body"]["choices"]
    return found


def test_an_answer_is_a_chat_completion():
    (line,), errors = lines(result("a\nb", text="Grüße\n", finish_reason="stop"))
    mark = line["id"].removeprefix("batch_req_")
    assert not errors
    assert line == {
        "id": f"batch_req_{mark}",
        "custom_id": "a\nb",
        "response": {
            "status_code": 200,
            "request_id": f"req_{mark}",
            "body": {
                "id": f"chatcmpl-{mark}",
                "object": "chat.completion",
                "created": 7,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "Grüße\n"},
                        "logprobs": None,
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 2,
                    "total_tokens": 11,
                    "prompt_tokens_details": {"cached_tokens": 4},
                },
            },
        },
        "error": None,
    }


def test_several_answers_are_several_choices():
    found = choices(result("a", text="one", samples=["two", ""], finish_reason="length"))
    assert [choice["index"] for choice in found] == [0, 1, 2]
    assert [choice["message"]["content"] for choice in found] == ["one", "two", ""]
    assert [choice["finish_reason"] for choice in found] == ["length", None, None]


def test_calls_thoughts_and_probabilities_are_where_a_server_puts_them():
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    logprobs = {"content": [{"token": "x", "logprob": -0.5}]}
    row = result("a", text="", tool_calls=json.dumps(calls), reasoning="hm", logprobs=json.dumps(logprobs))
    choice = choices(row)[0]
    assert choice["message"] == {"role": "assistant", "content": None, "tool_calls": calls, "reasoning": "hm"}
    assert choice["logprobs"] == logprobs
    assert choices(row | {"text": "so"})[0]["message"]["content"] == "so"
    assert choices(result("a", text=""))[0]["message"] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize(
    ("kind", "tier", "status"),
    [
        ("null_prompt", REJECTED, 400),
        ("invalid_request", LARGE, 400),
        ("context_overflow", LARGE, 400),
        ("timeout", LARGE, 504),
        ("server_error", LARGE, 500),
    ],
)
def test_a_row_without_an_answer_is_among_the_errors(kind, tier, status):
    answers, (line,) = lines(failure("a", kind, tier=tier))
    assert not answers
    assert line["response"] == {"status_code": status, "request_id": line["response"]["request_id"], "body": None}
    assert line["error"] == {"code": kind, "message": "why"}


def test_an_answer_that_is_not_what_was_asked_for_is_kept_with_its_error():
    _, (line,) = lines(failure("a", "invalid_json", text='{"a":', finish_reason="length"))
    assert line["response"]["status_code"] == 200
    assert line["response"]["body"]["choices"][0]["message"]["content"] == '{"a":'
    assert line["error"]["code"] == "invalid_json"


def test_the_examples_of_the_documents_have_the_form_of_these_lines():
    page = text_of("docs/inputs.md")
    shown = [json.loads(line) for line in re.findall(r'^\{"id": "batch_req_.*$', page, re.MULTILINE)]
    answers, errors = lines(result("a-1", text="Hello.", finish_reason="stop"), failure("a-2", "x", tier=REJECTED))
    assert [_form(line) for line in shown] == [_form(line) for line in (*answers, *errors)]


def _form(value: Any) -> Any:
    """The keys of objects, and the kinds of what they hold."""
    if isinstance(value, dict):
        return {name: _form(item) for name, item in value.items()}
    return [_form(item) for item in value] if isinstance(value, list) else type(value)


def test_marks_differ_by_row_and_run_and_not_by_attempt():
    rows = [result("a", text="x"), failure("b", "timeout"), result("c", text="x")]
    answers, errors = lines(*rows)
    assert [line["custom_id"] for line in answers] == ["a", "c"]
    assert len({line["id"] for line in (*answers, *errors)}) == 3
    assert lines(*rows) == (answers, errors)
    assert lines(*rows, run_id="other")[0][0]["id"] != answers[0]["id"]
