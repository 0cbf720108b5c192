"""Chat JSON and the words of a full context, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from hybrid_batch.engines.base import ChatRequest, Sampling
from hybrid_batch.engines.chat_wire import (
    BadBodyError,
    answer_of,
    error_text,
    prompt_length_of,
    says_overflow,
    seconds_to_wait,
    to_payload,
    window_of,
)

OVERFLOWS = [
    (
        "This model's maximum context length is 256 tokens. However, your prompt contains at least 257 input tokens, "
        "which exceeds this limit even without any output tokens.",
        256,
        257,
    ),
    (
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (904 in the messages, "
        "4096 in the completion). Please reduce the length of the messages or completion.",
        4096,
        904,
    ),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 4096. This model's maximum context length is 4096 "
        "tokens and your request has 904 input tokens (4096 > 4096 - 904).",
        4096,
        904,
    ),
    ("max_tokens=9000 cannot be greater than max_model_len=8192. Please request fewer output tokens.", 8192, None),
    ("Input length (300) exceeds model's maximum context length (256).", 256, 300),
    ("max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)", None, None),
]


@pytest.mark.parametrize(("text", "window", "prompt"), OVERFLOWS)
def test_words_of_a_full_context(text, window, prompt):
    assert says_overflow(text)
    assert (window_of(text), prompt_length_of(text)) == (window, prompt)


@pytest.mark.parametrize("text", ["temperature must be non-negative, got -1.0.", "the body is not JSON", ""])
def test_other_refusals(text):
    assert not says_overflow(text)


def test_a_payload_holds_what_was_asked_and_no_more():
    messages = [{"role": "user", "content": "hi"}]
    plain = to_payload(ChatRequest(messages), "m")
    assert plain == {"model": "m", "messages": messages, "temperature": 0.0, "max_tokens": 256, "top_p": 1.0}
    full = to_payload(ChatRequest(messages, Sampling(0.5, 9000, 0.9, 7, ("END",))), "m", window=4096)
    assert (full["seed"], full["stop"], full["max_tokens"]) == (7, ["END"], 4095)


def test_the_bound_may_have_another_name_and_what_has_no_value_is_not_sent():
    sampling = Sampling(temperature=None, top_p=None, max_tokens=9000)
    payload = to_payload(ChatRequest([], sampling), "m", 4096, "max_completion_tokens")
    assert payload == {"model": "m", "messages": [], "max_completion_tokens": 4095}


def test_an_empty_text_is_an_answer():
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    for content in ("", None):
        body = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "usage": usage}
        answer = answer_of(json.dumps(body).encode())
        assert (answer.text, answer.finish_reason, answer.error_kind) == ("", "stop", None)


def body(*choices: dict, **usage: object) -> bytes:
    return json.dumps({"choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 1, **usage}}).encode()


def text(content: str | None, index: int = 0, **further: object) -> dict:
    return {"index": index, "message": {"content": content, **further}, "finish_reason": "stop"}


def test_a_payload_has_the_forms_as_json():
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    further = {"top_k": 5, "min_p": 0.1, "presence_penalty": 0.2, "frequency_penalty": 0.3, "repetition_penalty": 1.1}
    forms = {"response_format": schema, "tools": [{}], "tool_choice": "auto", "chat_template_kwargs": {"a": 1}}
    sampling = Sampling(n=2, logprobs=0, **further, **{name: json.dumps(value) for name, value in forms.items()})
    payload = to_payload(ChatRequest([], sampling, adapter="legal"), "m")
    told = {"model": "legal", "n": 2, "logprobs": True, "top_logprobs": 0} | further | forms
    assert payload == to_payload(ChatRequest([]), "m") | told


def test_content_of_several_parts_travels_as_it_is():
    parts = [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": "https://host/a.png"}}]
    assert to_payload(ChatRequest([{"role": "user", "content": parts}]), "m")["messages"][0]["content"] == parts


def test_several_answers_come_in_their_order():
    answer = answer_of(body(text("b", 1), text("c", 2), text("a", 0)))
    assert (answer.text, answer.samples) == ("a", ("b", "c"))


def test_thoughts_calls_logprobs_and_cached_tokens_are_kept():
    for name in ("reasoning", "reasoning_content"):
        assert answer_of(body(text("a", **{name: "hm"}))).reasoning == "hm"
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    told = {"content": [{"token": "ä", "logprob": -0.5}]}
    choice = {**text(None, tool_calls=calls), "logprobs": told}
    answer = answer_of(body(choice, prompt_tokens_details={"cached_tokens": 2}))
    assert (answer.text, answer.cached_prompt_tokens) == ("", 2)
    assert answer.tool_calls == '[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]'
    assert answer.logprobs == '{"content":[{"token":"ä","logprob":-0.5}]}'


def test_what_a_server_does_not_say_is_absent():
    empty = {**text("a", tool_calls=[], reasoning=None), "logprobs": None}
    for details in (None, {}, {"cached_tokens": None}):
        answer = answer_of(body(empty, prompt_tokens_details=details))
        assert (answer.reasoning, answer.tool_calls, answer.logprobs, answer.samples) == (None, None, None, ())
        assert answer.cached_prompt_tokens == 0


JSON_SAMPLINGS = [
    Sampling(response_format='{"type":"json_object"}'),
    Sampling(response_format='{"type":"json_schema","json_schema":{}}'),
    Sampling(structured_outputs='{"json":{}}'),
    Sampling(structured_outputs='{"json_object":true}'),
]
FREE_SAMPLINGS = [
    Sampling(),
    Sampling(response_format='{"type":"text"}'),
    Sampling(structured_outputs='{"choice":["a"]}'),
]


@pytest.mark.parametrize("sampling", JSON_SAMPLINGS)
def test_broken_json_is_an_error_that_keeps_its_text(sampling):
    assert answer_of(body(text('{"a": 1}')), sampling).error_kind is None
    cut = {**text('{"a": '), "finish_reason": "length"}
    answer = answer_of(body(cut), sampling)
    assert (answer.error_kind, answer.text, answer.completion_tokens) == ("invalid_json", '{"a": ', 1)
    assert (answer.error_message or "").startswith("""'{"a": ': the answer is no JSON (""")
    assert (answer.error_message or "").endswith("cut at max_tokens = 256")
    assert answer_of(body(text("{}"), text("{", 1)), sampling).error_kind == "invalid_json"
    assert answer_of(body(text(None, tool_calls=[{"id": "1"}])), sampling).error_kind is None


@pytest.mark.parametrize("sampling", FREE_SAMPLINGS)
def test_where_nothing_must_be_json_any_text_will_do(sampling):
    assert answer_of(body(text('{"a": ')), sampling).error_kind is None


@pytest.mark.parametrize("choices", [[], [{"index": 0}], [{"index": 0, "message": {"content": ["x"]}}], [7]])
def test_choices_that_are_none(choices):
    with pytest.raises(BadBodyError):
        answer_of(body(*choices))


def test_an_answer_without_usage_is_none():
    with pytest.raises(BadBodyError, match="usage"):
        answer_of(b'{"choices": [{"message": {"content": "x"}}]}')


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": {"message": "no"}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"message": "no"}', "no"),
        (b'{"detail": "no"}', "no"),
        (b"<html>no</html>", "<html>no</html>"),
        (b'["no"]', '["no"]'),
    ],
)
def test_the_usual_forms_of_an_error(body, text):
    assert error_text(body) == text


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-1"}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"retry-after-ms": "soon", "Retry-After": "2"}, 2.0),
    ],
)
def test_retry_after(headers, seconds):
    assert seconds_to_wait(headers) == seconds


def test_retry_after_may_be_a_date():
    at = datetime.now(UTC) + timedelta(hours=1)
    assert 3590 < (seconds_to_wait({"Retry-After": format_datetime(at, usegmt=True)}) or 0) <= 3600
