"""Read the pieces of a split into guarded rows, in the order of the files.

All formats come out with one schema: ``SCORED`` without its score, then the kept columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec, Piece, Split
from hybrid_batch.spark.batches import bounded
from hybrid_batch.spark.kept import carried
from hybrid_batch.spark.parquet_files import first_line, read_parquet
from hybrid_batch.spark.queries import prompt_columns, query_columns
from hybrid_batch.spark.text_files import read_text, rows_before
from hybrid_batch.stages.guard import guard
from hybrid_batch.stages.overrides import without_nulls
from hybrid_batch.storage import basename, normalise
from hybrid_batch.tables import SCORED, with_kept

_READ = pa.schema([field for field in SCORED if field.name != "score"])


def read_split(split: Split, spec: InputSpec, kept: Sequence[pa.Field]) -> Iterator[pa.RecordBatch]:
    """The split's rows, guarded, in batches of bounded size.  Raises ``InputError`` naming file, column and row.

    The first row of each piece must be known: see :func:`hybrid_batch.core.packing.located`.
    """
    return bounded(batch for piece in split.pieces for batch in _read_piece(piece, spec, kept))


def _read_piece(piece: Piece, spec: InputSpec, kept: Sequence[pa.Field]) -> Iterator[pa.RecordBatch]:
    if piece.first_row is None:
        raise ValueError(f"{piece.url}: the rows before this piece were not counted")
    schema, first_row = with_kept(_READ, kept), piece.first_row
    for batch in _columns(piece, spec, kept):
        rows = pa.array(range(first_row, first_row + batch.num_rows), pa.int64())
        columns = {name: batch[name] for name in batch.schema.names} | {
            "query_id": batch["query_id"] if spec.id_columns else _ids_of_places(piece.url, rows, spec),
            "source_file": pa.repeat(piece.url, batch.num_rows),
            "source_row": rows,
        }
        whole = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
        yield guard(whole, spec.max_prompt_bytes)
        first_row += batch.num_rows


def read_ids(piece: Piece, spec: InputSpec) -> Iterator[pa.Array]:
    """The ids of a piece, as text, batch by batch; nulls where the input has no column of ids.

    Raises ``InputError`` for an id that is null or empty.  Text is parsed whole on the way, so a broken line is found
    here, before any model is loaded.
    """
    row = 0
    for batch in _id_batches(piece, spec):
        ids = batch["query_id"] if spec.id_columns else pa.nulls(batch.num_rows, pa.string())
        if spec.id_columns:
            _require_ids(ids, piece, spec, row)
        row += len(ids)
        yield ids


def _id_batches(piece: Piece, spec: InputSpec) -> Iterator[pa.RecordBatch]:
    if spec.format != "parquet":
        yield from read_text(piece, spec, ())
        return
    for batch in read_parquet(piece, spec.id_columns or (spec.text_column,)):
        yield pa.RecordBatch.from_pydict(_parquet_ids(batch, spec)) if spec.id_columns else batch


def _require_ids(ids: pa.Array, piece: Piece, spec: InputSpec, row: int) -> None:
    """``row`` is the number of the first id within the piece."""
    for reason, bad in (("null", pc.is_null(ids)), ("empty", pc.equal(ids, ""))):
        if (place := pc.index(bad, True).as_py()) >= 0:
            before = rows_before(piece) if piece.first_row is None else piece.first_row
            raise InputError(
                f"{piece.url}: column {spec.id_column!r}, row {before + row + place}: the id is {reason} "
                "(rows count from 0)"
            )


def _ids_of_places(url: str, rows: pa.Array, spec: InputSpec) -> pa.Array:
    name = url.removeprefix(normalise(spec.path)).strip("/") or basename(url)
    return pc.binary_join_element_wise(name, rows.cast(pa.string()), ":")


def _columns(piece: Piece, spec: InputSpec, kept: Sequence[pa.Field]) -> Iterator[pa.RecordBatch]:
    if spec.format == "parquet":
        return _parquet_columns(piece, spec, kept)
    return read_text(piece, spec, [field.name for field in kept])


def _parquet_columns(piece: Piece, spec: InputSpec, kept: Sequence[pa.Field]) -> Iterator[pa.RecordBatch]:
    for batch in read_parquet(piece, spec.columns):
        columns = {
            **_parquet_ids(batch, spec),
            **_parquet_queries(batch, spec),
            **{field.name: _carried(piece.url, batch[field.name], field) for field in kept},
        }
        yield pa.RecordBatch.from_pydict(columns)


def _parquet_queries(batch: pa.RecordBatch, spec: InputSpec) -> dict[str, pa.Array]:
    if spec.prompt_column and not spec.further_columns:
        return prompt_columns(batch[spec.prompt_column].cast(pa.string()))
    names = (spec.prompt_column, spec.messages_column, spec.request_column, spec.image_column)
    return query_columns(*(None if name is None else without_nulls(batch[name].to_pylist()) for name in names))


def _parquet_ids(batch: pa.RecordBatch, spec: InputSpec) -> dict[str, pa.Array]:
    return {} if spec.id_column is None else {"query_id": batch[spec.id_column].cast(pa.string())}


def _carried(url: str, column: pa.Array, field: pa.Field) -> pa.Array:
    try:
        return carried(column, field.type)
    except pa.ArrowException as error:
        raise InputError(f"{url}: column {field.name!r} cannot be kept as {field.type}: {first_line(error)}") from error
