"""One row in, one row out, with an engine of a few lines that can die."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from hybrid_batch.core.errors import EngineDiedError
from hybrid_batch.core.records import Usage
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, EngineHandle, Sampling
from hybrid_batch.stages import generate
from hybrid_batch.tables import RESULTS, SCORED, with_kept

KEPT = [pa.field("tenant", pa.string()), pa.field("priority", pa.int16())]
SCHEMA = with_kept(SCORED, KEPT)


@dataclass
class Echo:
    """Answers with the last turn's text, later rows first; dies for good after ``lives`` answers."""

    lives: int | None = None
    pauses: Callable[[int], int] = lambda number: 0
    asked: list[str] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0

    async def answer(self, request: ChatRequest) -> ChatAnswer:
        text = request.messages[-1]["content"]
        self.asked.append(text)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            for _ in range(self.pauses(len(self.asked))):
                await asyncio.sleep(0)
            if self.lives is not None:
                if self.lives == 0:
                    raise EngineDiedError("gone")
                self.lives -= 1
            return ChatAnswer(text, "stop", prompt_tokens=len(text), completion_tokens=1, latency_seconds=0.5)
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        """Nothing to close."""


def requests(count: int) -> list[ChatRequest]:
    return [ChatRequest([{"role": "user", "content": f"text {number}"}]) for number in range(count)]


def answer(asked: list[ChatRequest], answers: list, engine: Echo, window: int) -> None:
    asyncio.run(generate.answer_missing(asked, answers, engine, window))


def shard(*rows: dict) -> pa.Table:
    made = [
        {"query_id": f"q{n}", "score": 0.5, "source_file": "f", "source_row": n, "tenant": "t", "priority": n, **row}
        for n, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(made, schema=SCHEMA)


@pytest.mark.parametrize("window", [1, 3, 8, 50])
def test_answers_come_in_the_order_of_the_requests_and_the_window_is_never_exceeded(window):
    asked, answers = requests(30), [None] * 30
    engine = Echo(pauses=lambda number: 40 - number)
    answer(asked, answers, engine, window)

    assert [item.text for item in answers] == [f"text {number}" for number in range(30)]
    assert engine.most_under_way == min(window, 30)
    assert sorted(engine.asked) == sorted(f"text {number}" for number in range(30))


def test_nothing_to_ask_asks_nothing():
    engine = Echo()
    answer([], [], engine, 4)
    given = [ChatAnswer("kept")]
    answer(requests(1), given, engine, 4)
    assert engine.asked == []
    assert given == [ChatAnswer("kept")]


def test_a_dead_engine_keeps_what_it_answered_and_only_the_rest_is_asked_again():
    asked, answers = requests(20), [None] * 20
    first, second = Echo(lives=7, pauses=lambda number: number % 5), Echo()
    with pytest.raises(EngineDiedError, match="gone"):
        answer(asked, answers, first, 4)
    done = {number for number, item in enumerate(answers) if item is not None}
    assert len(done) == 7
    assert first.under_way == 0

    answer(asked, answers, second, 4)
    assert {int(text.split()[1]) for text in second.asked} == set(range(20)) - done
    assert [item.text for item in answers] == [f"text {number}" for number in range(20)]


def test_an_error_of_one_row_is_data_and_stops_nobody():
    class Moody(Echo):
        async def answer(self, request: ChatRequest) -> ChatAnswer:
            if request.messages[-1]["content"] == "text 1":
                return ChatAnswer(error_kind="too_long", error_message="5000 tokens")
            return await super().answer(request)

    answers: list = [None] * 4
    answer(requests(4), answers, Moody(), 2)
    assert [item.error_kind for item in answers] == [None, "too_long", None, None]


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


def test_results_have_the_declared_columns_and_the_kept_ones_and_nothing_else():
    table = shard({"prompt": "a"}, {"prompt": "b", "score": None})
    answers = [
        ChatAnswer("x", "stop", 3, 4, 0.25),
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
    engine = EngineHandle("e-1", "http://127.0.0.1:1", "m", load_seconds=2.5)
    receipt = generate.make_receipt("small", 3, answers, started_us=5, finished_us=9, engine=engine)
    assert receipt.usage == Usage(rows=4, failed_rows=1, prompt_tokens=40, completion_tokens=14)
    assert (receipt.errors, receipt.finish_reasons) == ({"too_long": 1}, {"stop": 2, "length": 1})
    assert (receipt.engine_id, receipt.load_us) == ("e-1", 2_500_000)

    refused = generate.make_receipt("rejected", 0, [], started_us=0, finished_us=0, engine=None)
    assert (refused.engine_id, refused.load_us, refused.usage) == ("", 0, Usage())
