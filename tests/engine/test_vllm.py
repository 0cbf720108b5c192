"""The same life and the same client with the real vLLM and a real small model on the CPU."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import save_file

from hybrid_batch.core.errors import EngineDiedError, EngineStartError
from hybrid_batch.demo.models import ensure_model
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, EngineHandle, Sampling, ServerRecipe
from hybrid_batch.engines.chat_client import ChatClient
from hybrid_batch.engines.processes import group_members
from hybrid_batch.engines.request_body import overrides_of, with_overrides
from hybrid_batch.engines.server_state import EngineState, read_key, read_state
from hybrid_batch.engines.vllm_server import attach, attached, stop

pytestmark = pytest.mark.vllm

WINDOW = 256


@pytest.fixture(scope="module")
def model() -> Path:
    return Path(ensure_model("smollm2-135m-instruct"))


def recipe_of(model: Path, **fields: object) -> ServerRecipe:
    return ServerRecipe(tier="small", model=str(model), max_model_len=WINDOW, max_num_seqs=16, **fields)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "home"


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small adapter of the model's first layer, out of fixed random numbers, large enough to change answers."""
    folder, width, rank = tmp_path_factory.mktemp("adapter"), 576, 8
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 64, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    draw = np.random.default_rng(3)
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    weights = {
        f"{layer}.lora_A.weight": draw.normal(size=(rank, width)).astype(np.float32),
        f"{layer}.lora_B.weight": draw.normal(size=(width, rank)).astype(np.float32),
    }
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def engine(model: Path, adapter: Path, shared_home: Path) -> Iterator[EngineHandle]:
    flags = {
        "enable_auto_tool_choice": True,
        "tool_call_parser": "hermes",
        "enable_lora": True,
        "max_lora_rank": 8,
        "lora_modules": f"random={adapter}",
    }
    recipe = recipe_of(model, engine_args=tuple(flags.items()))
    with attached(recipe, shared_home, os.getpid(), shared_home.parent / "logs") as handle:
        yield handle
    state = state_of(shared_home)
    stop(shared_home)
    assert state.server is not None
    assert group_members(state.server.pid) == []


def state_of(home: Path) -> EngineState:
    state = read_state(home)
    assert state is not None
    return state


def chat(text: str, max_tokens: int = 8, **sampling: object) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": text}], Sampling(max_tokens=max_tokens, **sampling))  # type: ignore[arg-type]


async def gather(engine: EngineHandle, requests: list[ChatRequest]) -> list[ChatAnswer | BaseException]:
    client = ChatClient(engine, concurrency=16, request_timeout_s=300.0)
    try:
        return await asyncio.gather(*(client.answer(one) for one in requests), return_exceptions=True)
    finally:
        await client.close()


def ask(engine: EngineHandle, request: ChatRequest) -> ChatAnswer:
    [answer] = asyncio.run(gather(engine, [request]))
    assert isinstance(answer, ChatAnswer)
    return answer


def test_it_answers(engine):
    answer = ask(engine, chat("What is the capital of France?", 20))
    assert answer.error_kind is None
    assert "Paris" in (answer.text or "")
    assert answer.finish_reason == "stop"
    assert answer.prompt_tokens > 10
    assert 0 < answer.completion_tokens <= 20
    assert engine.max_model_len == WINDOW


def test_max_tokens_is_an_upper_bound(engine):
    long_prompt = "yes " * 200
    for max_tokens in (100, 100_000):
        answer = ask(engine, chat(long_prompt, max_tokens))
        assert answer.error_kind is None
        assert answer.prompt_tokens + answer.completion_tokens <= WINDOW


def test_a_prompt_overflows_exactly_where_no_token_has_room(engine):
    others = ask(engine, chat("yes", 1)).prompt_tokens - 1
    fits = ask(engine, chat("yes " * (WINDOW - 1 - others - 1) + "yes", 8))
    while fits.error_kind:  # a template may trim or join; walk to the last prompt that fits
        others += 1
        fits = ask(engine, chat("yes " * (WINDOW - 1 - others - 1) + "yes", 8))
    assert fits.prompt_tokens + fits.completion_tokens <= WINDOW
    for more in (1, 2, 3, 500):
        over = ask(engine, chat("yes " * (WINDOW - others + more) + "yes", 8))
        assert over.error_kind == "context_overflow", over


def test_a_sampling_value_that_vllm_refuses_is_the_rows(engine):
    answer = ask(engine, chat("hi", temperature=-1.0))
    assert answer.error_kind == "invalid_request"
    assert "temperature" in (answer.error_message or "")


SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}
BROKEN = {"type": "object", "properties": {"city": {"type": "no such type"}}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}}
REQUESTS = {
    "two": {"n": 2, "temperature": 1.0, "top_k": 50, "seed": 7, "max_tokens": 12},
    "most likely": {"temperature": 1.0, "top_k": 1, "max_tokens": 12},
    "greedy": {"max_tokens": 12},
    "two greedy ones": {"n": 2},
    "stopped": {"stop": ["is"], "max_tokens": 12},
    "penalties": {"presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.2, "min_p": 0.1},
    "logprobs": {"logprobs": True, "top_logprobs": 2, "max_tokens": 3},
    "schema": {"structured_outputs": {"json": SCHEMA}, "max_tokens": 40},
    "openai schema": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": SCHEMA}},
        "max_tokens": 40,
    },
    "cut schema": {"structured_outputs": {"json": SCHEMA}, "max_tokens": 2},
    "regex": {"structured_outputs": {"regex": "[0-9]{3}-[0-9]{2}"}},
    "choice": {"structured_outputs": {"choice": ["Lyon", "Nice"]}},
    "grammar": {"structured_outputs": {"grammar": 'root ::= "Lyon" | "Nice"'}},
    "broken schema": {"structured_outputs": {"json": BROKEN}},
    "tool": {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}, "max_tokens": 80},
    "required tool": {"tools": [TOOL], "tool_choice": "required", "max_tokens": 80},
    "template": {"chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 12},
    "passed": {"min_tokens": 12, "max_tokens": 12},
    "adapter": {"adapter": "random", "max_tokens": 12},
    "no adapter": {"adapter": "none-such"},
}
"""What rows may ask for, as they write it."""


@pytest.fixture(scope="module")
def answered(engine: EngineHandle) -> dict[str, ChatAnswer]:
    """The answers to one question, asked in all these ways at once."""
    plain = chat("What is the capital of France?", 32)
    asked = [with_overrides(plain, overrides_of(json.dumps(given))) for given in REQUESTS.values()]
    answers = asyncio.run(gather(engine, asked))
    assert all(isinstance(answer, ChatAnswer) for answer in answers), answers
    return dict(zip(REQUESTS, answers, strict=True))  # type: ignore[arg-type]


def test_a_seed_draws_the_same_answers_again(engine):
    """One request after the other: what else is in a batch changes the numbers, and with them what is drawn."""
    request = chat("Name a colour.", 12, temperature=1.0, top_k=50, seed=7, n=2)
    first, second = ask(engine, request), ask(engine, request)
    assert (first.text, first.samples) == (second.text, second.samples)
    other = ask(engine, replace(request, sampling=replace(request.sampling, seed=8)))
    assert (first.text, first.samples) != (other.text, other.samples)


def test_each_way_to_draw_is_followed(answered):
    two = answered["two"]
    assert len(two.samples) == 1
    assert two.samples != (two.text,)
    assert answered["most likely"].text == answered["greedy"].text == answered["template"].text
    assert two.completion_tokens > answered["greedy"].completion_tokens
    assert answered["stopped"].text == (answered["greedy"].text or "").partition("is")[0]
    assert answered["passed"].completion_tokens == 12
    assert answered["penalties"].error_kind is answered["adapter"].error_kind is None
    assert answered["adapter"].text != answered["greedy"].text


def test_logprobs_are_those_of_each_token(answered):
    told = json.loads(answered["logprobs"].logprobs or "")["content"]
    assert len(told) == answered["logprobs"].completion_tokens == 3
    assert all(token["logprob"] <= 0 and len(token["top_logprobs"]) == 2 for token in told)
    assert answered["greedy"].logprobs is None


def test_constraints_hold(answered):
    for name in ("schema", "openai schema"):
        assert answered[name].error_kind is None, answered[name]
        assert json.loads(answered[name].text or "").keys() == {"city"}
    assert re.fullmatch("[0-9]{3}-[0-9]{2}", answered["regex"].text or "")
    assert {answered["choice"].text, answered["grammar"].text} <= {"Lyon", "Nice"}
    for name in ("tool", "required tool"):
        [call] = json.loads(answered[name].tool_calls or "")
        assert call["function"]["name"] == "weather"
        assert json.loads(call["function"]["arguments"]).keys() == {"city"}


def test_what_the_engine_cannot_do_is_an_error_of_that_row_alone(answered):
    cut = answered["cut schema"]
    assert (cut.error_kind, cut.finish_reason) == ("invalid_json", "length")
    assert (cut.error_message or "").startswith(repr(cut.text))
    assert cut.completion_tokens == 2
    for name, said in (("broken schema", "type"), ("two greedy ones", "greedy"), ("no adapter", "none-such")):
        assert answered[name].error_kind == "invalid_request", answered[name]
        assert said in (answered[name].error_message or "")


def test_the_prefix_cache_is_told(engine):
    long_prompt = "The same beginning. " * 35  # beyond the 128 tokens of a block on a CPU
    ask(engine, chat(long_prompt + "One?", 1))
    second = ask(engine, chat(long_prompt + "Two?", 1))
    assert 0 < second.cached_prompt_tokens < second.prompt_tokens


def test_the_key_is_in_no_command_line_and_no_log(engine, shared_home):
    key = read_key(shared_home)
    for process in psutil.process_iter():
        try:
            assert key not in " ".join(process.cmdline())
        except psutil.Error:  # gone by now
            continue
    assert key not in Path(state_of(shared_home).log_path).read_text()


def test_prompts_are_not_logged(engine, shared_home):
    ask(engine, chat("a most unmistakable prompt"))
    assert "unmistakable" not in Path(state_of(shared_home).log_path).read_text()


def test_a_killed_engine_core_is_the_engines_death_not_the_rows(home, logs, model, until, left_of):
    with attached(recipe_of(model), home, os.getpid(), logs) as engine:
        state = state_of(home)
        assert state.server is not None
        core = [pid for pid in group_members(state.server.pid) if "EngineCore" in psutil.Process(pid).cmdline()[0]]

        async def kill_under_way() -> list[ChatAnswer | BaseException]:
            requests = [chat(f"count to {number}", 200, temperature=1.0, seed=number) for number in range(8)]
            under_way = asyncio.ensure_future(gather(engine, requests))
            await asyncio.sleep(1.0)
            for pid in core:
                os.kill(pid, signal.SIGKILL)
            return await under_way

        outcomes = asyncio.run(kill_under_way())
    assert core
    assert all(isinstance(outcome, EngineDiedError) or outcome.error_kind is None for outcome in outcomes)
    assert any(isinstance(outcome, EngineDiedError) for outcome in outcomes)
    until(lambda: not left_of(state))


def test_a_start_that_takes_too_long_leaves_nothing(home, logs, model, until, left_of):
    with pytest.raises(EngineStartError, match=r"not ready within start_timeout_s = 3;"):
        attach(recipe_of(model, start_timeout_s=3.0), home, os.getpid(), logs)
    until(lambda: not left_of(state_of(home)))


def test_an_unknown_flag_is_named(home, logs, model):
    with pytest.raises(EngineStartError, match="unrecognized arguments: --no-such-flag=1"):
        attach(recipe_of(model, engine_args=(("no_such_flag", 1),)), home, os.getpid(), logs)


def test_a_folder_that_is_no_model_is_explained(home, logs, model, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    shutil.copy(model / "config.json", broken)  # no weights, no tokenizer
    with pytest.raises(EngineStartError) as failure:
        attach(recipe_of(broken), home, os.getpid(), logs)
    assert "Engine core initialization failed" not in str(failure.value)
    assert str(failure.value).count("\n") == 0
