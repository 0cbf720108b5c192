"""Read CSV, strictly: a row that cannot be told from its neighbours is an error, never a guess.

A CSV file is read whole: a newline may stand inside quotes, so no place in the middle of a file is known to begin a
row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import pyarrow as pa

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec, Piece
from hybrid_batch.spark.batches import BATCH_BYTES, BATCH_ROWS
from hybrid_batch.spark.queries import is_text, prompt_columns, query_columns
from hybrid_batch.spark.text_streams import MAX_LINE_BYTES, opened, too_long


def csv_columns(url: str, stream: io.BufferedReader) -> list[str] | None:
    """The header of an opened file; None if all lines are blank."""
    return next((fields for _, fields in _rows_of(url, stream)), None)


def count_csv(piece: Piece, at_most: int) -> int:
    """Rows of a file, counted up to ``at_most``."""
    return sum(1 for _ in islice(_rows(piece.url), 1, 1 + at_most))


def read_csv(piece: Piece, spec: InputSpec, kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """``query_id`` (if the input has ids), the query's columns and the kept ones, batch by batch.

    An empty field is empty text, not null.
    """
    names = list(dict.fromkeys([*spec.id_columns, spec.text_column, *spec.further_columns, *kept]))
    for chunk in _chunks(islice(_fields(piece.url, names), piece.rows)):
        fields = dict(zip(names, zip(*chunk, strict=True), strict=True))
        own = {"query_id": fields[spec.id_column]} if spec.id_column else {}
        columns = own | {name: fields[name] for name in kept}
        arrays = {name: pa.array(column, pa.string()) for name, column in columns.items()}
        yield pa.RecordBatch.from_pydict(arrays | _queries(fields, spec))


def _queries(fields: Mapping[str, Sequence[str]], spec: InputSpec) -> dict[str, pa.Array]:
    if spec.prompt_column and not spec.further_columns:
        return prompt_columns(pa.array(fields[spec.prompt_column], pa.string()))
    names = (spec.prompt_column, spec.messages_column, spec.request_column, spec.image_column)
    return query_columns(*(None if name is None else fields[name] for name in names))


def _chunks(rows: Iterator[list[str]]) -> Iterator[list[list[str]]]:
    """Rows by the batch; sizes are counted in characters."""
    chunk: list[list[str]] = []
    size = 0
    for fields in rows:
        own = sum(map(len, fields))
        if chunk and (len(chunk) == BATCH_ROWS or size + own > BATCH_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(fields)
        size += own
    if chunk:
        yield chunk


def _fields(url: str, columns: Sequence[str]) -> Iterator[list[str]]:
    """The fields of ``columns`` of each row below the header."""
    rows = _rows(url)
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


def _rows(url: str) -> Iterator[tuple[int, list[str]]]:
    with opened(url, "csv") as (stream, _):
        yield from _rows_of(url, stream)


def _rows_of(url: str, stream: io.BufferedReader) -> Iterator[tuple[int, list[str]]]:
    """The line on which a row begins (from 1) and its fields, for all rows that are not blank, the header first."""
    csv.field_size_limit(MAX_LINE_BYTES)  # The module's own limit, 128 KiB, is shorter than a query may be.
    # Bytes that are no UTF-8 become lone surrogates, so that the row they stand in can be named.
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
        reader = csv.reader(_lines(url, text), strict=True)
        line = 1
        try:
            for fields in reader:
                if fields:
                    yield line, fields
                line = reader.line_num + 1
        except csv.Error as error:
            raise InputError(f"{url}, line {line}: the row that begins here is no CSV: {_reason(error)}") from error


def _lines(url: str, text: io.TextIOWrapper) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise InputError(too_long(f"{url}, line {number}"))
        yield line


def _reason(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return "its quote is never closed"
    if "field limit" in str(error):
        return f"a field has more than {MAX_LINE_BYTES:,} characters; is a quote left open?"
    return str(error)
