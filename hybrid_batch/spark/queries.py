"""The columns of a query: a prompt or chat turns, an image, what the row asks for in place of the job's sampling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from hybrid_batch.engines.base import INVALID_REQUEST
from hybrid_batch.stages.chat import image_url, text_of_messages, with_image, with_known_roles
from hybrid_batch.stages.guard import INVALID_IMAGE, INVALID_MESSAGES, INVALID_TEXT
from hybrid_batch.stages.overrides import request_text

QUERY_COLUMNS: Final = ("prompt", "messages", "request", "error_kind", "error_message")

Row = dict[str, str | None]


def prompt_columns(prompt: pa.Array) -> dict[str, pa.Array]:
    """The columns of plain prompts (string ``[n]``)."""
    nulls = pa.nulls(len(prompt), pa.string())
    return {name: prompt if name == "prompt" else nulls for name in QUERY_COLUMNS}


def query_columns(
    prompts: Sequence[Any] | None,
    messages: Sequence[Any] | None,
    requests: Sequence[Any] | None = None,
    images: Sequence[Any] | None = None,
) -> dict[str, pa.Array]:
    """The columns of queries, of which ``prompts`` or ``messages`` are given; see :func:`query_row`."""
    query = messages if prompts is None else prompts
    assert query is not None
    nothing = [None] * len(query)
    given = zip(query, requests or nothing, images or nothing, strict=True)
    rows = [valid_text(query_row(one, prompts is None, request, image)) for one, request, image in given]
    return {name: pa.array([row[name] for row in rows], pa.string()) for name in QUERY_COLUMNS}


def query_row(query: Any, is_chat: bool, request: Any = None, image: Any = None) -> Row:
    """The columns of one query; one that is refused keeps its text and says why.

    ``query`` is text or, with ``is_chat``, chat turns as JSON text or a list.  ``request`` is JSON text or an object,
    ``image`` an address or the bytes of a file; where they are empty there is none.
    """
    row = chat_row(query) if is_chat else prompt_row(query)
    return _with_request(_with_image(row, image), request)


def prompt_row(prompt: str | None) -> Row:
    """The columns of one prompt."""
    return {"prompt": prompt, "messages": None, "request": None, "error_kind": None, "error_message": None}


def chat_row(value: Any) -> Row:
    """The columns of one chat, given as JSON text or as a list; an invalid one keeps its text and says why."""
    if value is None:
        return prompt_row(None)
    given = value if isinstance(value, str) else None
    try:
        turns = with_known_roles(json.loads(value) if isinstance(value, str) else _without_nulls(value))
        text, reason = text_of_messages(turns)
        written = _json(turns)
    except RecursionError:
        return _invalid(given, "messages is nested too deeply")
    except (ValueError, TypeError) as error:
        return _invalid(given, f"messages is no JSON: {error}")
    return _invalid(written, reason) if reason else prompt_row(text) | {"messages": written}


def refused(row: Row, kind: str, reason: str) -> Row:
    """``row`` with an error, unless it has one."""
    return row if row["error_kind"] else row | {"error_kind": kind, "error_message": reason}


def valid_text(row: Mapping[str, str | None]) -> Row:
    """A row that can be written as UTF-8: JSON allows lone surrogates, which are no text."""
    if all(value is None or is_text(value) for value in row.values()):
        return dict(row)
    clean = {name: value and value.encode("utf-8", "replace").decode() for name, value in row.items()}
    return clean | {"error_kind": INVALID_TEXT, "error_message": "the row holds lone surrogates, which are no text"}


def is_text(value: str) -> bool:
    """True if ``value`` can be written as UTF-8."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _with_image(row: Row, image: Any) -> Row:
    if image is None or image in ("", b"") or row["error_kind"] or row["prompt"] is None:
        return row
    try:
        url = image_url(image)
    except ValueError as error:
        return refused(row, INVALID_IMAGE, f"image: {error}")
    messages = row["messages"]
    turns = [{"role": "user", "content": row["prompt"]}] if messages is None else json.loads(messages)
    return row | {"messages": _json(with_image(turns, url))}


def _with_request(row: Row, request: Any) -> Row:
    text, reason = request_text(request)
    with_text = row if text is None else row | {"request": text}
    return refused(with_text, INVALID_REQUEST, reason) if reason else with_text


def _invalid(messages: str | None, reason: str) -> Row:
    return refused(prompt_row(None) | {"messages": messages}, INVALID_MESSAGES, reason)


def _json(turns: Any) -> str:
    return json.dumps(turns, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _without_nulls(turns: Any) -> Any:
    """Chat turns without their null fields."""
    if not isinstance(turns, list):
        return turns
    return [
        {name: value for name, value in turn.items() if value is not None} if isinstance(turn, dict) else turn
        for turn in turns
    ]
