"""The record of an export: what it says, and what is not believed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.engines.exports import FOLDER, GRAPH, RECORD, Export, load_export, read_export, require_agreement
from hybrid_batch.engines.router_card import file_record

PROBES = [("Hi", 0.25), ("What is 2 + 2?", 0.75)]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """A record with one file, written below ``tmp_path`` as an export of a router."""
    folder = tmp_path / FOLDER / "int8"
    (folder / "encoder").mkdir(parents=True)
    (folder / "encoder" / GRAPH).write_bytes(b"a graph")
    files = {f"encoder/{GRAPH}": file_record(folder / "encoder" / GRAPH)}
    made = Export("int8", "f" * 64, 0.02, 0.001, PROBES, files, {"onnx": "1"})
    (folder / RECORD).write_bytes(made.to_json())
    return made


def test_a_record_comes_back_as_it_was_written(export: Export, tmp_path: Path) -> None:
    assert read_export(export.to_json(), "here") == export
    assert load_export(tmp_path, "int8", "f" * 64) == export


def test_what_is_not_there_is_named_with_the_command_that_makes_it(export: Export, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"not exported as fp32; run: hybrid-batch export {tmp_path} --numbers fp32"):
        load_export(tmp_path, "fp32", "f" * 64)


def test_an_export_of_another_version_of_the_router_is_refused(export: Export, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="was made of another version of this router; export it again"):
        load_export(tmp_path, "int8", "e" * 64)


@pytest.mark.parametrize("content", [b"another", None])
def test_a_graph_that_was_changed_is_refused(export: Export, tmp_path: Path, content: bytes | None) -> None:
    graph = tmp_path / FOLDER / "int8" / "encoder" / GRAPH
    graph.unlink() if content is None else graph.write_bytes(content)
    with pytest.raises(ConfigError, match=r"encoder/model\.onnx: is missing or was changed"):
        load_export(tmp_path, "int8", "f" * 64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other/1"}, "format is 'other/1', expected 'hybrid-batch-export/1'"),
        ({"numbers": "int4"}, "numbers is 'int4', allowed are int8, fp32"),
        ({"probes": [["a"]]}, "is damaged"),
        ({"probes": [["a", "b"]]}, "is damaged"),
        ({"files": {"a": {"sha256": "0"}}}, "is damaged"),
        ({"files": 3}, "is damaged"),
        ({"more": 1}, "is damaged"),
    ],
)
def test_a_record_of_another_kind_is_refused(export: Export, change: dict, message: str) -> None:
    document = {**json.loads(export.to_json()), **change}
    with pytest.raises(ConfigError, match=f"here: {message}"):
        read_export(json.dumps(document).encode(), "here")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"format": "hybrid-batch-export/1"}'])
def test_rubbish_is_refused(content: bytes) -> None:
    with pytest.raises(ConfigError, match="here: is damaged"):
        read_export(content, "here")


@pytest.mark.parametrize(("shift", "agrees"), [(0.0, True), (0.0199, True), (-0.0199, True), (0.0201, False)])
def test_scores_must_be_those_of_torch_within_the_tolerance(export: Export, shift: float, agrees: bool) -> None:
    def score(texts):
        assert texts == ["Hi", "What is 2 + 2?"]
        return np.array([0.25, 0.75 + shift], dtype=np.float32)

    if agrees:
        require_agreement(export, score, "here")
        return
    with pytest.raises(ConfigError, match=r"here: scores differ .* by up to 0\.020100.*0\.770100 instead of 0\.750000"):
        require_agreement(export, score, "here")


def test_a_score_that_is_no_number_does_not_agree(export: Export) -> None:
    with pytest.raises(ConfigError, match="scores differ"):
        require_agreement(export, lambda _: np.array([0.25, np.nan]), "here")
