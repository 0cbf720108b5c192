"""Rows that no model can answer: marked here, before any model sees them, and never dropped."""

from __future__ import annotations

import json
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.stages.chat import IMAGE_PART

NULL_PROMPT: Final = "null_prompt"
EMPTY_PROMPT: Final = "empty_prompt"
PROMPT_TOO_LARGE: Final = "prompt_too_large"
INVALID_MESSAGES: Final = "invalid_messages"
INVALID_IMAGE: Final = "invalid_image"
INVALID_TEXT: Final = "invalid_text"


def guard(batch: pa.RecordBatch, max_prompt_bytes: int) -> pa.RecordBatch:
    """Fill ``error_kind`` and ``error_message`` of rows whose query is null, blank or too large (all turns of a chat).

    A query of images alone is not blank.  ``batch`` has ``prompt``, ``messages``, ``error_kind`` and
    ``error_message``; an error that is there already stays.
    """
    prompt = batch["prompt"]
    size = pc.binary_length(pc.coalesce(batch["messages"], prompt))
    # Looks as far as the first other character, and copies nothing.
    blank = pc.or_(pc.utf8_is_space(prompt), pc.equal(pc.binary_length(prompt), 0))
    if pc.any(blank).as_py() and batch["messages"].null_count < batch.num_rows:
        blank = pc.and_not(blank, pc.fill_null(pc.match_substring(batch["messages"], IMAGE_PART), False))
    too_large = pc.greater(size, max_prompt_bytes)
    if not (prompt.null_count or pc.any(blank).as_py() or pc.any(too_large).as_py()):
        return batch
    kind = pc.case_when(
        pc.make_struct(pc.is_valid(batch["error_kind"]), pc.is_null(prompt), blank, too_large),
        batch["error_kind"],
        NULL_PROMPT,
        EMPTY_PROMPT,
        PROMPT_TOO_LARGE,
        pa.scalar(None, pa.string()),
    )
    large_message = pc.binary_join_element_wise(
        "the query has", pc.cast(size, pa.string()), f"bytes, allowed are {max_prompt_bytes}", " "
    )
    message = pc.case_when(
        pc.make_struct(
            *(pc.fill_null(pc.equal(kind, name), False) for name in (NULL_PROMPT, EMPTY_PROMPT, PROMPT_TOO_LARGE))
        ),
        "the query is null",
        "the query is empty or blank",
        large_message,
        batch["error_message"],
    )
    return _replace(batch, error_kind=kind, error_message=message)


def parse_messages(text: str) -> list[dict[str, Any]]:
    """The chat turns of a JSON column that :func:`hybrid_batch.stages.chat.text_of_messages` found valid."""
    turns: list[dict[str, Any]] = json.loads(text)
    return turns


def _replace(batch: pa.RecordBatch, **columns: pa.Array) -> pa.RecordBatch:
    arrays = [columns.get(name, batch[name]) for name in batch.schema.names]
    arrays = [array.cast(field.type) for array, field in zip(arrays, batch.schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=batch.schema)
