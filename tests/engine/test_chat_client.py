"""The client against a real server process that fails to order: what is the row's failure, what is the engine's."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

import pytest

from hybrid_batch.core.errors import ConfigError, EndpointError, EngineDiedError
from hybrid_batch.core.records import EngineLoad
from hybrid_batch.engines.base import ChatAnswer, ChatRequest, EndpointRecipe, EngineHandle, Sampling
from hybrid_batch.engines.chat_client import ChatClient
from hybrid_batch.engines.endpoint import open_endpoint
from hybrid_batch.engines.engine_metrics import Sampler
from hybrid_batch.engines.limits import Limiter, estimated_tokens
from hybrid_batch.engines.server_state import read_state
from hybrid_batch.engines.vllm_server import attach


def chat(text: str = "say something", max_tokens: int = 64) -> ChatRequest:
    return ChatRequest([{"role": "user", "content": text}], Sampling(max_tokens=max_tokens))


def ask_all(
    engine: EngineHandle,
    requests: list[ChatRequest],
    timeout_s: float = 60.0,
    budget_s: float = 30.0,
    limiter: Limiter | None = None,
) -> list[ChatAnswer | BaseException]:
    async def run() -> list[ChatAnswer | BaseException]:
        client = ChatClient(
            engine, concurrency=16, request_timeout_s=timeout_s, retry_budget_s=budget_s, limiter=limiter
        )
        try:
            return await asyncio.gather(*(client.answer(one) for one in requests), return_exceptions=True)
        finally:
            await client.close()

    return asyncio.run(run())


def ask(engine: EngineHandle, request: ChatRequest, **limits: float) -> ChatAnswer:
    [outcome] = ask_all(engine, [request], **limits)
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def refusals(engine: EngineHandle) -> int:
    """How many chats the fake server has refused for its limits or its queue."""
    with urlopen(engine.base_url.removesuffix("/v1") + "/metrics") as reply:
        text = reply.read().decode()
    return int(re.search(r"fake:requests_refused_total\S* (\d+)", text)[1])  # type: ignore[index]


def remote(engine: EngineHandle) -> EngineHandle:
    """The same server, looked at as an endpoint somewhere else."""
    return replace(engine, is_local=False)


@pytest.fixture
def serve(home, logs, fake):
    """Start the fake server with these flags."""

    def start(recipe: dict[str, object] | None = None, **flags: object) -> EngineHandle:
        return attach(fake(recipe, **flags), home, os.getpid(), logs)

    return start


FINE = json.dumps(
    {
        "choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
).encode()

Told = tuple[int, bytes] | None


@contextmanager
def served(answer: Callable[[str, str], Told]) -> Iterator[EngineHandle]:
    """A server that answers as told for a path and a body: status and body, or None to close the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._tell(answer(self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))

        def do_GET(self) -> None:
            self._tell(answer(self.path, ""))

        def _tell(self, told: Told) -> None:
            if told is None:
                return
            self.send_response(told[0])
            self.send_header("Content-Length", str(len(told[1])))
            self.end_headers()
            self.wfile.write(told[1])

        def log_message(self, *args: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield EngineHandle("x", f"http://127.0.0.1:{server.server_port}/v1", "m")
        finally:
            server.shutdown()


def ask_among_others(engine: EngineHandle, request: ChatRequest) -> ChatAnswer:
    """One request's answer, while others are answered all the time."""

    async def run() -> ChatAnswer:
        client = ChatClient(engine, concurrency=4, request_timeout_s=60.0)
        asked = asyncio.create_task(client.answer(request))
        try:
            while not asked.done():
                assert (await client.answer(chat("another"))).error_kind is None
            return await asked
        finally:
            await client.close()

    return asyncio.run(asyncio.wait_for(run(), 120.0))


def test_an_answer_with_its_usage(serve):
    engine = serve()
    first, second = ask(engine, chat("one two three")), ask(engine, chat("one two three"))
    assert first.error_kind is None
    assert first.prompt_tokens == 6
    assert first.text is not None
    assert first.completion_tokens == len(first.text.split())
    assert first.latency_seconds > 0
    assert first.text == second.text
    cut = ask(engine, chat("one two three", max_tokens=1))
    assert (cut.finish_reason, cut.completion_tokens) == ("length", 1)


def test_many_requests_keep_their_order(serve):
    requests = [chat(f"question {number}") for number in range(200)]
    engine = serve({"max_num_seqs": 8}, tokens_per_second=20000.0)
    answers = ask_all(engine, requests)
    assert [answer.text for answer in answers] == [ask(engine, request).text for request in requests[:200]]


@pytest.mark.parametrize("overflow", ["clamp", "reject"])
def test_max_tokens_is_an_upper_bound(serve, overflow):
    engine = serve({"max_model_len": 16}, overflow=overflow)
    for text, max_tokens in (("a b c d e f g h", 12), ("a b", 100_000)):
        answer = ask(engine, chat(text, max_tokens))
        assert answer.error_kind is None
        assert answer.completion_tokens <= 16 - answer.prompt_tokens
    unknown_window = replace(engine, max_model_len=None)
    assert ask(unknown_window, chat("a b", 100_000)).error_kind is None


def test_max_tokens_is_an_upper_bound_under_its_other_name_too(serve):
    engine = remote(serve({"max_model_len": 16}, overflow="reject", unsupported="max_tokens"))
    endpoint = replace(engine, max_model_len=None, max_tokens_field="max_completion_tokens")
    answer = ask(endpoint, chat("a b c d e f g h", 12))
    assert answer.error_kind is None
    assert 0 < answer.completion_tokens <= 16 - answer.prompt_tokens
    refused = ask(engine, chat("a b"))
    assert refused.error_kind == "invalid_request"
    assert "Use 'max_completion_tokens' instead" in (refused.error_message or "")


@pytest.mark.parametrize("words", [13, 14, 500])
@pytest.mark.parametrize("overflow", ["clamp", "reject"])
def test_a_prompt_without_room_for_one_token_overflows(serve, overflow, words):
    answer = ask(serve({"max_model_len": 16}, overflow=overflow), chat("w " * words, 8))
    assert answer.error_kind == "context_overflow"
    assert answer.text is None


def test_a_prompt_with_room_for_one_token_is_answered(serve):
    answer = ask(serve({"max_model_len": 16}, overflow="reject"), chat("w " * 12, 8))
    assert (answer.error_kind, answer.completion_tokens) == (None, 1)


@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest([{"role": "user", "content": 7}]),
        ChatRequest([{"role": "wizard", "content": "hm"}]),
        ChatRequest([]),
        chat("fine", max_tokens=0),
        chat("half a pair \ud800"),
        ChatRequest([{"role": "user", "content": {1, 2}}]),
    ],
)
def test_a_row_that_is_no_request(serve, request_):
    assert ask(serve(), request_).error_kind == "invalid_request"


def test_messages_of_failures_are_cut(serve):
    answer = ask(serve(), ChatRequest([{"role": "user", "content": {"x": 1}}, {"role": "r" * 2000, "content": "y"}]))
    assert answer.error_message is not None
    assert len(answer.error_message) <= 500


def test_wrong_key_and_unknown_model_refuse_the_engine(serve):
    engine = serve()
    with pytest.raises(EndpointError, match=rf"{engine.base_url} \(model fake-model\) .* status 401") as failure:
        ask(replace(engine, api_key="sk-wrong-key"), chat())
    assert "sk-wrong-key" not in str(failure.value)
    with pytest.raises(EndpointError, match="status 404"):
        ask(replace(engine, model="another"), chat())


def test_busy_is_waited_for(serve):
    assert ask(serve(busy_first=3, retry_after=0.01), chat()).error_kind is None


def test_a_full_queue_is_waited_for(serve):
    for status in (503, 429):
        engine = serve({"max_num_seqs": 2}, tokens_per_second=4000.0, queue_limit=2, queue_full_status=status)
        answers = ask_all(engine, [chat(f"q {number}") for number in range(24)])
        assert [answer.error_kind for answer in answers] == [None] * 24
        assert refusals(engine) > 0


def test_an_endpoints_own_limits_are_obeyed_when_it_refuses(serve):
    engine = serve(requests_per_minute=8, minute_seconds=0.5)
    answers = ask_all(remote(engine), [chat(f"q {number}") for number in range(32)])
    assert [answer.error_kind for answer in answers] == [None] * 32
    # After a refusal all requests wait, so the window of 16 is refused a few times, not once for each request.
    assert 0 < refusals(engine) <= 4 * 16


@pytest.mark.parametrize("limit", ["requests_per_minute", "tokens_per_minute"])
def test_configured_limits_are_kept_without_a_refusal(serve, limit):
    """Eight tenths: requests do not arrive exactly as they leave, and this server gives no tokens back."""
    requests = [chat(f"q {number} " + "word " * 20, max_tokens=16) for number in range(30)]
    allowed = 10 if limit == "requests_per_minute" else 10 * estimated_tokens(requests[-1], {"max_tokens": 16})
    engine = serve(minute_seconds=1.0, **{limit: allowed})
    limiter = Limiter(**{limit: 0.8 * allowed}, minute_s=1.0)
    answers = ask_all(remote(engine), requests, limiter=limiter)
    assert [answer.error_kind for answer in answers] == [None] * 30
    assert refusals(engine) == 0


def test_busy_for_too_long_gives_the_endpoint_up(serve):
    engine = serve(busy_first=1000)
    with pytest.raises(EndpointError, match=r"retry budget.*status 429"):
        ask(remote(engine), chat(), budget_s=0.5)
    with pytest.raises(EngineDiedError, match="retry budget"):
        ask(engine, chat(), budget_s=0.5)


def test_a_passing_server_error_is_asked_again_and_a_lasting_one_is_the_rows(serve):
    engine = serve(fail_first=5)
    answer = ask(engine, chat())
    assert answer.error_kind == "server_error"
    assert "something broke inside" in (answer.error_message or "")
    assert ask(engine, chat()).error_kind is None


def test_an_unreadable_answer_is_asked_again_then_the_rows(serve):
    assert ask(serve(garbage_rate=1.0), chat()).error_kind == "bad_response"


def test_a_body_cut_once_is_asked_again(serve):
    engine = serve(half_body_first=1)
    assert ask(engine, chat()).error_kind is None


def test_a_body_that_is_always_cut_is_a_dead_server_or_a_bad_endpoint(serve):
    engine = serve(half_body_first=1000)
    with pytest.raises(EngineDiedError, match="closed the connection"):
        ask(engine, chat())
    with pytest.raises(EndpointError, match=r"retry budget.*closed the connection"):
        ask(remote(engine), chat(), budget_s=0.5)


@pytest.mark.parametrize("status", [502, 504, 522])
@pytest.mark.parametrize("well_at_first", [0, 6])
def test_an_outage_of_an_endpoint_fails_no_row(status, well_at_first):
    count, began = 0, None
    lock = threading.Lock()

    def answer(path: str, body: str) -> Told:
        nonlocal count, began
        with lock:
            count += 1
            if count <= well_at_first:
                return 200, FINE
            began = began or time.monotonic()
        return (200, FINE) if time.monotonic() > began + 2.0 else (status, b"bad gateway")

    with served(answer) as engine:
        answers = ask_all(remote(engine), [chat(f"q {number}") for number in range(12)])
    assert [answer.error_kind for answer in answers] == [None] * 12
    assert count > 12


@pytest.mark.parametrize("told", [None, (502, b"bad gateway"), (503, b"busy")])
def test_a_row_that_alone_brings_an_endpoint_down_fails_alone(told):
    with served(lambda path, body: told if "poison" in body else (200, FINE)) as engine:
        assert ask_among_others(remote(engine), chat("poison")).error_kind == "server_error"


def test_a_row_that_fails_when_the_others_are_done_fails_alone_too():
    with served(lambda path, body: None if "poison" in body else (200, FINE)) as engine:
        poison, *others = ask_all(remote(engine), [chat("poison"), *(chat() for _ in range(3))], budget_s=0.5)
        assert [answer.error_kind for answer in others] == [None] * 3
        assert poison.error_kind == "server_error"
        two = ask_all(remote(engine), [chat("poison"), chat("poison"), chat()], budget_s=0.5)
        assert any(isinstance(outcome, EndpointError) for outcome in two)


def test_an_endpoint_that_refuses_every_other_request_answers_all():
    count = iter(range(100_000))

    def answer(path: str, body: str) -> Told:
        return (503, b"busy") if next(count) % 2 else (200, FINE)

    with served(answer) as engine:
        answers = ask_all(remote(engine), [chat(f"q {number}") for number in range(30)])
    assert [answer.error_kind for answer in answers] == [None] * 30


@pytest.mark.parametrize("status", [408, 409, 425])
def test_a_passing_refusal_is_asked_again(status):
    count = iter(range(100))
    with served(lambda path, body: (200, FINE) if next(count) >= 2 else (status, b"later")) as engine:
        assert ask(remote(engine), chat()).error_kind is None
    with served(lambda path, body: (status, b"later")) as engine:
        assert ask(remote(engine), chat()).error_kind == "server_error"


@pytest.mark.parametrize("status", [403, 404])
def test_a_row_that_is_refused_after_others_were_let_in_fails_alone(status):
    with served(lambda path, body: (status, b"not this") if "poison" in body else (200, FINE)) as engine:
        with pytest.raises(EndpointError, match=f"status {status}"):
            ask(remote(engine), chat("poison"))

        async def run() -> list[ChatAnswer]:
            client = ChatClient(remote(engine), concurrency=1, request_timeout_s=60.0)
            answers = [await client.answer(chat(text)) for text in ("fine", "poison", "fine")]
            await client.close()
            return answers

        assert [answer.error_kind for answer in asyncio.run(run())] == [None, "invalid_request", None]


@pytest.mark.parametrize(("counted", "kind"), [(b'{"count": 9}', None), (b"{}", "context_overflow")])
def test_the_prompt_is_counted_as_it_was_asked(counted, kind):
    asked: list[tuple[str, dict[str, object]]] = []

    def answer(path: str, body: str) -> Told:
        asked.append((path, json.loads(body)))
        if path == "/tokenize":
            return 200, counted
        full = asked[-1][1]["max_tokens"] > 7
        return (400, b'{"error": {"message": "context length exceeded"}}') if full else (200, FINE)

    tools = [{"type": "function", "function": {"name": "look_up"}}]
    sampling = Sampling(max_tokens=64, tools=json.dumps(tools), chat_template_kwargs='{"enable_thinking": false}')
    request = ChatRequest([{"role": "user", "content": "x"}], sampling, adapter="french")
    with served(answer) as engine:
        assert ask(replace(engine, max_model_len=16), request).error_kind == kind
    [count] = [body for path, body in asked if path == "/tokenize"]
    assert count == {
        "model": "french",
        "messages": [{"role": "user", "content": "x"}],
        "tools": tools,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_a_row_that_kills_the_server(serve, until, home, left_of):
    engine = serve(die_on="poison")
    state = read_state(home)
    assert state is not None
    with pytest.raises(EngineDiedError, match=engine.base_url) as failure:
        ask(engine, chat("this is poison"))
    assert state.log_path in str(failure.value)
    until(lambda: not left_of(state))
    with pytest.raises(EngineDiedError, match="cannot be reached"):
        ask(engine, chat())


def test_a_death_reaches_every_request_under_way(serve):
    engine = serve(die_after=20, tokens_per_second=50.0)
    outcomes = ask_all(engine, [chat(f"q {number}") for number in range(40)])
    assert {type(outcome) for outcome in outcomes} <= {ChatAnswer, EngineDiedError}
    assert all(outcome.error_kind is None for outcome in outcomes if isinstance(outcome, ChatAnswer))
    assert any(isinstance(outcome, EngineDiedError) for outcome in outcomes)


def test_a_server_that_hangs(serve):
    engine = serve(hang_on="tar pit")
    with pytest.raises(EngineDiedError, match=r"hangs: no answer within 0\.3 s"):
        ask(engine, chat("tar pit"), timeout_s=0.3)
    answer = ask(remote(engine), chat("tar pit"), timeout_s=0.3)
    assert answer.error_kind == "timeout"


def test_a_queue_longer_than_the_time_of_a_request_is_no_hanging_engine(serve):
    engine = serve({"max_num_seqs": 1}, tokens_per_second=60.0)
    outcomes = ask_all(engine, [chat(f"q {number}", max_tokens=24) for number in range(24)], timeout_s=1.0)
    assert not [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    kinds = {answer.error_kind for answer in outcomes}
    assert None in kinds <= {None, "timeout"}


@pytest.mark.parametrize(("slow", "kind"), [(1, None), (100, "timeout")])
def test_a_long_answer_of_an_engine_that_generates_is_no_hanging_engine(slow, kind):
    tokens, chats, over = iter(range(10_000)), iter(range(100)), threading.Event()

    def answer(path: str, body: str) -> Told:
        if path == "/metrics":
            return 200, f'vllm:generation_tokens_total{{engine="0"}} {next(tokens)}'.encode()
        if next(chats) < slow:
            over.wait()
        return 200, FINE

    with served(answer) as engine:
        assert ask(engine, chat(), timeout_s=0.3).error_kind == kind
        over.set()


def test_an_answer_that_comes_during_the_look_is_taken():
    looked = threading.Event()

    def answer(path: str, body: str) -> Told:
        if path == "/metrics":
            looked.set()
        else:
            looked.wait()
        return 200, FINE

    with served(answer) as engine:
        assert ask(engine, chat(), timeout_s=0.3).error_kind is None


def test_an_endpoint_that_cannot_be_reached():
    nowhere = EngineHandle("x", "http://127.0.0.1:9/v1", "m", is_local=False)
    with pytest.raises(EndpointError, match="cannot be reached"):
        ask(nowhere, chat(), budget_s=0.5)


def test_a_proxy_does_not_come_between_us_and_a_local_server(serve):
    engine = serve()
    old = os.environ.get("http_proxy")
    os.environ["http_proxy"] = "http://127.0.0.1:9"
    try:
        assert ask(engine, chat()).error_kind is None
    finally:
        del os.environ["http_proxy"]
        if old is not None:
            os.environ["http_proxy"] = old


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'{"choices": []}',
        b'{"choices": [{"message": {"content": "x"}}]}',
        b'{"choices": [{"message": {"content": ["x"]}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}',
    ],
)
def test_bodies_that_are_no_completion(body):
    with served(lambda path, asked: (200, body)) as engine:
        answer = ask(remote(engine), chat())
    assert answer.error_kind == "bad_response"


def test_an_endpoints_key_comes_from_the_environment():
    variable = "HYBRID_BATCH_TEST_KEY"
    recipe = EndpointRecipe(
        "large", "m", "https://example.org/v1/", api_key_env=variable, max_tokens_field="max_completion_tokens"
    )
    with pytest.raises(ConfigError, match=f"tiers.large.api_key_env = '{variable}'"):
        open_endpoint(recipe)
    os.environ[variable] = "sk-secret"
    try:
        engine = open_endpoint(recipe)
    finally:
        del os.environ[variable]
    assert (engine.api_key, engine.base_url, engine.is_local) == ("sk-secret", "https://example.org/v1", False)
    assert engine.max_tokens_field == "max_completion_tokens"
    assert "sk-secret" not in repr(engine)


def test_the_load_of_an_engine_is_sampled_while_requests_are_under_way(serve):
    engine = serve({"max_num_seqs": 4}, tokens_per_second=2000.0)
    shared = "w " * 64
    requests = [chat(f"{shared} {number}", max_tokens=20) for number in range(40)]

    async def run() -> tuple[EngineLoad, list[ChatAnswer]]:
        client = ChatClient(engine, concurrency=16, request_timeout_s=60.0)
        async with Sampler(engine, every_s=0.02) as sampler:
            answers = await asyncio.gather(*(client.answer(one) for one in requests))
        await client.close()
        return sampler.load, answers

    load, answers = asyncio.run(run())
    assert load.samples > 2
    assert load.running_max == 4
    assert load.waiting_max > 0
    assert load.waiting_mean <= load.waiting_max
    assert 0 < load.kv_cache_max < 1
    assert load.prompt_tokens == sum(answer.prompt_tokens for answer in answers)
    assert load.generation_tokens == sum(answer.completion_tokens for answer in answers)
    assert load.prefix_hits == sum(answer.cached_prompt_tokens for answer in answers) == 39 * 64


def test_a_sampler_that_sees_nothing_disturbs_nothing(serve):
    nowhere = EngineHandle("x", "http://127.0.0.1:9/v1", "m")

    async def run(engine: EngineHandle) -> EngineLoad:
        async with Sampler(engine, every_s=0.01) as sampler:
            await asyncio.sleep(0.05)
        return sampler.load

    assert asyncio.run(run(nowhere)) == EngineLoad()
    assert asyncio.run(run(remote(serve()))) == EngineLoad()
