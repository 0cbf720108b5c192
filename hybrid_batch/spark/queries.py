"""The columns of a query, given as a prompt or as chat turns."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from hybrid_batch.stages.guard import INVALID_MESSAGES, INVALID_TEXT, text_of_messages

QUERY_COLUMNS: Final = ("prompt", "messages", "error_kind", "error_message")

Row = dict[str, str | None]


def prompt_columns(prompt: pa.Array) -> dict[str, pa.Array]:
    """The columns of plain prompts (string ``[n]``)."""
    nulls = pa.nulls(len(prompt), pa.string())
    return {"prompt": prompt, "messages": nulls, "error_kind": nulls, "error_message": nulls}


def message_columns(values: Sequence[Any]) -> dict[str, pa.Array]:
    """The columns of chats, each JSON text, a list of objects or null."""
    rows = [valid_text(chat_row(value)) for value in values]
    return {name: pa.array([row[name] for row in rows], pa.string()) for name in QUERY_COLUMNS}


def prompt_row(prompt: str | None) -> Row:
    """The columns of one prompt."""
    return {"prompt": prompt, "messages": None, "error_kind": None, "error_message": None}


def chat_row(value: Any) -> Row:
    """The columns of one chat, given as JSON text or as a list; an invalid one keeps its text and says why."""
    if value is None:
        return prompt_row(None)
    given = value if isinstance(value, str) else None
    try:
        turns = json.loads(value) if isinstance(value, str) else _without_nulls(value)
        text, reason = text_of_messages(turns)
        written = json.dumps(turns, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        return _invalid(given, "messages is nested too deeply")
    except (ValueError, TypeError) as error:
        return _invalid(given, f"messages is no JSON: {error}")
    return _invalid(written, reason) if reason else prompt_row(text) | {"messages": written}


def valid_text(row: Mapping[str, str | None]) -> Row:
    """A row that can be written as UTF-8: JSON allows lone surrogates, which are no text."""
    if all(value is None or is_text(value) for value in row.values()):
        return dict(row)
    clean = {name: value and value.encode("utf-8", "replace").decode() for name, value in row.items()}
    return clean | {"error_kind": INVALID_TEXT, "error_message": "the row holds lone surrogates, which are no text"}


def is_text(value: str) -> bool:
    """True if ``value`` can be written as UTF-8."""
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def _invalid(messages: str | None, reason: str) -> Row:
    return {"prompt": None, "messages": messages, "error_kind": INVALID_MESSAGES, "error_message": reason}


def _without_nulls(turns: Any) -> Any:
    """Chat turns without their null fields: in a Parquet list of structs every turn has every field."""
    if not isinstance(turns, list):
        return turns
    return [
        {name: value for name, value in turn.items() if value is not None} if isinstance(turn, dict) else turn
        for turn in turns
    ]
