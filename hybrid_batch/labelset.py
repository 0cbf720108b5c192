"""Labelled queries: how good both models' answers to them were.

A labels table is Parquet (a file, or a folder of parts), JSON lines or CSV with the columns of
:data:`hybrid_batch.tables.LABELS`; of those ``prompt``, ``q_small`` and ``q_large`` are enough.  A quality is one
number or a list, one for each answer; in CSV a list is written as JSON.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.labels import Qualities, qualities
from hybrid_batch.parquet import from_parquet, to_parquet
from hybrid_batch.storage import basename, normalise, open_store, reading
from hybrid_batch.tables import LABELS

QUALITY_COLUMNS = ("q_small", "q_large")
FORMATS = (".parquet", ".jsonl", ".csv")


@dataclass(frozen=True)
class LabelSet:
    """n labelled queries.  ``fingerprint`` (hex) names their content, whatever the order; ``source`` says whence."""

    query_ids: list[str]
    prompts: list[str]
    tasks: list[str | None]
    qualities: Qualities
    fingerprint: str
    source: str

    def __len__(self) -> int:
        return len(self.query_ids)

    def take(self, index: np.ndarray) -> LabelSet:
        """The rows at ``index`` (int or bool ``[m]``), with a fingerprint of their own."""
        rows = np.arange(len(self))[index]
        ids, prompts = ([values[row] for row in rows] for values in (self.query_ids, self.prompts))
        chosen = self.qualities.take(rows)
        tasks = [self.tasks[row] for row in rows]
        return LabelSet(ids, prompts, tasks, chosen, fingerprint_of(prompts, chosen), self.source)


def label_set(
    prompts: Sequence[str],
    small: Sequence[Sequence[float | None]],
    large: Sequence[Sequence[float | None]],
    *,
    query_ids: Sequence[str] | None = None,
    tasks: Sequence[str | None] | None = None,
    source: str = "",
) -> LabelSet:
    """Checked rows as one value; without ``query_ids`` they are hashes of the prompts.

    Raises ``InputError`` naming the row without a quality, or the id that stands there twice.
    """
    ids = [prompt_id(prompt) for prompt in prompts] if query_ids is None else list(query_ids)
    seen: dict[str, int] = {}
    for row, name in enumerate(ids):
        if (first := seen.setdefault(name, row)) != row:
            what = "prompt" if query_ids is None else "query_id"
            raise InputError(f"{source}: row {row}: the same {what} as in row {first} ({name}); rows count from 0")
    try:
        found = qualities(small, large, ids)
    except ValueError as error:
        raise InputError(f"{source}: {error}") from error
    names: list[str | None] = [None] * len(ids) if tasks is None else list(tasks)
    return LabelSet(ids, list(prompts), names, found, fingerprint_of(prompts, found), source)


def read_labels(url: str) -> LabelSet:
    """The labels at ``url``: a file, or a folder of Parquet parts; local or ``s3://``.

    Raises ``InputError`` naming file, column and row, and what is allowed there.
    """
    place = normalise(url)
    rows = [row for name in _files(place) for row in _rows(name)]
    if not rows:
        raise InputError(f"{place}: holds no labels")
    _require_columns(rows[0][1], place)
    has_ids = rows[0][1].get("query_id") is not None
    return label_set(
        [_text(row, "prompt", where) for where, row in rows],
        [quality_list(row.get("q_small"), f"{where}: q_small") for where, row in rows],
        [quality_list(row.get("q_large"), f"{where}: q_large") for where, row in rows],
        query_ids=[_text(row, "query_id", where) for where, row in rows] if has_ids else None,
        tasks=[task_text(row.get("task")) for _, row in rows],
        source=place,
    )


def write_labels(url: str, labels: LabelSet) -> None:
    """Write ``labels`` as one Parquet object, replacing what is there.  Answers' texts are not part of a label set."""
    table = pa.table(
        {
            "query_id": labels.query_ids,
            "prompt": labels.prompts,
            "task": pa.array(labels.tasks, pa.string()),
            "q_small": [_known(row) for row in labels.qualities.small],
            "q_large": [_known(row) for row in labels.qualities.large],
            "text_small": pa.nulls(len(labels), LABELS.field("text_small").type),
            "text_large": pa.nulls(len(labels), LABELS.field("text_large").type),
        },
        schema=LABELS,
    )
    place = normalise(url)
    open_store(place).put(place, to_parquet(table))


def summary(labels: LabelSet) -> dict[str, float]:
    """Mean quality of both models, and the shares of queries in which small is as good, better, worse."""
    gap = labels.qualities.gap
    return {
        "mean_small": float(labels.qualities.mean_small.mean()),
        "mean_large": float(labels.qualities.mean_large.mean()),
        "as_good": float((gap >= 0).mean()),
        "better": float((gap > 0).mean()),
        "worse": float((gap < 0).mean()),
        "tasks": float(len({task for task in labels.tasks if task})),
        "answers": float(np.mean([(~np.isnan(row)).sum() for row in labels.qualities.small])),
    }


def quality_list(value: Any, where: str) -> list[float | None]:
    """One quality or a list of them as a list; booleans are 1 and 0, JSON and number texts are read.

    Raises ``InputError`` that begins with ``where``.
    """
    if isinstance(value, str):
        try:
            value = json.loads({"true": "1", "false": "0"}.get(value.strip().lower(), value))
        except ValueError:
            raise InputError(f"{where} is {value[:60]!r}; allowed are numbers, true and false, and lists") from None
    answers = value if isinstance(value, (list, tuple)) else [value]
    for answer in answers:
        if answer is not None and not isinstance(answer, (int, float)):
            raise InputError(f"{where} holds {answer!r}; allowed are numbers, true and false")
    return [None if answer is None or math.isnan(answer) else float(answer) for answer in answers]


def prompt_id(prompt: str) -> str:
    """The id of a query that has none: a hash of its prompt."""
    return str(xxhash.xxh3_64_hexdigest(prompt.encode("utf-8", "surrogatepass")))


def fingerprint_of(prompts: Sequence[str], q: Qualities) -> str:
    """Hash of the rows as a set: 32 hex digits."""
    rows = (
        xxhash.xxh3_128_intdigest(json.dumps([prompt, _known(small), _known(large)]).encode("utf-8", "surrogatepass"))
        for prompt, small, large in zip(prompts, q.small, q.large, strict=True)
    )
    return f"{sum(rows) % 2**128:032x}"


def parsed_rows(url: str) -> Iterator[dict[str, Any]]:
    """Rows of one Parquet, JSON lines, JSON or CSV file as plain values, in order.

    A ``.json`` file is one list of objects.  Raises ``InputError`` naming the file and the line.
    """
    store, place = open_store(url), normalise(url)
    data = store.read(place)
    ending = basename(place).rpartition(".")[2].lower()
    try:
        if ending == "parquet":
            with reading(place):
                yield from from_parquet(data).to_pylist()
        elif ending in ("jsonl", "json"):
            yield from _json_rows(data, place, whole=ending == "json")
        elif ending == "csv":
            yield from _csv_rows(data, place)
        else:
            raise InputError(f"{place}: the ending is {ending!r}; allowed are parquet, jsonl, json and csv")
    except pa.ArrowException as error:
        raise InputError(f"{place}: cannot be read as {ending}: {str(error).splitlines()[0]}") from error


def _json_rows(data: bytes, place: str, *, whole: bool) -> Iterator[dict[str, Any]]:
    lines = [data] if whole else data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise InputError(f"{place}: line {number} is not JSON: {error}") from error
        for row in value if whole and isinstance(value, list) else [value]:
            if not isinstance(row, dict):
                raise InputError(f"{place}: line {number} holds {type(row).__name__}, not an object")
            yield row


def _csv_rows(data: bytes, place: str) -> Iterator[dict[str, Any]]:
    import csv

    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{place}: is not UTF-8 text: {error}") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(f"{place}: line {reader.line_num} has not as many fields as the header")
            yield {name: value if value != "" else None for name, value in row.items()}
    except csv.Error as error:
        raise InputError(f"{place}: line {reader.line_num}: {error}") from error


def _files(place: str) -> list[str]:
    if place.endswith(FORMATS):
        return [place]
    found = sorted(item.url for item in open_store(place).list(place) if item.url.endswith(".parquet"))
    if not found:
        raise InputError(
            f"{place}: holds no labels; allowed are a .parquet, .jsonl or .csv file, or a folder of Parquet"
        )
    return found


def _rows(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, row in enumerate(parsed_rows(name)):
        yield f"{name}: row {number}", row


def _require_columns(row: Mapping[str, Any], place: str) -> None:
    missing = [name for name in ("prompt", *QUALITY_COLUMNS) if name not in row]
    if missing:
        raise InputError(
            f"{place}: there is no column {missing[0]!r}; the table has {', '.join(map(repr, row))}; "
            "map other names with `hybrid-batch labels import`"
        )


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if value is None or not str(value).strip():
        raise InputError(f"{where}: {column} is empty")
    return str(value)


def task_text(value: Any) -> str | None:
    """A task as Arrow writes it, so that the column of a job and that of its labels agree."""
    return None if value in (None, "") else str(value).lower() if isinstance(value, bool) else str(value)


def _known(values: np.ndarray) -> list[float]:
    return [float(value) for value in values if not math.isnan(value)]
