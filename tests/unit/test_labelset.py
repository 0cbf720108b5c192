"""Labels tables: three formats, one value, and what is said of a bad row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hybrid_batch.core.errors import InputError
from hybrid_batch.label_import import Columns, import_labels
from hybrid_batch.labelset import label_set, prompt_id, read_labels, summary, write_labels
from hybrid_batch.tables import LABELS
from tests.support.shared_data import shared_data

ROWS = [
    {"query_id": "a", "prompt": "one?", "task": "t", "q_small": [1, 0], "q_large": [1]},
    {"query_id": "b", "prompt": "two, or three?", "task": None, "q_small": [0], "q_large": [0.5, None]},
]


def jsonl(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_every_format_gives_the_same_labels(tmp_path: Path) -> None:
    read = [read_labels(str(jsonl(tmp_path / "l.jsonl", ROWS)))]
    (tmp_path / "l.csv").write_text(
        'query_id,prompt,task,q_small,q_large\na,one?,t,"[1, 0]",true\nb,"two, or three?",,0,"[0.5, null]"\n'
    )
    read.append(read_labels(str(tmp_path / "l.csv")))
    write_labels(str(tmp_path / "folder" / "part-0.parquet"), read[0])
    read.append(read_labels(str(tmp_path / "folder")))
    assert pq.read_schema(tmp_path / "folder" / "part-0.parquet").equals(LABELS)
    for labels in read:
        assert (labels.query_ids, labels.tasks) == (["a", "b"], ["t", None])
        assert labels.prompts[1] == "two, or three?"
        assert labels.qualities.mean_small.tolist() == [0.5, 0.0]
        assert labels.qualities.mean_large.tolist() == [1.0, 0.5]
        assert labels.fingerprint == read[0].fingerprint


def test_the_fingerprint_is_that_of_the_rows_whatever_their_order() -> None:
    labels = label_set(["a", "b"], [[1.0], [0.0]], [[1.0], [1.0]])
    assert labels.take(np.array([1, 0])).fingerprint == labels.fingerprint
    assert labels.take(np.array([True, False])).fingerprint != labels.fingerprint
    assert label_set(["a", "b"], [[1.0], [1.0]], [[1.0], [1.0]]).fingerprint != labels.fingerprint
    assert labels.query_ids == [prompt_id("a"), prompt_id("b")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"q_small": "high"}, "row 1: q_small is 'high'; allowed are numbers"),
        ({"q_small": [{}]}, "row 1: q_small holds {}; allowed are numbers"),
        ({"q_large": []}, "row b: q_large has no answer with a quality"),
        ({"prompt": "  "}, "row 1: prompt is empty"),
        ({"query_id": "a"}, "row 1: the same query_id as in row 0 (a)"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, change: dict, words: str) -> None:
    path = jsonl(tmp_path / "l.jsonl", [ROWS[0], ROWS[1] | change])
    with pytest.raises(InputError) as refused:
        read_labels(str(path))
    assert words in str(refused.value)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("l.jsonl", "{", "line 1 is not JSON"),
        ("l.jsonl", "[1]", "line 1 holds list, not an object"),
        ("l.jsonl", '{"prompt": "x"}', "there is no column 'q_small'"),
        ("l.jsonl", "", "holds no labels"),
        ("l.csv", "prompt,q_small,q_large\nx,1\n", "line 2 has not as many fields as the header"),
        ("l.parquet", "PAR1", "cannot be read as parquet"),
        ("folder", None, "holds no labels; allowed are"),
    ],
)
def test_a_file_that_is_no_labels_table_is_refused(tmp_path: Path, name: str, content: str | None, words: str) -> None:
    if content is None:
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        read_labels(str(tmp_path / name))


def test_nested_names_with_dots_are_found_and_equal_prompts_are_pooled(tmp_path: Path) -> None:
    rows = [
        {"question": "x", "scores": {"m-1.5": 1, "big": True}},
        {"question": "x", "scores": {"m-1.5": 0, "big": False}},
        {"question": "y", "scores": {"m-1.5": None, "big": 1}},
    ]
    path = tmp_path / "s.json"
    path.write_text(json.dumps(rows))
    done = import_labels(str(path), Columns("question", "scores.m-1.5", "scores.big"))
    assert (done.rows, done.merged, done.unanswered, len(done.labels)) == (3, 1, 1, 1)
    assert done.labels.qualities.small.tolist() == [[1.0, 0.0]]
    with pytest.raises(
        InputError, match=r"row 0: there is no column 'scores.m'; the row has 'question', 'scores.m-1.5'"
    ):
        import_labels(str(path), Columns("question", "scores.m", "scores.big"))
    with pytest.raises(InputError, match="row 1: question 'x' stood in an earlier row"):
        import_labels(str(path), Columns("question", "scores.m-1.5", "scores.big", id="question"))


def test_the_nine_model_data_are_imported_whole() -> None:
    source = shared_data("llmrouter/dcrouter_train.json")
    columns = Columns("question", "scores.mistral-7b-instruct-v0.3", "scores.llama-3.1-nemotron-51b-instruct")
    done = import_labels(str(source), columns)
    assert (done.rows, done.unanswered, len(done.labels)) == (5608, 0, 5608)
    figures = summary(done.labels)
    assert figures["mean_large"] > figures["mean_small"] > 0.3


def test_responses_in_csv_with_true_and_false_are_imported() -> None:
    source = shared_data("routellm/gsm8k_responses.csv")
    columns = Columns("prompt", "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview")
    done = import_labels(str(source), columns)
    assert len(done.labels) + done.merged + done.unanswered == done.rows == 1319
    assert set(np.unique(done.labels.qualities.small)) <= {0.0, 1.0}
