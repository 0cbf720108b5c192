"""Rows that ask for something of their own, through a whole run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from tests.support.jobs import results_of, write_jsonl

DOCUMENT = (Path(__file__).parents[2] / "docs" / "requests.md").read_text(encoding="utf-8")
WRONG = {
    "unknown": {"temprature": 1},
    "outside": {"n": 0},
    "schema": {"structured_outputs": {"json": {"type": "no such type"}}},
    "cut": {"structured_outputs": {"json": {"properties": {"a": {}, "b": {}}}}, "max_tokens": 1},
    "greedy": {"n": 2},
}


def examples() -> list[dict[str, Any]]:
    """The rows of docs/requests.md."""
    blocks = re.findall(r"^```json\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    return [json.loads(line) for block in blocks for line in block.splitlines()]


def test_each_row_gets_what_it_asks_for(document, run_job, tmp_path):
    rows = examples() + [{"id": f"wrong {name}", "text": "Hi?", "request": asked} for name, asked in WRONG.items()]
    rows += [{"id": f"plain {number}", "text": f"What is {number}?"} for number in range(20)]
    path = write_jsonl(tmp_path / "in" / "requests.jsonl", rows)
    columns = {"id": "id", "prompt": "text", "request": "request"}
    document["input"] = {"path": str(path), "format": "jsonl", "columns": columns}
    outcome, _ = run_job(document)

    table = results_of(outcome.layout.root)
    found = {row["query_id"]: row for row in table.to_pylist()}
    assert found.keys() == {row["id"] for row in rows}
    kinds = {name: row["error_kind"] for name, row in found.items() if row["error_kind"]}
    assert kinds == {
        "wrong unknown": "invalid_request",
        "wrong outside": "invalid_request",
        "wrong schema": "invalid_request",
        "wrong cut": "invalid_json",
        "wrong greedy": "invalid_request",
        "adapted": "invalid_request",
    }
    assert {found[f"wrong {name}"]["tier"] for name in ("unknown", "outside")} == {"rejected"}
    assert found["wrong cut"]["text"] == '{"a":'
    assert found["adapted"]["model"] == "legal"
    assert len(found["three"]["samples"]) == 2
    assert found["plain 1"]["samples"] is None
    assert json.loads(found["sure"]["logprobs"])["content"]
    assert json.loads(found["schema"]["text"]) == {"name": "amber"}
    assert found["choice"]["text"] == "good"
    assert json.loads(found["call"]["tool_calls"])[0]["function"]["name"] == "weather"
    assert len(found["thinking"]["reasoning"].split()) == 4
    assert max(found[f"plain {number}"]["completion_tokens"] for number in range(20)) <= 8
    assert pc.sum(pc.is_valid(table["error_kind"])).as_py() == len(kinds)
