"""What the fake server answers: words out of a hash, vLLM's refusals.  Pure functions of request and options."""

from __future__ import annotations

import hashlib
import json
import random
import time
from typing import Any

VOCABULARY = tuple(
    word
    for line in (
        "amber birch cedar delta ember fjord grove haven iris jade koala lotus maple nectar onyx pearl",
        "quartz river sage tulip umber violet willow xenon yarrow zinc",
    )
    for word in line.split()
)
TEMPLATE_TOKENS = 3
"""Tokens that the chat template adds per message."""


class Refusal(Exception):
    """An error answer in OpenAI's form."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


def answer_words(request: dict[str, Any]) -> list[str]:
    """The whole answer, before ``max_tokens`` cuts it: 1 to 40 words out of a hash of messages and sampling."""
    told = {key: request.get(key) for key in ("messages", "temperature", "top_p", "seed", "stop")}
    seed = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).digest()
    draw = random.Random(int.from_bytes(seed, "big"))  # noqa: S311 (not for secrets)
    return [draw.choice(VOCABULARY) for _ in range(draw.randint(1, 40))]


def count_prompt_tokens(messages: list[dict[str, Any]]) -> int:
    return sum(len(str(message["content"]).split()) + TEMPLATE_TOKENS for message in messages)


def check_messages(request: dict[str, Any]) -> list[dict[str, Any]]:
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages: Input should be a valid list with at least 1 item")
    for index, message in enumerate(messages):
        known = isinstance(message, dict) and message.get("role") in {"system", "user", "assistant", "tool"}
        if not known or not isinstance(message.get("content"), str):
            raise Refusal(400, f"messages.{index}: Input should be a chat message with a known role and text content")
    return messages


def room_for(request: dict[str, Any], prompt: int, window: int, overflow: str) -> int:
    """How many tokens may be generated, or vLLM's 400.

    ``overflow`` says what happens when only prompt and answer together exceed the window: ``clamp`` cuts the answer
    (vLLM 0.32), ``reject`` refuses (older ones).
    """
    wanted = request.get("max_tokens")
    if wanted is not None and (not isinstance(wanted, int) or wanted < 1):
        raise Refusal(400, f"max_tokens must be at least 1, got {wanted}.")
    if wanted is not None and wanted > window:
        raise Refusal(
            400,
            f"max_tokens={wanted} cannot be greater than max_model_len={window}. Please request fewer output tokens.",
        )
    if prompt > window:
        raise Refusal(
            400,
            f"This model's maximum context length is {window} tokens. However, your prompt contains {prompt} input "
            "tokens, which exceeds this limit even without any output tokens. "
            "Please reduce the length of the input prompt.",
        )
    if wanted is not None and prompt + wanted > window and overflow == "reject":
        raise Refusal(
            400,
            f"This model's maximum context length is {window} tokens. However, you requested {prompt + wanted} tokens "
            f"({prompt} in the messages, {wanted} in the completion). "
            "Please reduce the length of the messages or completion.",
        )
    if prompt == window:
        raise Refusal(400, "max_tokens must be at least 1, got 0.")
    return min(wanted if wanted is not None else window, window - prompt)


def completion(words: list[str], room: int, prompt: int, model: str) -> dict[str, Any]:
    cut = len(words) > room
    given = words[:room]
    return {
        "id": "chatcmpl-" + hashlib.blake2b(" ".join(words).encode(), digest_size=8).hexdigest(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": " ".join(given)},
                "finish_reason": "length" if cut else "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": len(given),
            "total_tokens": prompt + len(given),
        },
    }
