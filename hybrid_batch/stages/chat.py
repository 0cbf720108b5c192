"""Chat turns: which are valid, what the router reads of them, and images as parts of them.  Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

ROLES: Final = ("system", "user", "assistant", "tool")
_PLAIN_ROLES: Final = ROLES[:3]
PARTS: Final = ("text", "image_url")

IMAGE_PART: Final = '"type":"image_url"'
"""Stands in chat turns written without spaces if, and only if, a part is an image: quotes inside a text are escaped."""

_MAGIC: Final = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "png"),
    (re.compile(rb"\xff\xd8\xff"), "jpeg"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webp"),
    (re.compile(rb"GIF8[79]a"), "gif"),
)
_DATA_HEAD: Final = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_URLS: Final = "http://, https:// and data:image/TYPE;base64, addresses"


def text_of_messages(messages: Any) -> tuple[str | None, str | None]:
    """The text of the user's turns of a chat, joined by newlines, as the router reads them -> ``(text, reason)``.

    ``reason`` says what is wrong with ``messages`` (then the text is None), and is None for a valid chat.  A turn's
    content is text or a list of parts: texts, and images by address.  An assistant's turn may have ``tool_calls`` in
    place of content, and a tool's turn says by ``tool_call_id`` which call it answers.
    """
    if not isinstance(messages, list) or not messages:
        return None, f"messages must be a non-empty list of chat turns, got {type(messages).__name__}"
    for number, turn in enumerate(messages):
        if reason := _flaw_of_turn(turn):
            return None, f"messages[{number}]{reason}"
    asked = [turn["content"] for turn in messages if turn["role"] == "user"]
    if not asked:
        return None, "messages has no turn with role 'user'"
    return "\n".join(text for content in asked for text in _texts(content)), None


def with_known_roles(messages: Any) -> Any:
    """``messages`` with the role ``developer``, which few models know, under its older name ``system``."""
    if not isinstance(messages, list) or not any(_is_developer(turn) for turn in messages):
        return messages
    return [{**turn, "role": "system"} if _is_developer(turn) else turn for turn in messages]


def _is_developer(turn: Any) -> bool:
    return isinstance(turn, dict) and turn.get("role") == "developer"


def with_image(messages: Sequence[Mapping[str, Any]], url: str) -> list[Mapping[str, Any]]:
    """Valid chat turns with the image at ``url`` at the end of the last user's turn."""
    last = max(number for number, turn in enumerate(messages) if turn["role"] == "user")
    content = messages[last]["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    parts = [part for part in parts if part.get("text") != ""]
    turn = {**messages[last], "content": [*parts, {"type": "image_url", "image_url": {"url": url}}]}
    return [*messages[:last], turn, *messages[last + 1 :]]


def image_url(value: Any) -> str:
    """The address of an image given as an address or as the bytes of a PNG, JPEG, WebP or GIF file.

    Bytes become a ``data:`` address, their type is told by how they begin.  Raises ``ValueError`` for anything else.
    """
    if isinstance(value, bytes):
        kind = next((name for magic, name in _MAGIC if magic.match(value)), None)
        if kind is None:
            raise ValueError(f"bytes that begin with {value[:8]!r} are no PNG, JPEG, WebP or GIF file")
        return f"data:image/{kind};base64,{base64.b64encode(value).decode()}"
    if not isinstance(value, str):
        raise ValueError(f"{type(value).__name__} is no address of an image, allowed are {_URLS}")
    if reason := _flaw_of_url(value):
        raise ValueError(reason)
    return value


def _flaw_of_turn(turn: Any) -> str | None:
    """What is wrong with a turn, as what follows its name; None if nothing is."""
    if not isinstance(turn, dict):
        return f" must be an object with role and content, got {type(turn).__name__}"
    role, content, calls = turn.get("role"), turn.get("content"), turn.get("tool_calls")
    if isinstance(content, str) and calls is None and role in _PLAIN_ROLES:
        return None
    if role not in ROLES:
        return f".role is {role!r}, allowed are {', '.join(ROLES)}"
    if role == "tool" and not isinstance(turn.get("tool_call_id"), str):
        return ".tool_call_id must be the text that names the call which this turn answers"
    if calls and role != "assistant":
        return ".tool_calls belongs to turns of the assistant"
    if calls is not None and not (isinstance(calls, list) and all(isinstance(call, dict) for call in calls)):
        return ".tool_calls must be a list of objects"
    return None if calls and content is None else _flaw_of_content(content)


def _flaw_of_content(content: Any) -> str | None:
    if isinstance(content, str):
        return None
    if not isinstance(content, list) or not content:
        return " must be an object with a 'content' that is text or a non-empty list of parts"
    found = ((number, _flaw_of_part(part)) for number, part in enumerate(content))
    return next((f".content[{number}]{reason}" for number, reason in found if reason), None)


def _flaw_of_part(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in PARTS:
        return f".type is {kind!r}, allowed are {', '.join(PARTS)}"
    if kind == "text":
        return None if isinstance(part.get("text"), str) else " must have a 'text' that is text"
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, dict) else None
    if not isinstance(url, str):
        return ".image_url must be an object with a 'url' that is text"
    reason = _flaw_of_url(url)
    return f".image_url.url: {reason}" if reason else None


def _flaw_of_url(url: str) -> str | None:
    if head := _DATA_HEAD.match(url):
        try:
            data = binascii.a2b_base64(url[head.end() :], strict_mode=True)
        except ValueError as error:
            return f"the data: address is not base64: {error}"
        return None if data else "the data: address holds no bytes"
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    return None if is_address else f"{_shortened(url)!r} is not allowed, allowed are {_URLS}"


def _shortened(url: str) -> str:
    return url if len(url) <= 80 else f"{url[:77]}..."


def _texts(content: str | list[Any]) -> list[str]:
    return [content] if isinstance(content, str) else [part["text"] for part in content if part["type"] == "text"]
