"""A batch file of a vendor through a whole run and out again: lines in are lines out."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hybrid_batch.core.errors import InputError
from tests.support.jobs import load, results_of, write_jsonl

ROWS = 60
REFUSED = {"wrong-url": "invalid_request", "wrong-field": "invalid_request", "wrong-role": "invalid_messages"}


def line(name: str, content: object, **asked: Any) -> dict[str, Any]:
    body = {"model": "vendor-1", "messages": [{"role": "user", "content": content}], **asked}
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}


def batch() -> list[dict[str, Any]]:
    image = {"type": "image_url", "image_url": {"url": "https://host/cat.png"}}
    asked = [line(f"r{number:03d}", f"What follows from {number % 50} and {number}?") for number in range(ROWS)]
    asked[3]["body"] |= {"max_tokens": 1}
    asked[4]["body"] |= {"n": 3, "temperature": 0.7}
    asked[5] = line("r005", [{"type": "text", "text": "What is on this picture?"}, image])
    wrong = [
        line("wrong-url", "Hi?") | {"url": "/v1/embeddings"},
        line("wrong-field", "Hi?", temperature=9),
        line("wrong-role", "Hi?"),
    ]
    wrong[2]["body"]["messages"][0]["role"] = "wizard"
    return [*asked[:20], *wrong, *asked[20:]]


@pytest.fixture
def batch_document(document: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    path = write_jsonl(tmp_path / "in" / "batch.jsonl", batch())
    return document | {"input": {"path": str(path), "format": "openai-batch"}}


def written(root: str, kind: str) -> dict[str, dict[str, Any]]:
    files = sorted(Path(root, "batch").glob(f"{kind}-*.jsonl"))
    lines = [json.loads(text) for file in files for text in file.read_text().splitlines()]
    assert len({found["custom_id"] for found in lines}) == len(lines)
    return {found["custom_id"]: found for found in lines}


def test_a_batch_file_becomes_batch_files(batch_document, run_job):
    outcome, _ = run_job(batch_document)
    root = outcome.layout.root
    answers, errors = written(root, "output"), written(root, "errors")
    results = {row["query_id"]: row for row in results_of(root).to_pylist()}

    assert answers.keys() | errors.keys() == results.keys() == {one["custom_id"] for one in batch()}
    assert {name: found["error"]["code"] for name, found in errors.items()} == REFUSED
    assert "temperature: 9 is not allowed" in errors["wrong-field"]["error"]["message"]
    for name, found in answers.items():
        body = found["response"]["body"]
        assert body["choices"][0]["message"]["content"] == results[name]["text"]
        assert body["usage"]["completion_tokens"] == results[name]["completion_tokens"]
    assert len(answers["r004"]["response"]["body"]["choices"]) == 3
    assert answers["r003"]["response"]["body"]["usage"]["completion_tokens"] == 1
    assert answers["r003"]["response"]["body"]["choices"][0]["finish_reason"] == "length"
    assert {row["tier"] for row in results.values()} == {"small", "large", "rejected"}
    assert outcome.manifest["objects"]["batch"] == "batch"


def test_what_a_row_asked_for_is_in_its_dead_letter(batch_document, run_job):
    outcome, _ = run_job(batch_document)
    letters = {row["query_id"]: row for row in pq.read_table(outcome.layout.dead_letters_folder).to_pylist()}
    assert letters.keys() == REFUSED.keys()
    assert json.loads(letters["wrong-field"]["request"]) == {"temperature": 9}
    assert letters["wrong-url"]["request"] is None


def test_batch_files_that_are_missing_are_written_again_as_they_were(batch_document, run_job):
    outcome, _ = run_job(batch_document)
    folder = Path(outcome.layout.root, "batch")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    next(folder.glob("output-*")).unlink()
    Path(outcome.layout.manifest).unlink()
    again, _ = run_job(batch_document)

    assert not again.already_finished
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_run_of_another_format_writes_no_batch_files(finished):
    outcome, _, _ = finished
    assert not Path(outcome.layout.batch_folder).exists()
    assert "batch" not in outcome.manifest["objects"]


def test_a_doubled_custom_id_ends_the_run_before_anything_is_scored(batch_document, run_job, tmp_path):
    text = "".join(json.dumps(one) + "\n" for one in [*batch(), batch()[0]])
    path = tmp_path / "in" / "doubled.jsonl.gz"
    path.write_bytes(gzip.compress(text.encode()))
    batch_document["input"]["path"] = str(path)
    with pytest.raises(InputError, match=r"'custom_id': 1 ids stand there more than once.*row 0 and .*row 63"):
        run_job(batch_document)
    assert not list(Path(batch_document["run"]["output"]).rglob("part-*"))


def test_the_columns_are_those_of_the_format(batch_document, tmp_path):
    spec = load(batch_document, tmp_path).input.to_spec()
    assert spec.columns == ("custom_id", "body")
