"""One row in, one row out, with an engine of a few lines that can die."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from hybrid_batch.core.records import EngineSpan, Usage
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, Sampling
from hybrid_batch.stages import generate
from hybrid_batch.tables import ANSWER, RESULTS, SCORED, with_kept

KEPT = [pa.field("tenant", pa.string()), pa.field("priority", pa.int16())]
SCHEMA = with_kept(SCORED, KEPT)


def shard(*rows: dict) -> pa.Table:
    made = [
        {"query_id": f"q{n}", "score": 0.5, "source_file": "f", "source_row": n, "tenant": "t", "priority": n, **row}
        for n, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(made, schema=SCHEMA)


def test_the_system_prompt_comes_first_unless_the_chat_brings_its_own():
    own = json.dumps([{"role": "system", "content": "mine"}, {"role": "user", "content": "b"}])
    plain = json.dumps([{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}])
    table = shard({"prompt": "a"}, {"prompt": "b", "messages": own}, {"prompt": "c", "messages": plain})
    sampling = Sampling(max_tokens=7)

    made = generate.requests_of(table, sampling, "ours")
    assert [[turn["role"] for turn in request.messages] for request in made] == [
        ["system", "user"],
        ["system", "user"],
        ["system", "user", "assistant"],
    ]
    assert [request.messages[0]["content"] for request in made] == ["ours", "mine", "ours"]
    assert {request.sampling for request in made} == {sampling}
    without = generate.requests_of(table, sampling, None)
    assert [request.messages[0]["role"] for request in without] == ["user", "system", "user"]
    assert without[0].messages == [{"role": "user", "content": "a"}]


def test_what_a_row_asks_for_takes_the_place_of_the_jobs_sampling():
    own = {"temperature": 0.5, "n": 2, "seed": 9, "structured_outputs": {"choice": ["yes", "no"]}, "adapter": "legal"}
    table = shard({"prompt": "a"}, {"prompt": "b", "request": json.dumps(own)})
    table = table.append_column(ANSWER, pa.array([1, 1]))
    job = Sampling(max_tokens=7, seed=3, response_format='{"type":"json_object"}')

    plain, changed = generate.requests_of(table, job, None)
    assert plain == ChatRequest(plain.messages, replace(job, seed=4))
    assert changed.adapter == "legal"
    assert changed.sampling == Sampling(0.5, 7, n=2, seed=10, structured_outputs='{"choice":["yes","no"]}')
    results = generate.results_table(table, [ChatAnswer("x")] * 2, "small", "model")
    assert results["model"].to_pylist() == ["model", "legal"]


def test_what_an_endpoint_is_not_sent_has_no_value_whoever_asks_for_it():
    table = shard({"prompt": "a"}, {"prompt": "b", "request": '{"temperature": 0.5, "top_p": 0.5, "top_k": 3}'})
    table = table.append_column(ANSWER, pa.array([0, 1]))
    job = Sampling(max_tokens=7, seed=3)

    plain, own = generate.requests_of(table, job, None, ("temperature", "top_p"))
    assert plain.sampling == replace(job, temperature=None, top_p=None)
    assert own.sampling == replace(plain.sampling, top_k=3, seed=4)
    unseeded = generate.requests_of(table, job, None, ("seed",))
    assert [request.sampling.seed for request in unseeded] == [None, None]


def test_a_request_that_was_refused_stays_unread():
    table = shard({"request": '{"temperature": 9}', "error_kind": "invalid_request", "error_message": "temperature"})
    results = generate.results_table(table, generate.refused_answers(table), "rejected", None)
    assert results.select(["model", "error_kind"]).to_pylist() == [{"model": None, "error_kind": "invalid_request"}]


def test_results_have_the_declared_columns_and_the_kept_ones_and_nothing_else():
    table = shard({"prompt": "a"}, {"prompt": "b", "score": None})
    further = {"reasoning": "hm", "tool_calls": "[]", "logprobs": "{}", "samples": ("y", "z")}
    answers = [
        ChatAnswer("x", "stop", 3, 4, 0.25, cached_prompt_tokens=2, **further),
        ChatAnswer(error_kind="too_long", error_message="5000 tokens", latency_seconds=0.5),
    ]
    results = generate.results_table(table, answers, "small", "model")

    assert results.schema == with_kept(RESULTS, KEPT)
    assert results.to_pylist() == [
        {
            "query_id": "q0",
            "score": 0.5,
            "tier": "small",
            "model": "model",
            "text": "x",
            "finish_reason": "stop",
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "latency_seconds": 0.25,
            "error_kind": None,
            "error_message": None,
            "cached_prompt_tokens": 2,
            "answered_by": None,
            "reasoning": "hm",
            "tool_calls": "[]",
            "logprobs": "{}",
            "samples": ["y", "z"],
            "tenant": "t",
            "priority": 0,
        },
        {
            "query_id": "q1",
            "score": None,
            "tier": "small",
            "model": "model",
            "text": None,
            "finish_reason": None,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "latency_seconds": 0.5,
            "error_kind": "too_long",
            "error_message": "5000 tokens",
            "cached_prompt_tokens": 0,
            "answered_by": None,
            "reasoning": None,
            "tool_calls": None,
            "logprobs": None,
            "samples": None,
            "tenant": "t",
            "priority": 1,
        },
    ]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_missing_or_surplus_answer_is_never_written(count):
    with pytest.raises(ValueError, match=f"{count} answers for 2 rows"):
        generate.results_table(shard({}, {}), [ChatAnswer("x")] * count, "small", "m")


def test_refused_rows_carry_their_reason_through():
    table = shard(
        {"error_kind": "null_prompt", "error_message": "the query is null"},
        {"error_kind": "invalid_messages", "error_message": "no list"},
    )
    answers = generate.refused_answers(table)
    results = generate.results_table(table, answers, "rejected", None)
    assert results["error_kind"].to_pylist() == ["null_prompt", "invalid_messages"]
    assert results["error_message"].to_pylist() == ["the query is null", "no list"]
    assert results["model"].null_count == results["text"].null_count == 2
    assert results["tenant"].to_pylist() == ["t", "t"]


def test_a_receipt_counts_what_the_answers_say():
    answers = [
        ChatAnswer("a", "stop", 10, 5),
        ChatAnswer("b", "length", 20, 8),
        ChatAnswer("c", "stop", 1, 1),
        ChatAnswer(error_kind="too_long", prompt_tokens=9),
    ]
    spans = (EngineSpan("e-0", 1, 3, 7), EngineSpan("e-1", 5, 9, 2_500_000))
    receipt = generate.make_receipt("small", 3, answers, spans=spans)
    assert receipt.usage == Usage(rows=4, failed_rows=1, prompt_tokens=40, completion_tokens=14)
    assert (receipt.errors, receipt.finish_reasons) == ({"too_long": 1}, {"stop": 2, "length": 1})
    assert (receipt.engine_id, receipt.load_us, receipt.spans) == ("e-1", 2_500_000, spans)

    refused = generate.make_receipt("rejected", 0, [], spans=[EngineSpan("", 0, 0)])
    assert (refused.engine_id, refused.load_us, refused.usage) == ("", 0, Usage())
