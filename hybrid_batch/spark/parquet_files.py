"""Parquet for planner and readers: footers, and the rows of a piece in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import Piece
from hybrid_batch.spark.batches import BATCH_ROWS, bounded, window
from hybrid_batch.spark.file_kinds import HEAD_BYTES, foreign_kind
from hybrid_batch.storage import open_store, reading

_DECODED_ROWS: Final = 256
_DECODED_BYTES: Final = 8 << 20
"""So much is decoded at once.  The rows are limited as well as the bytes, because a footer does not say how large the
values are that a dictionary holds once for many rows."""

_BUFFER_BYTES: Final = 8 << 20
"""Of each column, so much of a row group is fetched at once, not all of it."""


_DAMAGE: Final = (UnicodeDecodeError, IndexError, OverflowError)
"""What pyarrow's Python side makes of a footer whose names are no text, or that has columns without data."""


@dataclass(frozen=True)
class RowGroup:
    """Rows of a row group, and the uncompressed bytes of the columns that are read."""

    rows: int
    bytes: int


def footer(url: str, columns: Sequence[str]) -> tuple[pa.Schema, list[RowGroup]]:
    """Schema and row groups; sizes are those of ``columns``.  Raises ``InputError`` for a file that is no Parquet."""
    try:
        with reading(url), open_store(url).open_input(url) as file, pq.ParquetFile(file) as parquet:
            leaves = _leaves(parquet, columns)
            groups = [parquet.metadata.row_group(index) for index in range(parquet.num_row_groups)]
            _require_rows(url, parquet.metadata.num_rows, [group.num_rows for group in groups])
            return parquet.schema_arrow, [RowGroup(group.num_rows, _bytes(group, leaves)) for group in groups]
    except (pa.ArrowException, *_DAMAGE) as error:
        kind = _kind_of(url) or f"no Parquet, or cut short: {first_line(error)}"
        raise InputError(f"{url}: input.format is parquet, but the file is {kind}") from error


def _require_rows(url: str, rows: int, groups: Sequence[int]) -> None:
    """A count that is damaged would leave rows out without a word, or ask for more of them than there can be."""
    if sum(groups) != rows or min(groups, default=0) < 0:
        raise InputError(f"{url}: corrupt Parquet: its footer says {rows} rows, its row groups {sum(groups)}")


def _kind_of(url: str) -> str | None:
    with reading(url), open_store(url).open_input(url) as file:
        return foreign_kind(file.read(HEAD_BYTES), "parquet")


def _leaves(parquet: pq.ParquetFile, columns: Sequence[str]) -> list[int]:
    """The numbers of the leaves below ``columns``: a list of structs has one for each field."""
    paths = [parquet.schema.column(index).path for index in range(len(parquet.schema))]
    return [n for n, path in enumerate(paths) if any(path == name or path.startswith(f"{name}.") for name in columns)]


def _bytes(group: pq.RowGroupMetaData, leaves: Sequence[int]) -> int:
    return sum(group.column(leaf).total_uncompressed_size for leaf in leaves)


def read_parquet(piece: Piece, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The columns of a piece, batch by batch, each batch checked for values that are what their types promise:
    Parquet does not check that text is UTF-8.

    Rows of the row groups that stand before the piece are fetched, decoded and dropped.
    """
    assert piece.first_row is not None
    assert piece.row_groups is not None
    url = piece.url
    try:
        with (
            reading(url),
            open_store(url).open_input(url) as file,
            pq.ParquetFile(file, buffer_size=_BUFFER_BYTES) as parquet,
        ):
            groups = range(*piece.row_groups)
            rows = _rows_at_once(parquet, groups, columns)
            decoded = parquet.iter_batches(rows, row_groups=groups, columns=list(columns), use_threads=False)
            wanted = _all_of(piece, window(decoded, piece.skip, piece.rows))
            yield from bounded(_plain(_valid(url, wanted, piece.first_row)))
    except pa.ArrowException as error:
        raise InputError(f"{url}: corrupt Parquet: {first_line(error)}") from error


def _all_of(piece: Piece, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, and an ``InputError`` if they are fewer rows than the piece has: a damaged page may be no error."""
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        yield batch
    if piece.rows is not None and rows != piece.rows:
        raise InputError(f"{piece.url}: corrupt Parquet: {rows} rows where its footer says {piece.rows}")


def _rows_at_once(parquet: pq.ParquetFile, groups: Sequence[int], columns: Sequence[str]) -> int:
    leaves = _leaves(parquet, columns)
    found = [parquet.metadata.row_group(group) for group in groups]
    largest = max((_bytes(group, leaves) / max(1, group.num_rows) for group in found), default=1)
    # A column that stays a dictionary brings all of it with each batch.
    dictionaries = any(pa.types.is_dictionary(parquet.schema_arrow.field(name).type) for name in columns)
    most = BATCH_ROWS if dictionaries else _DECODED_ROWS
    return max(1, min(most, int(_DECODED_BYTES / max(1, largest))))


def _valid(url: str, batches: Iterable[pa.RecordBatch], first_row: int) -> Iterator[pa.RecordBatch]:
    """The batches, whose first row has the number ``first_row`` in its file, up to one with a broken value."""
    for batch in batches:
        for name in batch.schema.names:
            if (reason := _flaw(batch[name])) is not None:
                raise InputError(f"{url}: column {name!r}, {_where(batch[name], first_row)}: {reason}")
        first_row += batch.num_rows
        yield batch


def _where(column: pa.Array, first_row: int) -> str:
    rows = (row for row in range(len(column)) if _flaw(_decoded(column.slice(row, 1))))
    return f"row {first_row + row} (rows count from 0)" if (row := next(rows, None)) is not None else "its values"


def _plain(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches with the values of dictionaries in place of them."""
    for batch in batches:
        if not any(pa.types.is_dictionary(kind) for kind in batch.schema.types):
            yield batch
            continue
        for start in range(0, batch.num_rows, _DECODED_ROWS):
            part = batch.slice(start, _DECODED_ROWS)
            yield pa.RecordBatch.from_arrays(list(map(_decoded, part.columns)), names=part.schema.names)


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _flaw(column: pa.Array) -> str | None:
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        return "it is not UTF-8 text" if "UTF8" in str(error) else first_line(error)
    return None


def first_line(error: Exception) -> str:
    """The first line of its message."""
    return str(error).splitlines()[0]
