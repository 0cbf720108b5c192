"""What every engine must do alike: the fake server, the real vLLM on the CPU, and any endpoint that is named.

``HYBRID_BATCH_TEST_ENDPOINT`` (with ``HYBRID_BATCH_TEST_ENDPOINT_MODEL`` and, for a key,
``HYBRID_BATCH_TEST_ENDPOINT_KEY_ENV``, the name of the variable that holds it) adds an OpenAI-compatible endpoint.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hybrid_batch.core.errors import EndpointError
from hybrid_batch.core.records import EngineLoad
from hybrid_batch.demo.models import ensure_model
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, EndpointRecipe, EngineHandle, Sampling, ServerRecipe
from hybrid_batch.engines.chat_client import ChatClient
from hybrid_batch.engines.endpoint import open_endpoint
from hybrid_batch.engines.engine_metrics import Sampler
from hybrid_batch.engines.vllm_server import attached, stop

ENDPOINT = "HYBRID_BATCH_TEST_ENDPOINT"
WINDOW = 512
ENGINES = [
    "fake",
    pytest.param("vllm", marks=pytest.mark.vllm),
    *(["endpoint"] if os.environ.get(ENDPOINT) else []),
]


def server_recipe(kind: str) -> ServerRecipe:
    if kind == "fake":
        return ServerRecipe(tier="small", model="org/fake-model", server="fake", max_model_len=WINDOW, max_num_seqs=16)
    model = ensure_model("smollm2-135m-instruct")
    return ServerRecipe(tier="small", model=str(model), max_model_len=WINDOW, max_num_seqs=16)


def named_endpoint() -> EngineHandle:
    recipe = EndpointRecipe(
        tier="large",
        model=os.environ[f"{ENDPOINT}_MODEL"],
        base_url=os.environ[ENDPOINT],
        api_key_env=os.environ.get(f"{ENDPOINT}_KEY_ENV"),
    )
    return open_endpoint(recipe)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHandle]:
    if request.param == "endpoint":
        yield named_endpoint()
        return
    folder: Path = tmp_path_factory.mktemp(request.param)
    with attached(server_recipe(request.param), folder / "home", os.getpid(), folder / "logs") as handle:
        yield handle
    stop(folder / "home")


def chat(text: str, max_tokens: int = 16, system: str | None = None, **sampling: object) -> ChatRequest:
    turns = [{"role": "user", "content": text}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    return ChatRequest(turns, Sampling(max_tokens=max_tokens, **sampling))  # type: ignore[arg-type]


def ask_all(engine: EngineHandle, requests: list[ChatRequest]) -> list[ChatAnswer]:
    async def run() -> list[ChatAnswer]:
        client = ChatClient(engine, concurrency=16, request_timeout_s=300.0, retry_budget_s=60.0)
        try:
            return await asyncio.gather(*(client.answer(one) for one in requests))
        finally:
            await client.close()

    return asyncio.run(run())


def ask(engine: EngineHandle, request: ChatRequest) -> ChatAnswer:
    [answer] = ask_all(engine, [request])
    return answer


def accepted(engine: EngineHandle, request: ChatRequest) -> ChatAnswer:
    answer = ask(engine, request)
    assert (answer.error_kind, answer.error_message) == (None, None)
    assert answer.text is not None
    return answer


def test_an_answer_comes_with_its_usage(engine):
    answer = accepted(engine, chat("Say hello."))
    assert answer.prompt_tokens > 2
    assert 0 < answer.completion_tokens <= 16
    assert answer.finish_reason in ("stop", "length")
    assert answer.latency_seconds > 0
    longer = accepted(engine, chat("Say hello, and then name a few colours that you like."))
    assert longer.prompt_tokens > answer.prompt_tokens


def test_max_tokens_is_kept(engine):
    answer = accepted(engine, chat("Count from one to one hundred.", max_tokens=1))
    assert (answer.completion_tokens, answer.finish_reason) == (1, "length")


def test_a_stop_text_ends_the_answer(engine):
    question = "Name three colours, please."
    whole = accepted(engine, chat(question, 32))
    words = (whole.text or "").split()
    assert len(words) > 1
    stopped = accepted(engine, chat(question, 32, stop=(words[1],)))
    assert stopped.finish_reason == "stop"
    assert words[1] not in (stopped.text or "")
    assert (whole.text or "").startswith((stopped.text or "").rstrip())


def test_text_of_any_script_is_taken(engine):
    for text in ("ὁ κόσμος", "日本語の質問です", "🧵 emoji, \u202eright to left\u202c", "nul \\u0000 and \t tab"):
        answer = accepted(engine, chat(text))
        (answer.text or "").encode()  # no half of a pair


def test_an_empty_system_prompt_is_taken(engine):
    assert accepted(engine, chat("Say hello.", system="")).completion_tokens > 0


def test_a_prompt_that_is_too_long_is_that_rows_failure(engine):
    window = engine.max_model_len or 1_000_000
    answers = ask_all(engine, [chat("Say hello."), chat("yes " * 2 * window), chat("Say goodbye.")])
    assert [answer.error_kind for answer in answers] == [None, "context_overflow", None]
    assert answers[1].text is None
    assert answers[1].error_message


@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest([{"role": "user", "content": 7}]),
        ChatRequest([{"role": "user"}, {"role": "wizard", "content": {"a": 1}}]),
        chat("fine", max_tokens=-1),
    ],
)
def test_a_row_that_is_no_request_is_that_rows_failure(engine, request_):
    refused, answered = ask_all(engine, [request_, chat("Say hello.")])
    assert refused.error_kind == "invalid_request"
    assert refused.error_message
    assert answered.error_kind is None


def test_greedy_answers_repeat(engine):
    request = chat("What is the capital of France?", 24)
    assert accepted(engine, request).text == accepted(engine, request).text


def test_each_of_many_gets_its_own_answer(engine):
    """An answer belongs to its question by the length of its prompt, and a cut answer by its own bound."""
    requests = [chat("word " * (1 + number), max_tokens=1 + number % 7) for number in range(40)]
    answers = ask_all(engine, requests)
    assert {answer.error_kind for answer in answers} == {None}
    assert all(a.prompt_tokens < b.prompt_tokens for a, b in itertools.pairwise(answers))
    for answer, request in zip(answers, requests, strict=True):
        assert answer.completion_tokens <= request.sampling.max_tokens
        assert answer.finish_reason != "length" or answer.completion_tokens == request.sampling.max_tokens


def test_a_local_engine_tells_its_load(engine):
    """Twice the same long prompt, one after the other, so that the second finds the first one's blocks."""
    request = chat("word " * 300, max_tokens=4)

    async def run() -> tuple[EngineLoad, list[ChatAnswer]]:
        client = ChatClient(engine, concurrency=1, request_timeout_s=300.0)
        async with Sampler(engine, every_s=0.01) as sampler:
            answers = [await client.answer(request) for _ in range(2)]
        await client.close()
        return sampler.load, answers

    load, answers = asyncio.run(run())
    assert {answer.error_kind for answer in answers} == {None}
    if not engine.is_local:
        assert load == EngineLoad()
        return
    assert load.prompt_tokens == sum(answer.prompt_tokens for answer in answers)
    assert load.generation_tokens == sum(answer.completion_tokens for answer in answers)
    assert 0 < load.prefix_hits < load.prefix_queries <= load.prompt_tokens
    assert load.preemptions == 0
    assert load.waiting_max <= 1


def test_an_unknown_model_is_the_engines_failure(engine):
    with pytest.raises(EndpointError, match="no-such-model"):
        ask(replace(engine, model="no-such-model"), chat("Say hello."))


def test_a_wrong_key_is_the_engines_failure(engine):
    if engine.api_key is None:  # an endpoint without keys takes any
        assert accepted(replace(engine, api_key="sk-wrong"), chat("Say hello.")).text is not None
        return
    with pytest.raises(EndpointError, match=r"401|403") as failure:
        ask(replace(engine, api_key="sk-wrong"), chat("Say hello."))
    assert "sk-wrong" not in str(failure.value)


def test_a_client_may_be_closed_twice_or_unused(engine):
    async def run() -> None:
        client = ChatClient(engine, concurrency=2, request_timeout_s=300.0)
        await client.close()
        assert (await client.answer(chat("Say hello."))).error_kind is None
        await client.close()
        await client.close()

    asyncio.run(run())
