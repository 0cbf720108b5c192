"""Requests and answers as they travel: OpenAI's chat JSON and vLLM's words for a full context.  Pure."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

from hybrid_batch.engines.base import INVALID_JSON, ChatAnswer, ChatRequest, MaxTokensField, Sampling

MESSAGE_LIMIT = 500
BEGINNING = 200
"""Characters of a useless answer that its error shows."""

_NUMBERS = (
    "temperature",
    "top_p",
    "seed",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
)
_JSON = ("response_format", "structured_outputs", "tools", "tool_choice", "chat_template_kwargs")

# The last form is vLLM 0.32 for a prompt that fills the window to the last token.
_OVERFLOW = re.compile(
    r"maximum context length|context length exceeded|context_length_exceeded|max_model_len|context window"
    r"|max_tokens must be at least 1, got 0",
    re.IGNORECASE,
)
_WINDOW = re.compile(r"maximum context length is (\d+)|max_model_len ?= ?(\d+)|context length \((\d+)\)")
_PROMPT = re.compile(
    r"\((\d+) in the messages|request has (\d+) input tokens|contains (?:at least )?(\d+) input tokens"
    r"|prompt contains (\d+) tokens|Input length \((\d+)\)"
)


class BadBodyError(ValueError):
    """A 200 whose body is not a chat completion."""


def to_payload(
    request: ChatRequest, model: str, window: int | None = None, max_tokens_field: MaxTokensField = "max_tokens"
) -> dict[str, Any]:
    """The request's JSON; what has no value is left to the server.

    ``max_tokens``, under the name ``max_tokens_field``, is cut to what ``window`` (tokens) could hold at most: vLLM
    refuses larger ones unseen.
    """
    sampling = request.sampling
    room = max(window - 1, 1) if window else sampling.max_tokens
    return {
        "model": request.adapter or model,
        "messages": [dict(message) for message in request.messages],
        max_tokens_field: min(sampling.max_tokens, room),
        **_further(sampling),
    }


@lru_cache(maxsize=64)
def _further(sampling: Sampling) -> dict[str, Any]:
    """The part of a payload that most requests have not, and all of a job have alike; for reading only."""
    given = sampling.stated()
    further = {name: given[name] for name in _NUMBERS if name in given}
    if sampling.stop:
        further["stop"] = list(sampling.stop)
    if sampling.n > 1:
        further["n"] = sampling.n
    if sampling.logprobs is not None:
        further |= {"logprobs": True, "top_logprobs": sampling.logprobs}
    further |= {name: json.loads(given[name]) for name in _JSON if name in given}
    return further | json.loads(sampling.passed or "{}")


def answer_of(body: bytes, sampling: Sampling | None = None) -> ChatAnswer:
    """The answer in a 200's body.  An empty text is an answer.  Raises ``BadBodyError``.

    With the ``sampling`` of its request, an answer that had to be JSON and is not gets the kind ``invalid_json``.
    """
    try:
        whole = json.loads(body)
        choices, usage = sorted(whole["choices"], key=lambda choice: choice.get("index") or 0), whole["usage"]
        first, texts = choices[0]["message"], [choice["message"].get("content") or "" for choice in choices]
        answer = ChatAnswer(
            text=texts[0],
            finish_reason=choices[0].get("finish_reason"),
            prompt_tokens=int(usage["prompt_tokens"]),
            completion_tokens=int(usage["completion_tokens"]),
            reasoning=first.get("reasoning") or first.get("reasoning_content"),
            tool_calls=_compact(first.get("tool_calls")),
            logprobs=_compact(choices[0].get("logprobs")),
            samples=tuple(texts[1:]),
            cached_prompt_tokens=int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadBodyError(f"{type(error).__name__}: {error} in {_start_of(body)!r}") from error
    for text in (*texts, answer.reasoning or ""):
        if not isinstance(text, str):
            raise BadBodyError(f"content is {type(text).__name__}, not text, in {_start_of(body)!r}")
    return answer if sampling is None else _read_as_asked(answer, sampling)


def must_be_json(sampling: Sampling) -> bool:
    """True where the sampling holds every answer to be JSON."""
    if sampling.response_format is not None:
        return bool(_loaded(sampling.response_format)["type"] in ("json_object", "json_schema"))
    if sampling.structured_outputs is not None:
        return bool(_loaded(sampling.structured_outputs).keys() & {"json", "json_object"})
    return False


def _read_as_asked(answer: ChatAnswer, sampling: Sampling) -> ChatAnswer:
    if answer.tool_calls is not None or not must_be_json(sampling):
        return answer
    for text in (answer.text or "", *answer.samples):
        try:
            json.loads(text)
        except (ValueError, RecursionError) as error:
            cut = f", cut at max_tokens = {sampling.max_tokens}" if answer.finish_reason == "length" else ""
            told = f"{text[:BEGINNING]!r}: the answer is no JSON ({error}){cut}"
            return replace(answer, error_kind=INVALID_JSON, error_message=told[:MESSAGE_LIMIT])
    return answer


@lru_cache(maxsize=64)
def _loaded(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _compact(value: Any) -> str | None:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) if value else None


def failed(kind: str, message: str) -> ChatAnswer:
    """A row without an answer; the message is cut to ``MESSAGE_LIMIT`` characters."""
    return ChatAnswer(error_kind=kind, error_message=message[:MESSAGE_LIMIT])


def error_text(body: bytes) -> str:
    """What an error answer says, whichever of the usual forms it has."""
    try:
        whole = json.loads(body)
    except ValueError:
        return _start_of(body)
    if isinstance(whole, Mapping):
        error = whole.get("error", whole)
        text = (error.get("message") or error.get("detail")) if isinstance(error, Mapping) else error
        if text:
            return str(text)[:MESSAGE_LIMIT]
    return _start_of(body)


def says_overflow(text: str) -> bool:
    return _OVERFLOW.search(text) is not None


def window_of(text: str) -> int | None:
    """The context window in tokens that an overflow message names."""
    return _number(_WINDOW, text)


def prompt_length_of(text: str) -> int | None:
    """The prompt's length in tokens that an overflow message names."""
    return _number(_PROMPT, text)


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` asks for, as a number or as a date, or ``retry-after-ms``; None without either."""
    milliseconds, header = headers.get("retry-after-ms"), headers.get("Retry-After")
    for text, unit in ((milliseconds, 0.001), (header, 1.0)):
        with contextlib.suppress(TypeError, ValueError):
            seconds = float(text or "") * unit
            return max(0.0, seconds) if math.isfinite(seconds) else None
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, parsedate_to_datetime(header or "").timestamp() - time.time())
    return None


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return int(next(group for group in match.groups() if group)) if match else None


def _start_of(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")
