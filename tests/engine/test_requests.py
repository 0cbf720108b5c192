"""All that a request may ask for, sent to a real server process: what comes back, and whose failure it is."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybrid_batch.core.errors import EndpointError
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, EngineHandle, Sampling, ServerRecipe
from hybrid_batch.engines.chat_client import ChatClient
from hybrid_batch.engines.request_body import overrides_of, with_overrides
from hybrid_batch.engines.vllm_server import attached

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "size": {"type": "integer"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.fixture
def engine(fake: Callable[..., ServerRecipe], home: Path, logs: Path) -> Iterator[EngineHandle]:
    with attached(fake(), home, os.getpid(), logs) as handle:
        yield handle


def ask(engine: EngineHandle, *requests: ChatRequest) -> list[ChatAnswer]:
    async def run() -> list[ChatAnswer]:
        client = ChatClient(engine, concurrency=8, request_timeout_s=60.0)
        try:
            return await asyncio.gather(*(client.answer(one) for one in requests))
        finally:
            await client.close()

    return asyncio.run(run())


def asking(content: object = "hi", **given: object) -> ChatRequest:
    plain = ChatRequest([{"role": "user", "content": content}], Sampling())
    return with_overrides(plain, overrides_of(json.dumps(given)))


def test_all_that_a_request_may_ask_for_comes_back(engine):
    tool = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
    three, schema, choice, called, thought, told, seen = ask(
        engine,
        asking(n=3, temperature=1.0),
        asking(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}),
        asking(structured_outputs={"choice": ["good", "bad"]}),
        asking(tools=[tool], tool_choice="required"),
        asking(chat_template_kwargs={"enable_thinking": True}),
        asking(logprobs=True, top_logprobs=2, max_tokens=1),
        asking([{"type": "text", "text": "What is this?"}, IMAGE]),
    )
    assert len({three.text, *three.samples}) == 3
    assert three.completion_tokens == sum(len((text or "").split()) for text in (three.text, *three.samples))
    assert json.loads(schema.text or "") == {"city": "amber", "size": 7}
    assert choice.text == "good"
    [call] = json.loads(called.tool_calls or "")
    assert (call["function"]["name"], called.text) == ("weather", "")
    assert thought.reasoning
    assert thought.text
    [token] = json.loads(told.logprobs or "")["content"]
    assert token["token"] == told.text
    assert len(token["top_logprobs"]) == 2
    assert seen.prompt_tokens > ask(engine, asking("What is this?"))[0].prompt_tokens


def test_a_request_that_cannot_be_met_fails_alone(engine):
    constraint = {"json": {"type": "no such type"}}
    broken, cut, adapted, fine = ask(
        engine,
        asking(structured_outputs=constraint),
        asking(structured_outputs={"json": SCHEMA}, max_tokens=2),
        asking(adapter="none-such"),
        asking(),
    )
    assert (broken.error_kind, broken.text) == ("invalid_request", None)
    assert "no such type" in (broken.error_message or "")
    assert (cut.error_kind, cut.text, cut.completion_tokens) == ("invalid_json", '{"city": "amber",', 2)
    assert adapted.error_kind == "invalid_request"
    assert "none-such" in (adapted.error_message or "")
    assert fine.error_kind is None


def test_an_adapter_that_is_not_served_is_no_rows_failure(fake, home, logs):
    with (
        attached(fake({"adapter": "none-such"}), home, os.getpid(), logs) as engine,
        pytest.raises(EndpointError, match="none-such"),
    ):
        ask(engine, asking())
