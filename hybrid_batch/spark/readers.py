"""Read one split of a query file into guarded rows, in the file's order.

All formats come out with one schema: ``SCORED`` without its score, then the kept columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec, Split
from hybrid_batch.spark.kept import carried
from hybrid_batch.spark.queries import message_columns, prompt_columns
from hybrid_batch.spark.text_files import BATCH_ROWS, read_csv, read_jsonl
from hybrid_batch.stages.guard import guard
from hybrid_batch.storage import basename, normalise, open_store, reading
from hybrid_batch.tables import SCORED, with_kept

_READ = pa.schema([field for field in SCORED if field.name != "score"])


def read_split(split: Split, spec: InputSpec, kept: Sequence[pa.Field]) -> Iterator[pa.RecordBatch]:
    """The split's rows, guarded.  Raises ``InputError`` naming file, column and row."""
    schema = with_kept(_READ, kept)
    for first_row, batch in _placed(_columns(split, spec, kept), split):
        columns = {name: batch[name] for name in batch.schema.names} | {
            "query_id": _ids(batch, first_row, split, spec),
            "source_file": pa.repeat(split.url, batch.num_rows),
            "source_row": _rows(batch, first_row),
        }
        whole = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
        yield guard(whole, spec.max_prompt_bytes)


def read_ids(split: Split, spec: InputSpec) -> Iterator[pa.Array]:
    """The ids of a split, as text, batch by batch.  Raises ``InputError`` for one that is null or empty.

    A Parquet split must have an id column.
    Text files are parsed whole on the way, so a broken line is found here, before any model is loaded.
    """
    batches: Iterator[pa.RecordBatch]
    if spec.format == "parquet":
        batches = (
            pa.RecordBatch.from_pydict(_parquet_ids(batch, spec)) for batch in _parquet_batches(split, spec.id_columns)
        )
    else:
        batches = _columns(split, spec, ())
    for first_row, batch in _placed(batches, split):
        ids = _ids(batch, first_row, split, spec)
        for reason, bad in (("null", pc.is_null(ids)), ("empty", pc.equal(ids, ""))):
            if (row := pc.index(bad, True).as_py()) >= 0:
                raise InputError(
                    f"{split.url}: column {spec.id_column!r}, row {first_row + row}: the id is {reason} "
                    "(rows count from 0)"
                )
        yield ids


def _placed(batches: Iterator[pa.RecordBatch], split: Split) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The split's batches, each with the number of its first row within the file."""
    row = split.first_row
    for batch in _limit_rows(batches, split.max_rows):
        yield row, batch
        row += batch.num_rows


def _rows(batch: pa.RecordBatch, first_row: int) -> pa.Array:
    return pa.array(range(first_row, first_row + batch.num_rows), pa.int64())


def _ids(batch: pa.RecordBatch, first_row: int, split: Split, spec: InputSpec) -> pa.Array:
    """The ids that the input gives, else ids made from file name and row."""
    if spec.id_column is not None:
        return batch["query_id"]
    name = split.url.removeprefix(normalise(spec.path)).strip("/") or basename(split.url)
    return pc.binary_join_element_wise(name, _rows(batch, first_row).cast(pa.string()), ":")


def _columns(split: Split, spec: InputSpec, kept: Sequence[pa.Field]) -> Iterator[pa.RecordBatch]:
    if spec.format == "parquet":
        return _read_parquet(split, spec, kept)
    readers: dict[str, Callable[..., Iterator[pa.RecordBatch]]] = {"jsonl": read_jsonl, "csv": read_csv}
    return readers[spec.format](split, spec, [field.name for field in kept])


def _limit_rows(batches: Iterator[pa.RecordBatch], rows: int | None) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if rows is None:
            yield batch
        elif rows > 0:
            yield batch.slice(0, rows)
            rows -= batch.num_rows
        else:
            return


def _read_parquet(split: Split, spec: InputSpec, kept: Sequence[pa.Field]) -> Iterator[pa.RecordBatch]:
    names = list(dict.fromkeys([*spec.id_columns, spec.text_column, *(field.name for field in kept)]))
    for batch in _parquet_batches(split, names):
        text = batch[spec.text_column]
        columns = {
            **_parquet_ids(batch, spec),
            **(prompt_columns(text.cast(pa.string())) if spec.prompt_column else message_columns(text.to_pylist())),
            **{field.name: _carried(split.url, batch[field.name], field) for field in kept},
        }
        yield pa.RecordBatch.from_pydict(columns)


def _parquet_ids(batch: pa.RecordBatch, spec: InputSpec) -> dict[str, pa.Array]:
    return {} if spec.id_column is None else {"query_id": batch[spec.id_column].cast(pa.string())}


def _carried(url: str, column: pa.Array, field: pa.Field) -> pa.Array:
    try:
        return carried(column, field.type)
    except pa.ArrowException as error:
        raise InputError(
            f"{url}: column {field.name!r} cannot be kept as {field.type}: {_first_line(error)}"
        ) from error


def _parquet_batches(split: Split, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of ``columns`` that hold what their types promise: Parquet does not check that text is UTF-8."""
    groups = range(*split.row_groups) if split.row_groups else None
    first_row = split.first_row
    try:
        with reading(split.url), open_store(split.url).open_input(split.url) as file, pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(columns), use_threads=False):
                _require_valid(split.url, batch, first_row)
                first_row += batch.num_rows
                yield batch
    except pa.ArrowException as error:
        raise InputError(f"{split.url}: corrupt Parquet: {_first_line(error)}") from error


def _require_valid(url: str, batch: pa.RecordBatch, first_row: int) -> None:
    for name in batch.schema.names:
        if (reason := _flaw(batch[name])) is None:
            continue
        rows = (row for row in range(batch.num_rows) if _flaw(_decoded(batch[name].slice(row, 1))))
        where = f"row {first_row + row} (rows count from 0)" if (row := next(rows, None)) is not None else "its values"
        raise InputError(f"{url}: column {name!r}, {where}: {reason}")


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _flaw(column: pa.Array) -> str | None:
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        return "it is not UTF-8 text" if "UTF8" in str(error) else _first_line(error)
    return None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
