"""Which queries are labelled, and the rows that ask for their answers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from hybrid_batch.engines.base import Sampling
from hybrid_batch.stages import generate, sample
from hybrid_batch.stages.label import grouped, labels_table, require_pair, with_both_judged
from hybrid_batch.tables import ANSWER, LABELS, SCORED, with_kept

KEPT = [pa.field("tenant", pa.string())]
SCHEMA = with_kept(SCORED, KEPT)


def guarded(count: int, refused: frozenset[int] = frozenset()) -> pa.RecordBatch:
    """Rows as a reader gives them: everything but the score."""
    rows = [
        {
            "query_id": f"q{number}",
            "prompt": None if number in refused else f"prompt {number % 7}",
            "messages": None,
            "error_kind": "null_prompt" if number in refused else None,
            "error_message": None,
            "source_file": "f",
            "source_row": number,
            "tenant": f"t{number % 2}",
        }
        for number in range(count)
    ]
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema([field for field in SCHEMA if field.name != "score"]))


def test_a_sample_is_the_same_however_the_rows_come():
    rows = guarded(1000, frozenset({3, 500}))
    limit = int(sample.smallest(sample.sample_hashes(sample.answerable(rows)), 100).max())
    whole = sample.sampled_rows(rows, limit, SCHEMA)
    pieces = [sample.sampled_rows(rows.slice(start, 77), limit, SCHEMA) for start in range(0, 1000, 77)]

    assert whole.num_rows == 100
    assert pa.Table.from_batches(pieces).to_pylist() == whole.to_pylist()
    assert whole["score"].null_count == 100
    assert not set(whole["query_id"].to_pylist()) & {"q3", "q500"}


def test_a_sample_of_more_than_there_is_takes_all_that_can_be_answered():
    rows = guarded(20, frozenset({0}))
    hashes = sample.smallest(sample.sample_hashes(sample.answerable(rows)), 100)
    assert sample.sampled_rows(rows, int(hashes.max()), SCHEMA).num_rows == 19


def test_the_smallest_of_parts_hold_the_smallest_of_all():
    hashes = sample.sample_hashes(guarded(500))
    parts = np.concatenate([sample.smallest(hashes[:300], 50), sample.smallest(hashes[300:], 50)])
    assert sorted(sample.smallest(parts, 50)) == sorted(hashes)[:50]


def test_equal_prompts_sit_together():
    rows = sample.in_request_order(pa.Table.from_batches([sample.sampled_rows(guarded(70), 2**63 - 1, SCHEMA)]))
    prompts = rows["prompt"].to_pylist()
    assert prompts == sorted(prompts)
    assert [rows["query_id"][place].as_py() for place in range(2)] == ["q0", "q14"]


def test_each_row_is_asked_several_times_with_seeds_of_its_own():
    rows = pa.Table.from_batches([sample.sampled_rows(guarded(2), 2**63 - 1, SCHEMA)])
    asked = sample.asked_rows(rows, 3)
    assert asked["query_id"].to_pylist() == ["q0#0", "q0#1", "q0#2", "q1#0", "q1#1", "q1#2"]
    assert asked[ANSWER].to_pylist() == [0, 1, 2, 0, 1, 2]
    requests = generate.requests_of(asked, Sampling(temperature=0.7, seed=5), None)
    assert [request.sampling.seed for request in requests] == [5, 6, 7, 5, 6, 7]
    unseeded = generate.requests_of(asked, Sampling(temperature=0.7), None)
    assert {request.sampling.seed for request in unseeded} == {None}


@pytest.mark.parametrize(("rows", "answers", "queries"), [(1000, 10, 100), (100, 7, 14), (5, 10, 1)])
def test_all_answers_to_a_query_share_a_shard(rows: int, answers: int, queries: int):
    assert sample.queries_per_shard(rows, answers) == queries


def test_labels_keep_answers_and_qualities_of_each_query_together():
    rows = pa.Table.from_batches([sample.sampled_rows(guarded(2), 2**63 - 1, SCHEMA)])
    asked = sample.asked_rows(rows, 2)
    texts = (grouped(["a", "b", None, "d"], 2), grouped(["e", "f", "g", "h"], 2))
    table = labels_table(asked, 2, texts, ([[1.0, 0.0], [None, None]], [[1.0, 1.0], [0.5, 0.5]]), "tenant")

    assert table.schema == LABELS
    assert table.to_pylist()[0] == {
        "query_id": "q0",
        "prompt": "prompt 0",
        "task": "t0",
        "q_small": [1.0, 0.0],
        "q_large": [1.0, 1.0],
        "text_small": ["a", "b"],
        "text_large": ["e", "f"],
    }
    assert with_both_judged(table)["query_id"].to_pylist() == ["q0"]


def test_results_of_other_rows_are_no_answers():
    rows = pa.Table.from_batches([sample.sampled_rows(guarded(3), 2**63 - 1, SCHEMA)])
    asked = sample.asked_rows(rows, 1)
    require_pair(asked, asked, asked)
    with pytest.raises(ValueError, match="tier large"):
        require_pair(asked, asked.slice(1), asked)
