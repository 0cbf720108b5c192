"""Requests and answers as they travel: OpenAI's chat JSON and vLLM's words for a full context.  Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hybrid_batch.engines.base import ChatAnswer, ChatRequest

MESSAGE_LIMIT = 500

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


def to_payload(request: ChatRequest, model: str, window: int | None = None) -> dict[str, Any]:
    """The request's JSON; what has no value is left to the server.

    ``max_tokens`` is cut to what ``window`` (tokens) could hold at most: vLLM refuses larger ones unseen.
    """
    sampling = request.sampling
    room = max(window - 1, 1) if window else sampling.max_tokens
    payload: dict[str, Any] = {
        "model": model,
        "messages": [dict(message) for message in request.messages],
        "temperature": sampling.temperature,
        "max_tokens": min(sampling.max_tokens, room),
        "top_p": sampling.top_p,
    }
    if sampling.seed is not None:
        payload["seed"] = sampling.seed
    if sampling.stop:
        payload["stop"] = list(sampling.stop)
    return payload


def answer_of(body: bytes) -> ChatAnswer:
    """The answer in a 200's body.  An empty text is an answer.  Raises ``BadBodyError``."""
    try:
        whole = json.loads(body)
        choice, usage = whole["choices"][0], whole["usage"]
        text = choice["message"].get("content") or ""
        answer = ChatAnswer(
            text=text,
            finish_reason=choice.get("finish_reason"),
            prompt_tokens=int(usage["prompt_tokens"]),
            completion_tokens=int(usage["completion_tokens"]),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadBodyError(f"{type(error).__name__}: {error} in {_start_of(body)!r}") from error
    if not isinstance(text, str):
        raise BadBodyError(f"content is {type(text).__name__}, not text, in {_start_of(body)!r}")
    return answer


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


def seconds_to_wait(header: str | None) -> float | None:
    """``Retry-After`` in seconds; a date or nonsense counts as absent."""
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:
        return None


def _number(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return int(next(group for group in match.groups() if group)) if match else None


def _start_of(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")
