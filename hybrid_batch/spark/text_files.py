"""Read JSON lines and CSV, strictly: a row that cannot be told from its neighbours is an error, never a guess.

Every kept column is text (a JSON value that is no string is kept as its JSON).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec, Split
from hybrid_batch.spark.file_kinds import HEAD_BYTES, foreign_kind
from hybrid_batch.spark.queries import (
    QUERY_COLUMNS,
    Row,
    chat_row,
    is_text,
    message_columns,
    prompt_columns,
    prompt_row,
    valid_text,
)
from hybrid_batch.storage import open_store, reading

BATCH_ROWS: Final = 4_096
MAX_LINE_BYTES: Final = 64 << 20
"""A longer line or CSV field is a file without line ends, or with a quote left open: it is refused, not loaded."""

_HEADER_LINES = 100
_TEXT = ""
"""Stands for the query's column among the kept ones, which cannot have this name."""
_BUFFER_BYTES = 1 << 20


def text_columns(url: str, file_format: str) -> list[str]:
    """Column names of a text file: the CSV header, or the keys that the first JSON lines have between them.

    Raises ``InputError`` for a file that is no text, has no header, or whose first lines are broken.
    """
    with reading(url), open_store(url).open_input(url) as file:
        if kind := foreign_kind(file.read(HEAD_BYTES), file_format):
            raise InputError(f"{url}: input.format is {file_format}, but the file is {kind}")
    if file_format == "csv":
        header = next((fields for _, fields in _csv_rows(url)), None)
        if header is not None:
            return header
    elif first := [_jsonl_object(url, line, text) for line, text in islice(_jsonl_lines(url), _HEADER_LINES)]:
        return list(dict.fromkeys(name for row in first for name in row))
    raise InputError(f"{url}: the file has only blank lines")


def count_text_rows(url: str, file_format: str, at_most: int) -> int:
    """Rows of a text file, counted up to ``at_most``."""
    if file_format == "jsonl":
        return sum(1 for _ in islice(_jsonl_lines(url), at_most))
    return sum(1 for _ in islice(_csv_rows(url), 1, 1 + at_most))


def read_jsonl(split: Split, spec: InputSpec, kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """``query_id`` (if the input has ids), the query's columns and the kept ones, batch by batch."""
    rows = (_jsonl_row(split.url, line, text, spec, kept) for line, text in _jsonl_lines(split.url))
    names = (*_id_names(spec), *QUERY_COLUMNS, *kept)
    schema = pa.schema([(name, pa.string()) for name in names])
    while chunk := list(islice(rows, BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(chunk, schema=schema)


def _jsonl_lines(url: str) -> Iterator[tuple[int, bytes]]:
    """Line numbers (from 1) and texts of the lines that are not blank."""
    with reading(url), open_store(url).open_input(url) as file, io.BufferedReader(file, _BUFFER_BYTES) as lines:
        number = 0
        while line := lines.readline(MAX_LINE_BYTES + 1):
            number += 1
            if len(line) > MAX_LINE_BYTES:
                raise InputError(_too_long(url, number))
            if line.strip():
                yield number, line


def _jsonl_object(url: str, line: int, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8-sig" if line == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{url}, line {line}: not UTF-8 text: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        raise InputError(f"{url}, line {line}: not JSON: {error}") from error
    except RecursionError as error:
        raise InputError(f"{url}, line {line}: the JSON is nested too deeply") from error
    if not isinstance(value, dict):
        raise InputError(f"{url}, line {line}: a line must be a JSON object, this one is a {type(value).__name__}")
    return value


def _jsonl_row(url: str, line: int, text: bytes, spec: InputSpec, kept: Sequence[str]) -> Row:
    value = _jsonl_object(url, line, text)
    query = value.get(spec.text_column)
    if spec.prompt_column:
        if query is not None and not isinstance(query, str):
            raise InputError(
                f"{url}, line {line}: column {spec.prompt_column!r} is {_shown(query)}, allowed is text or null"
            )
        row = prompt_row(query)
    else:
        row = chat_row(query)
    if spec.id_column is not None:
        row = row | {"query_id": _jsonl_id(url, line, value.get(spec.id_column), spec.id_column)}
    return valid_text(row | {name: _kept_text(value.get(name)) for name in kept})


def _jsonl_id(url: str, line: int, identity: Any, column: str) -> str:
    is_number = isinstance(identity, int) and not isinstance(identity, bool)
    if is_number or (isinstance(identity, str) and is_text(identity)):
        return str(identity)
    raise InputError(f"{url}, line {line}: column {column!r} is {_shown(identity)}, allowed is text or an integer")


def _shown(value: Any) -> str:
    """A value as JSON, shortened: what the user would look for in the file."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kept_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def read_csv(split: Split, spec: InputSpec, kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """As :func:`read_jsonl`; an empty field is empty text, not null."""
    wanted = [*spec.id_columns, spec.text_column, *kept]
    names = [*_id_names(spec), _TEXT, *kept]
    rows = _csv_columns(split.url, wanted)
    while chunk := list(islice(rows, BATCH_ROWS)):
        arrays = [pa.array(column, pa.string()) for column in zip(*chunk, strict=True)]
        columns = dict(zip(names, arrays, strict=True))
        text = columns.pop(_TEXT)
        queries = prompt_columns(text) if spec.prompt_column else message_columns(text.to_pylist())
        yield pa.RecordBatch.from_pydict(columns | queries)


def _id_names(spec: InputSpec) -> tuple[str, ...]:
    return ("query_id",) if spec.id_columns else ()


def _csv_columns(url: str, columns: Sequence[str]) -> Iterator[list[str]]:
    """The fields of ``columns`` of each row below the header."""
    rows = _csv_rows(url)
    header = next((fields for _, fields in rows), [])
    if missing := [column for column in columns if column not in header]:
        raise InputError(f"{url}: there is no column {missing[0]!r}")
    places = [header.index(column) for column in columns]
    for line, fields in rows:
        if len(fields) != len(header):
            raise InputError(f"{url}, line {line}: the row has {len(fields)} fields, the header has {len(header)}")
        own = [fields[place] for place in places]
        for column, field in zip(columns, own, strict=True):
            if not is_text(field):
                raise InputError(f"{url}, line {line}: column {column!r} is not UTF-8 text")
        yield own


def _csv_rows(url: str) -> Iterator[tuple[int, list[str]]]:
    """The line on which a row begins (from 1) and its fields, for all rows that are not blank, the header first."""
    csv.field_size_limit(MAX_LINE_BYTES)  # The module's own limit, 128 KiB, is shorter than a query may be.
    with (
        reading(url),
        open_store(url).open_input(url) as file,
        io.BufferedReader(file, _BUFFER_BYTES) as raw,
        # Bytes that are no UTF-8 become lone surrogates, so that the row they stand in can be named.
        io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="") as text,
    ):
        reader = csv.reader(_csv_lines(url, text), strict=True)
        line = 1
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{url}, line {line}: the row that begins here is no CSV: {_csv_reason(error)}") from error


def _csv_lines(url: str, text: io.TextIOWrapper) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise InputError(_too_long(url, number))
        yield line


def _csv_reason(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "its quote is never closed"
    if "field limit" in str(error):
        return f"a field has more than {MAX_LINE_BYTES:,} characters; is a quote left open?"
    return str(error)


def _too_long(url: str, line: int) -> str:
    return f"{url}, line {line}: the line is longer than {MAX_LINE_BYTES:,} bytes; is it one row a line?"
