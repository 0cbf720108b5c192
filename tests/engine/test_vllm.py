"""The same life and the same client with the real vLLM and a real small model on the CPU."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hybrid_batch.core.errors import EngineDiedError, EngineStartError
from hybrid_batch.demo.models import ensure_model
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, EngineHandle, Sampling, ServerRecipe
from hybrid_batch.engines.chat_client import ChatClient
from hybrid_batch.engines.processes import group_members
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
def engine(model: Path, shared_home: Path) -> Iterator[EngineHandle]:
    with attached(recipe_of(model), shared_home, os.getpid(), shared_home.parent / "logs") as handle:
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
