"""A whole job with a tier that is somebody's endpoint, one that refuses what others take."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybrid_batch.core.errors import EndpointError
from hybrid_batch.engines.probe import free_port
from tests.support.jobs import results_of, write_jsonl

ROWS = [
    *({"id": f"plain {number}", "text": f"What is {number}?"} for number in range(30)),
    *({"id": f"same {number}", "text": "Once more?"} for number in range(10)),
    {"id": "own", "text": "Hi?", "request": {"temperature": 0.5, "top_p": 0.9, "max_tokens": 1}},
]
RENAMED = {"max_tokens_field": "max_completion_tokens"}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server that takes neither ``max_tokens`` nor ``temperature`` nor ``top_p``."""
    port = free_port()
    flags = ["--port", str(port), "--unsupported", "max_tokens,temperature,top_p"]
    command = [sys.executable, "-m", "hybrid_batch.engines.fake_server", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline().startswith("fake server")
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


@pytest.fixture
def job(document: dict[str, Any], endpoint: str, tmp_path: Path) -> dict[str, Any]:
    """A job whose queries all go to that endpoint."""
    path = write_jsonl(tmp_path / "in" / "rows.jsonl", ROWS)
    columns = {"id": "id", "prompt": "text", "request": "request"}
    document["input"] = {"path": str(path), "format": "jsonl", "columns": columns}
    document["policy"] = {"small_share": 0}
    document["tiers"]["large"] = {"endpoint": endpoint, "model": "fake"}
    return document


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({}, "(try tiers.large.max_tokens_field: max_completion_tokens): Unsupported parameter: 'max_tokens'"),
        (RENAMED, "(try tiers.large.unsent: [temperature]): Unsupported parameter: 'temperature'"),
    ],
)
def test_an_endpoint_that_refuses_a_field_ends_the_run_with_what_to_set(job, run_job, settings, hint):
    job["tiers"]["large"] |= settings
    with pytest.raises(EndpointError) as raised:
        run_job(job)
    assert hint in str(raised.value).splitlines()[0]


def test_with_these_settings_it_answers_every_row(job, run_job):
    job["tiers"]["large"] |= RENAMED | {"unsent": ["temperature", "top_p"]}
    outcome, _ = run_job(job)

    found = {row["query_id"]: row for row in results_of(outcome.layout.root).to_pylist()}
    assert found.keys() == {row["id"] for row in ROWS}
    assert {(row["tier"], row["error_kind"]) for row in found.values()} == {("large", None)}
    # Without a temperature nobody knows that equal requests have equal answers.
    assert {row["answered_by"] for row in found.values()} == {None}
    assert found["own"]["completion_tokens"] == 1
    assert 1 < max(row["completion_tokens"] for row in found.values()) <= 8
