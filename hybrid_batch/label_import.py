"""Labels from elsewhere: any table with a column of quality for each model becomes a labels table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybrid_batch.core.errors import InputError
from hybrid_batch.labelset import LabelSet, label_set, parsed_rows, prompt_id, quality_list, task_text
from hybrid_batch.storage import normalise

_MISSING = object()


@dataclass(frozen=True)
class Columns:
    """Names of the columns; a dot leads into a nested object, as in ``scores.model-name``."""

    prompt: str
    small: str
    large: str
    id: str | None = None
    task: str | None = None


@dataclass(frozen=True)
class Imported:
    """The labels, and what became of the other rows.

    ``merged`` rows had the prompt of an earlier row (only without an id column): their answers were added to its own.
    ``unanswered`` rows lack a quality of one of the models and were left out.
    """

    labels: LabelSet
    rows: int
    merged: int
    unanswered: int


@dataclass
class _Query:
    prompt: str
    task: str | None
    small: list[float | None]
    large: list[float | None]


def import_labels(source: str, columns: Columns) -> Imported:
    """Read ``source`` (Parquet, CSV, JSON lines, or one JSON list of objects; local or ``s3://``).

    Raises ``InputError`` naming file, column and row.
    """
    place = normalise(source)
    queries: dict[str, _Query] = {}
    rows = merged = unanswered = 0
    for rows, row in enumerate(parsed_rows(place), 1):
        name, query = _query(row, columns, f"{place}: row {rows - 1}")
        if not (_answered(query.small) and _answered(query.large)):
            unanswered += 1
        elif (held := queries.get(name)) is None:
            queries[name] = query
        elif columns.id is not None:
            raise InputError(
                f"{place}: row {rows - 1}: {columns.id} {name!r} stood in an earlier row; rows count from 0"
            )
        else:
            held.small.extend(query.small)
            held.large.extend(query.large)
            merged += 1
    if not queries:
        raise InputError(f"{place}: {rows} rows, none of them with a quality of both models")
    found = list(queries.values())
    labels = label_set(
        [query.prompt for query in found],
        [query.small for query in found],
        [query.large for query in found],
        query_ids=list(queries),
        tasks=[query.task for query in found],
        source=place,
    )
    return Imported(labels, rows, merged, unanswered)


def _query(row: Mapping[str, Any], columns: Columns, where: str) -> tuple[str, _Query]:
    prompt = _value(row, columns.prompt, where)
    if not isinstance(prompt, str) or not prompt.strip():
        raise InputError(f"{where}: {columns.prompt} is {prompt!r}; a prompt is text that is not empty")
    task = None if columns.task is None else _value(row, columns.task, where)
    small, large = (
        quality_list(_value(row, column, where), f"{where}: {column}") for column in (columns.small, columns.large)
    )
    name = prompt_id(prompt) if columns.id is None else _value(row, columns.id, where)
    if name is None:
        raise InputError(f"{where}: {columns.id} is empty")
    return str(name), _Query(prompt, task_text(task), small, large)


def _value(row: Mapping[str, Any], column: str, where: str) -> Any:
    found = _lookup(row, column)
    if found is _MISSING:
        raise InputError(f"{where}: there is no column {column!r}; the row has {', '.join(map(repr, _names(row)))}")
    return found


def _lookup(row: Mapping[str, Any], column: str) -> Any:
    """The value at ``column``; names may hold dots themselves, so the longest name that fits goes first."""
    if column in row:
        return row[column]
    steps = column.split(".")
    for count in range(len(steps) - 1, 0, -1):
        inner = row.get(".".join(steps[:count]))
        if isinstance(inner, Mapping):
            found = _lookup(inner, ".".join(steps[count:]))
            if found is not _MISSING:
                return found
    return _MISSING


def _names(row: Mapping[str, Any]) -> list[str]:
    names: list[str] = []
    for key, value in row.items():
        names += [f"{key}.{inner}" for inner in _names(value)] if isinstance(value, Mapping) else [key]
    return names


def _answered(answers: list[float | None]) -> bool:
    return any(answer is not None for answer in answers)
