"""Guarding and scoring rows, with routers small enough to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest

from hybrid_batch.core.routing import Thresholds
from hybrid_batch.engines.base import Scorer
from hybrid_batch.stages import guard
from hybrid_batch.stages.ahead import ahead
from hybrid_batch.stages.groups import group_places, is_nameable, names
from hybrid_batch.stages.score import score_batches
from hybrid_batch.tables import SCORED, with_kept

KEPT = [pa.field("tenant", pa.string())]
SCHEMA = with_kept(SCORED, KEPT)
READ = pa.schema([field for field in SCHEMA if field.name != "score"])


@dataclass
class Lengths:
    """A router that scores a text by its length, and remembers what it was asked."""

    scale: float = 0.1
    asked: list[str] = field(default_factory=list)
    tasks: list[Sequence[str | None] | None] = field(default_factory=list)
    told: str = "lengths"

    def prepare(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> Sequence[str]:
        self.asked.extend(texts)
        self.tasks.append(tasks)
        return texts

    def scores(self, prepared: Sequence[str]) -> np.ndarray:
        return np.array([len(text) * self.scale for text in prepared], dtype=np.float32)


@dataclass
class Fixed:
    """A router that says the same whatever it is asked."""

    values: np.ndarray
    told: str = "fixed"

    def prepare(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> None:
        """Nothing to prepare."""

    def scores(self, prepared: None) -> np.ndarray:
        return self.values


def score_batch(
    batch: pa.RecordBatch, scorer: Scorer, schema: pa.Schema, task_column: str | None = None
) -> pa.RecordBatch:
    (scored,) = score_batches([batch], scorer, schema, task_column)
    return scored


def rows(*prompts: str | None, **more: object) -> pa.RecordBatch:
    made = [
        {"query_id": str(n), "prompt": prompt, "source_file": "f", "source_row": n, "tenant": f"t{n}", **more}
        for n, prompt in enumerate(prompts)
    ]
    return pa.RecordBatch.from_pylist(made, schema=READ)


def test_rows_are_guarded_one_by_one():
    batch = guard.guard(rows("ok", None, "", " \n\t\u2003", "é" * 6, "y" * 10, "z" * 11), max_prompt_bytes=10)
    assert batch["error_kind"].to_pylist() == [
        None,
        guard.NULL_PROMPT,
        guard.EMPTY_PROMPT,
        guard.EMPTY_PROMPT,
        guard.PROMPT_TOO_LARGE,
        None,
        guard.PROMPT_TOO_LARGE,
    ]
    assert batch["error_message"].to_pylist() == [
        None,
        "the query is null",
        "the query is empty or blank",
        "the query is empty or blank",
        "the query has 12 bytes, allowed are 10",
        None,
        "the query has 11 bytes, allowed are 10",
    ]
    assert batch.schema == READ
    assert batch["tenant"].to_pylist() == [f"t{n}" for n in range(7)]


def test_a_reason_that_is_there_already_stays():
    batch = guard.guard(rows(None, "", error_kind="invalid_messages", error_message="no list"), 10)
    assert batch["error_kind"].to_pylist() == ["invalid_messages"] * 2
    assert batch["error_message"].to_pylist() == ["no list"] * 2


def test_a_batch_without_rows_is_guarded_and_scored():
    scorer = Lengths()
    assert score_batch(guard.guard(rows(), 10), scorer, SCHEMA).num_rows == 0
    assert scorer.asked == []


def test_only_answerable_rows_are_scored_and_every_row_comes_back_in_its_place():
    scorer = Lengths()
    scored = score_batch(guard.guard(rows("a", None, "bbb", " ", "cc"), 10), scorer, SCHEMA)
    assert scorer.asked == ["a", "bbb", "cc"]
    assert scored["score"].to_pylist() == [0.1, None, 0.3, None, 0.2]
    assert scored["query_id"].to_pylist() == ["0", "1", "2", "3", "4"]
    assert scored.schema == SCHEMA


def test_the_scorer_is_told_the_tasks_of_the_rows_it_scores_and_else_none():
    scorer = Lengths()
    guarded = guard.guard(rows("a", None, "bbb"), 10)
    told = score_batch(guarded, scorer, SCHEMA, task_column="tenant")
    untold = score_batch(guarded, scorer, SCHEMA)
    assert scorer.tasks == [["t0", "t2"], None]
    assert told == untold
    assert told["tenant"].to_pylist() == ["t0", "t1", "t2"]


@pytest.mark.parametrize(
    ("values", "kind", "named"),
    [
        (["a", None, ""], pa.string(), ["a", None, ""]),
        ([7, None, -1], pa.int16(), ["7", None, "-1"]),
        ([True, False, None], pa.bool_(), ["true", "false", None]),
    ],
)
def test_tasks_and_groups_are_values_as_text(values, kind, named):
    assert is_nameable(kind)
    batch = pa.record_batch({"g": pa.array(values, kind)})
    assert names(batch, "g").to_pylist() == named
    thresholds = Thresholds(9, "g", {"other": 1, named[0]: 2})
    assert group_places(batch, thresholds).tolist() == [1, -1, -1]
    assert thresholds.at(group_places(batch, thresholds)).tolist() == [2, 9, 9]
    assert group_places(batch.slice(0, 0), thresholds).shape == (0,)
    assert group_places(batch, Thresholds(9, "g")).tolist() == [-1, -1, -1]


def test_what_is_no_name_is_told_apart():
    assert not any(map(is_nameable, (pa.float64(), pa.list_(pa.string()), pa.binary(), pa.date32())))


def test_nothing_answerable_asks_no_router():
    scorer = Lengths()
    assert score_batch(guard.guard(rows(None, ""), 10), scorer, SCHEMA)["score"].to_pylist() == [None, None]
    assert scorer.asked == []


def test_a_score_that_is_not_a_number_becomes_null_and_no_error():
    scored = score_batch(rows("a", "b"), Fixed(np.array([np.nan, 0.5])), SCHEMA)
    assert scored["score"].to_pylist() == [None, 0.5]
    assert scored["error_kind"].null_count == 2


def test_scores_are_put_on_the_grid():
    assert score_batch(rows("a"), Fixed(np.array([0.1234567], dtype=np.float32)), SCHEMA)["score"].to_pylist() == [
        0.123457
    ]


@pytest.mark.parametrize(
    ("scores", "complaint"),
    [
        (np.array([0.5]), r"shape \(1,\) for 2 queries"),
        (np.array([[0.5], [0.5]]), r"shape \(2, 1\) for 2 queries"),
        (np.array([0.5, 1.5]), r"scores in \[0.5, 1.5\], allowed is \[0, 1\]"),
        (np.array([np.nan, -0.5]), r"scores in \[-0.5, -0.5\]"),
        (np.array([0.5, np.inf]), r"inf"),
    ],
)
def test_a_router_that_breaks_its_word_is_an_error(scores, complaint):
    with pytest.raises(ValueError, match=complaint):
        score_batch(rows("a", "b"), Fixed(scores), SCHEMA)


def test_batches_come_back_in_order_and_an_error_of_the_source_is_raised_in_its_place():
    def source():
        yield guard.guard(rows("a"), 10)
        yield guard.guard(rows("bb"), 10)
        raise OSError("the source broke")

    scored = score_batches(source(), Lengths(), SCHEMA)
    assert next(scored)["score"].to_pylist() == [0.1]
    assert next(scored)["score"].to_pylist() == [0.2]
    with pytest.raises(OSError, match="the source broke"):
        next(scored)


def test_one_batch_is_made_ready_ahead_and_no_more():
    drawn = []

    def source():
        for number in range(5):
            drawn.append(number)
            yield number

    with ahead(source()) as items:
        assert next(items) == 0
        assert next(items) == 1
    assert drawn == [0, 1, 2]
