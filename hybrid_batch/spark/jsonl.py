"""Read JSON lines, those of batch files too, strictly: a whole file, or the lines that begin in a range of its bytes.

Every kept column is text (a JSON value that is no string is kept as its JSON).
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import OPENAI_BATCH, InputSpec, Piece
from hybrid_batch.spark.batches import BATCH_BYTES, BATCH_ROWS
from hybrid_batch.spark.openai_batch import batch_row
from hybrid_batch.spark.queries import QUERY_COLUMNS, Row, chat_row, is_text, prompt_row, query_row, valid_text
from hybrid_batch.spark.text_streams import MAX_LINE_BYTES, newlines_before, opened, opened_at, too_long

_HEADER_LINES: Final = 100
_HEADER_BYTES: Final = 8 << 20
"""So many lines, or lines of so many bytes, tell which keys a file has."""

_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class Lines:
    """The lines of a file that begin in its bytes ``start`` to ``stop`` (None: its end), numbered from 1 among them.

    Cut a file at any places, and each of its lines is in one range, whole: a range ends with its last line, wherever
    that line ends, and skips the end of a line that began before it.
    """

    url: str
    start: int = 0
    stop: int | None = None

    @classmethod
    def of(cls, piece: Piece) -> Lines:
        return cls(piece.url, *(piece.byte_range or (0, None)))

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Numbers and texts of the lines that are not blank."""
        with self._opened() as stream:
            yield from self.read(stream)

    def read(self, stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
        """The same from an open file, which stands one byte before the range if it can."""
        at, number = self._first(stream), 0
        while self.stop is None or at < self.stop:
            line = stream.readline(MAX_LINE_BYTES + 1)
            if not line:
                return
            at, number = at + len(line), number + 1
            if len(line) > MAX_LINE_BYTES:
                raise InputError(too_long(self.place(number)))
            if line.strip():
                yield number, line

    def place(self, number: int) -> str:
        """``FILE, line N`` of a line of this range.  Counts the lines before the range: for messages only."""
        # A line begins after each newline, so the last byte before the range ends no line that begins before it.
        before = 1 + newlines_before(self.url, self.start - 1) if self.start else 0
        return f"{self.url}, line {before + number}"

    def opens_file(self, number: int) -> bool:
        """True for the first line of the file, which may begin with a byte order mark."""
        return number == 1 and self.start == 0

    @contextmanager
    def _opened(self) -> Iterator[io.BufferedReader]:
        if self.start:
            # The byte before the range says whether a line begins with it.
            with opened_at(self.url, self.start - 1) as stream:
                yield stream
        else:
            with opened(self.url, "jsonl") as (stream, _):
                yield stream

    def _first(self, stream: io.BufferedReader) -> int:
        """Skip to the first line that begins in the range -> where it begins, which may be behind the range."""
        at = max(0, self.start - 1)
        while self.start and (self.stop is None or at < self.stop):
            rest = stream.readline(_BLOCK_BYTES)
            at += len(rest)
            if not rest or rest.endswith(b"\n"):
                break
        return at


def jsonl_columns(url: str, stream: io.BufferedReader) -> list[str] | None:
    """The keys that the first JSON lines of an opened file have between them; None if all lines are blank."""
    lines = Lines(url)
    names: dict[str, None] | None = None
    read = 0
    for number, text in islice(lines.read(stream), _HEADER_LINES):
        names = (names or {}) | dict.fromkeys(_object(lines, number, text))
        if (read := read + len(text)) >= _HEADER_BYTES:
            break
    return None if names is None else list(names)


def count_jsonl(piece: Piece, at_most: int | None = None) -> int:
    """Rows of a piece, counted up to ``at_most``."""
    return sum(1 for _ in islice(Lines.of(piece), at_most))


def rows_before(piece: Piece) -> int:
    """Rows of the file that stand before the piece.  Reads them all: for messages only."""
    start = piece.byte_range[0] if piece.byte_range else 0
    return count_jsonl(Piece(piece.url, byte_range=(0, start))) if start else 0


def read_jsonl(piece: Piece, spec: InputSpec, kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """``query_id`` (if the input has ids), the query's columns and the kept ones, batch by batch."""
    names = (*(["query_id"] if spec.id_columns else []), *QUERY_COLUMNS, *kept)
    schema = pa.schema([(name, pa.string()) for name in names])
    lines = Lines.of(piece)
    rows: list[Row] = []
    size = 0
    for number, text in islice(lines, piece.rows):
        if rows and (len(rows) == BATCH_ROWS or size + len(text) > BATCH_BYTES):
            yield pa.RecordBatch.from_pylist(rows, schema=schema)
            rows, size = [], 0
        rows.append(_row(lines, number, text, spec, kept))
        size += len(text)
    if rows:
        yield pa.RecordBatch.from_pylist(rows, schema=schema)


def _object(lines: Lines, number: int, text: bytes) -> dict[str, Any]:
    try:
        value = json.loads(text.decode("utf-8-sig" if lines.opens_file(number) else "utf-8"))
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text: {error.reason} at byte {error.start}"
        raise InputError(f"{lines.place(number)}: {reason}") from error
    except ValueError as error:
        raise InputError(f"{lines.place(number)}: not JSON: {error}") from error
    except RecursionError as error:
        raise InputError(f"{lines.place(number)}: the JSON is nested too deeply") from error
    if not isinstance(value, dict):
        found = type(value).__name__
        raise InputError(f"{lines.place(number)}: a line must be a JSON object, this one is a {found}")
    return value


def _row(lines: Lines, number: int, text: bytes, spec: InputSpec, kept: Sequence[str]) -> Row:
    value = _object(lines, number, text)
    row = batch_row(value, spec.keep) if spec.format == OPENAI_BATCH else _query(lines, number, value, spec)
    if spec.id_column is not None:
        row = row | {"query_id": _id(lines, number, value.get(spec.id_column), spec)}
    return valid_text(row | {name: _kept_text(value.get(name)) for name in kept})


def _query(lines: Lines, number: int, value: dict[str, Any], spec: InputSpec) -> Row:
    query = value.get(spec.text_column)
    if spec.prompt_column and query is not None and not isinstance(query, str):
        column = f"column {spec.prompt_column!r} is {_shown(query)}"
        raise InputError(f"{lines.place(number)}: {column}, allowed is text or null")
    if spec.request_column is None and spec.image_column is None:
        return prompt_row(query) if spec.prompt_column else chat_row(query)
    request, image = (None if name is None else value.get(name) for name in (spec.request_column, spec.image_column))
    return query_row(query, not spec.prompt_column, request, image)


def _id(lines: Lines, number: int, identity: Any, spec: InputSpec) -> str:
    may_be_number = spec.format != OPENAI_BATCH
    is_number = may_be_number and isinstance(identity, int) and not isinstance(identity, bool)
    if is_number or (isinstance(identity, str) and is_text(identity)):
        return str(identity)
    allowed = "text or an integer" if may_be_number else "text"
    column = f"column {spec.id_column!r} is {_shown(identity)}"
    raise InputError(f"{lines.place(number)}: {column}, allowed is {allowed}")


def _shown(value: Any) -> str:
    """A value as JSON, shortened: what the user would look for in the file."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _kept_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
