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


def test_an_empty_text_is_an_answer():
    usage = {"prompt_tokens": 3, "completion_tokens": 1}
    for content in ("", None):
        body = {"choices": [{"message": {"content": content}, "finish_reason": "stop"}], "usage": usage}
        answer = answer_of(json.dumps(body).encode())
        assert (answer.text, answer.finish_reason, answer.error_kind) == ("", "stop", None)


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
