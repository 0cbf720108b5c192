"""The lines of OpenAI's batch files, as ``vllm run-batch`` takes them too: a ``custom_id`` and the body of a request.

https://platform.openai.com/docs/api-reference/batch/request-input
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hybrid_batch.engines.base import INVALID_REQUEST
from hybrid_batch.spark.queries import Row, prompt_row, query_row, refused
from hybrid_batch.stages.guard import INVALID_MESSAGES

_KEYS: Final = ("custom_id", "method", "url", "body")
_URLS: Final = ("/v1/chat/completions", "/chat/completions")
_NOT_ASKED: Final = frozenset(
    {
        *("messages", "model", "stream", "stream_options"),
        *("metadata", "store", "service_tier", "user", "safety_identifier", "prompt_cache_key"),
    }
)
"""Fields of a body that are no overrides: the query itself, what the router decides, what a file cannot do, and what
means something to a vendor's account alone."""


def batch_row(line: Mapping[str, Any], kept: Sequence[str]) -> Row:
    """The columns of one line; a line that is no request for a chat completion says why.

    ``kept`` are further keys that a line may have.  Method and URL may be left out.  The body's ``model`` is not looked
    at: the router chooses.
    """
    body = line.get("body")
    if not isinstance(body, dict):
        return refused(prompt_row(None), INVALID_REQUEST, f"body must be an object, got {type(body).__name__}")
    messages = body.get("messages")
    if not isinstance(messages, list):
        got = type(messages).__name__
        row = refused(prompt_row(None), INVALID_MESSAGES, f"body.messages must be a list of chat turns, got {got}")
    else:
        row = query_row(messages, True, {name: value for name, value in body.items() if name not in _NOT_ASKED})
    return refused(row, INVALID_REQUEST, reason) if (reason := _flaw(line, body, kept)) else row


def _flaw(line: Mapping[str, Any], body: Mapping[str, Any], kept: Sequence[str]) -> str | None:
    if (method := line.get("method", "POST")) != "POST":
        return f"method is {method!r}, allowed is 'POST'"
    if (url := line.get("url", _URLS[0])) not in _URLS:
        return f"url is {url!r}, allowed is {_URLS[0]!r}"
    if unknown := [name for name in line if name not in _KEYS and name not in kept]:
        return f"the line has a key {unknown[0]!r}, allowed are {', '.join(_KEYS)}"
    if body.get("stream"):
        return "body.stream is true, and the answers of a batch come whole"
    return None
