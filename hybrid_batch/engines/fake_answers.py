"""What the fake server answers: words out of a hash, vLLM's refusals.  Pure functions of request and options."""

from __future__ import annotations

import hashlib
import json
import math
import random
import time
from typing import Any

from hybrid_batch.engines.fake_forms import Refusal, asked_for, called_tool

__all__ = ["Refusal", "answer_words", "check_messages", "completion", "count_prompt_tokens", "room_for", "text_of"]

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

IMAGE_TOKENS = 64
"""Tokens of an image, whatever it shows."""

THOUGHTS = 4
"""Words before an answer where thinking is enabled."""

_FURTHER = ("top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty")


def answer_words(request: dict[str, Any], sample: int = 0) -> list[str]:
    """The whole answer, before ``max_tokens`` cuts it, with the thoughts before it where thinking is enabled.

    What a JSON constraint, a choice or a tool asks for, else 1 to 40 words out of a hash of messages and sampling.  A
    regular expression and a grammar are not followed.  A ``stop`` text ends it.  ``sample`` counts the answers to one
    request from 0.  Raises ``Refusal`` for a constraint that cannot be met.
    """
    told = {key: request.get(key) for key in ("messages", "temperature", "top_p", "seed")}
    told |= {key: request[key] for key in _FURTHER if key in request} | ({"sample": sample} if sample else {})
    seed = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).digest()
    draw = random.Random(int.from_bytes(seed, "big"))  # noqa: S311 (not for secrets)
    drawn = [draw.choice(VOCABULARY) for _ in range(draw.randint(1, 40))]
    thoughts = [draw.choice(VOCABULARY) for _ in range(THOUGHTS)] if thinks(request) else []
    asked = asked_for(request)
    return thoughts + _stopped(drawn if asked is None else asked.split(), request.get("stop"))


def _stopped(words: list[str], stop: str | list[str] | None) -> list[str]:
    """The words before the first ``stop`` text."""
    text, ends = " ".join(words), [stop] if isinstance(stop, str) else stop or []
    found = [place for end in ends if (place := text.find(end)) >= 0]
    return text[: min(found)].split() if found else words


def thinks(request: dict[str, Any]) -> bool:
    return bool((request.get("chat_template_kwargs") or {}).get("enable_thinking"))


def text_of(message: dict[str, Any]) -> str:
    """The text of one turn, that of all its parts together."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return " ".join(part.get("text") or "" for part in parts)


def count_prompt_tokens(messages: list[dict[str, Any]]) -> int:
    return sum(
        len(text_of(message).split()) + IMAGE_TOKENS * len(_images(message)) + TEMPLATE_TOKENS for message in messages
    )


def check_messages(request: dict[str, Any]) -> list[dict[str, Any]]:
    messages = request.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages: Input should be a valid list with at least 1 item")
    for index, message in enumerate(messages):
        known = isinstance(message, dict) and message.get("role") in {"system", "user", "assistant", "tool"}
        if not known or not _content_is_known(message):
            raise Refusal(400, f"messages.{index}: Input should be a chat message with a known role and text content")
    return messages


def _content_is_known(message: dict[str, Any]) -> bool:
    content = message.get("content")
    if not isinstance(content, list):
        return isinstance(content, str) or (content is None and bool(message.get("tool_calls")))
    texts = [part for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return len(texts) + len(_images(message)) == len(content)


def _images(message: dict[str, Any]) -> list[str]:
    """The addresses of the images in one turn."""
    content = message.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    images = [part["image_url"] for part in parts if isinstance(part.get("image_url"), dict)]
    return [url for image in images if isinstance(url := image.get("url"), str)]


def room_for(request: dict[str, Any], prompt: int, window: int, overflow: str) -> int:
    """How many tokens may be generated, or vLLM's 400.

    ``overflow`` says what happens when only prompt and answer together exceed the window: ``clamp`` cuts the answer
    (vLLM 0.32), ``reject`` refuses (older ones).
    """
    wanted = request.get("max_completion_tokens") or request.get("max_tokens")
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


def completion(
    words: list[str], room: int, prompt: int, model: str, request: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The body of a 200: ``words`` as the first answer, and as many others as the ``request`` asks for."""
    asked = request or {}
    answers = [words, *(answer_words(asked, sample) for sample in range(1, asked.get("n") or 1))]
    used = sum(min(len(answer), room) for answer in answers)
    return {
        "id": "chatcmpl-" + hashlib.blake2b(" ".join(words).encode(), digest_size=8).hexdigest(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [_choice(index, answer, room, asked) for index, answer in enumerate(answers)],
        "usage": {"prompt_tokens": prompt, "completion_tokens": used, "total_tokens": prompt + used},
    }


def _choice(index: int, words: list[str], room: int, request: dict[str, Any]) -> dict[str, Any]:
    thoughts = THOUGHTS if thinks(request) else 0
    given = words[thoughts:room]
    message: dict[str, Any] = {"role": "assistant", "content": " ".join(given)}
    if thoughts:
        message["reasoning"] = " ".join(words[: min(thoughts, room)])
    end = "length" if len(words) > room else "stop"
    if tool := called_tool(request):
        call = {"name": tool["name"], "arguments": message["content"]}
        message |= {"content": None, "tool_calls": [{"id": f"call-{index}", "type": "function", "function": call}]}
        end = "tool_calls" if end == "stop" else end
    choice = {"index": index, "message": message, "finish_reason": end}
    if request.get("logprobs"):
        choice["logprobs"] = {"content": [_logprob(word, request.get("top_logprobs") or 0) for word in given]}
    return choice


def _logprob(word: str, most_likely: int) -> dict[str, Any]:
    """Of ``word`` and of the ``most_likely`` ones in its place, each half as probable as the one before it."""
    words = [word, *(other for other in VOCABULARY if other != word)][:most_likely]
    told = [
        {"token": token, "logprob": -math.log(2) * (rank + 1), "bytes": list(token.encode())}
        for rank, token in enumerate(words or [word])
    ]
    return {**told[0], "top_logprobs": told if words else []}
