"""Which files hold tonight's queries, whether they can be read at all, and in which splits.

Everything that can be known from listings, Parquet footers and first lines is checked here, on the driver,
before Spark starts or a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec, Split
from hybrid_batch.spark.file_kinds import HEAD_BYTES, foreign_kind
from hybrid_batch.spark.kept import ALLOWED, kept_type
from hybrid_batch.spark.text_files import count_text_rows, text_columns
from hybrid_batch.storage import ObjectInfo, basename, normalise, open_store, reading

__all__ = ["InputPlan", "InputSpec", "Split", "plan_input"]

_THREADS = 16
_SHOWN_COLUMNS = 40


@dataclass(frozen=True)
class InputPlan:
    """What will be read: files with their ETags, splits in file order, the kept columns with their types.

    ``rows`` is None where only reading tells (text files without a limit).
    """

    files: tuple[ObjectInfo, ...]
    splits: tuple[Split, ...]
    kept: tuple[pa.Field, ...]
    rows: int | None

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def plan_input(spec: InputSpec) -> InputPlan:
    """List and check the files of ``spec``.

    Raises ``InputError`` that names the file and column for: nothing there, an empty or truncated file, a missing
    column or one that stands there twice, a type that holds no text or cannot be kept.  Raises ``StorageError`` when
    the place itself cannot be reached.
    """
    files = _files(spec)
    if spec.format == "parquet":
        return _plan_parquet(spec, files)
    return _plan_text(spec, files)


def _files(spec: InputSpec) -> list[ObjectInfo]:
    path = normalise(spec.path)
    listed = open_store(path).list(path)
    files = [file for file in listed if not _is_marker(file.url, path)]
    if not files:
        raise InputError(f"input.path: no query file at {path}")
    if empty := [file.url for file in files if file.size == 0]:
        raise InputError(f"{empty[0]}: the file is empty (0 bytes)")
    return files


def _is_marker(url: str, folder: str) -> bool:
    """``_SUCCESS``, ``_metadata`` and what lies in folders such as ``_temporary``: no data, by Spark's convention."""
    return any(part.startswith("_") for part in url.removeprefix(folder).split("/"))


def _plan_parquet(spec: InputSpec, files: Sequence[ObjectInfo]) -> InputPlan:
    with ThreadPoolExecutor(_THREADS) as pool:
        footers = list(pool.map(lambda file: _footer(file.url), files))
    kept = _kept_fields(spec, [(file.url, schema) for file, (schema, _) in zip(files, footers, strict=True)])
    splits = tuple(_limited(_parquet_splits(spec, files, footers), spec.limit))
    return InputPlan(tuple(files), splits, kept, sum(split.max_rows or split.rows or 0 for split in splits))


def _footer(url: str) -> tuple[pa.Schema, list[int]]:
    """Schema and the number of rows of each row group."""
    try:
        with reading(url), open_store(url).open_input(url) as file, pq.ParquetFile(file) as parquet:
            groups = [parquet.metadata.row_group(index).num_rows for index in range(parquet.num_row_groups)]
            return parquet.schema_arrow, groups
    except pa.ArrowException as error:
        kind = _kind_of(url) or f"no Parquet, or cut short: {str(error).splitlines()[0]}"
        raise InputError(f"{url}: input.format is parquet, but the file is {kind}") from error


def _kind_of(url: str) -> str | None:
    with reading(url), open_store(url).open_input(url) as file:
        return foreign_kind(file.read(HEAD_BYTES), "parquet")


def _parquet_splits(
    spec: InputSpec, files: Iterable[ObjectInfo], footers: Iterable[tuple[pa.Schema, list[int]]]
) -> Iterator[Split]:
    for file, (_, groups) in zip(files, footers, strict=True):
        start, first_row, rows = 0, 0, 0
        for index, group_rows in enumerate(groups):
            rows += group_rows
            if rows >= spec.rows_per_split or index == len(groups) - 1:
                yield Split(0, file.url, first_row, rows, (start, index + 1))
                start, first_row, rows = index + 1, first_row + rows, 0


def _kept_fields(spec: InputSpec, schemas: Sequence[tuple[str, pa.Schema]]) -> tuple[pa.Field, ...]:
    """Check the columns of every file -> the kept fields, as the first file types them."""
    kept: tuple[pa.Field, ...] = ()
    for url, schema in schemas:
        _require_columns(url, schema.names, spec)
        if spec.id_column:
            _require_type(url, schema, spec.id_column, _is_id, "text or an integer")
        if spec.prompt_column:
            _require_type(url, schema, spec.prompt_column, _is_text, "text")
        else:
            _require_type(url, schema, spec.text_column, _is_messages, "text (JSON) or a list of structs")
        fields = tuple(_kept_field(url, schema.field(name)) for name in spec.keep)
        for field, first in zip(fields, kept, strict=False):
            if field.type != first.type:
                raise InputError(
                    f"{url}: column {field.name!r} is {field.type}, in {basename(schemas[0][0])} it is {first.type}"
                )
        kept = kept or fields
    return kept


def _kept_field(url: str, field: pa.Field) -> pa.Field:
    kind = kept_type(field.type)
    if kind is None:
        raise InputError(f"{url}: column {field.name!r} is {field.type} and cannot be kept; allowed are {ALLOWED}")
    return pa.field(field.name, kind)


def _require_columns(url: str, names: Sequence[str], spec: InputSpec) -> None:
    for column in (*spec.id_columns, spec.text_column, *spec.keep):
        if column not in names:
            raise InputError(f"{url}: there is no column {column!r}; the file has {_listed(names)}")
        if names.count(column) > 1:
            raise InputError(f"{url}: there are {names.count(column)} columns {column!r}; it must be one")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:_SHOWN_COLUMNS])
    return (shown or "no columns") + (f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else "")


def _require_type(
    url: str, schema: pa.Schema, column: str, allowed: Callable[[pa.DataType], bool], meaning: str
) -> None:
    if not allowed(schema.field(column).type):
        raise InputError(f"{url}: column {column!r} is {schema.field(column).type}, allowed is {meaning}")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_id(kind: pa.DataType) -> bool:
    return _is_text(kind) or pa.types.is_integer(kind)


def _is_messages(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return _is_text(kind) or (is_list and pa.types.is_struct(kind.value_type))


def _plan_text(spec: InputSpec, files: Sequence[ObjectInfo]) -> InputPlan:
    with ThreadPoolExecutor(_THREADS) as pool:
        for file, names in zip(files, pool.map(lambda file: text_columns(file.url, spec.format), files), strict=True):
            _require_columns(file.url, names, spec)
    kept = tuple(pa.field(name, pa.string()) for name in spec.keep)
    splits: Iterable[Split] = (Split(0, file.url) for file in files)
    if spec.limit is None:
        return InputPlan(tuple(files), tuple(_numbered(splits)), kept, None)
    splits = tuple(_limited(_counted(splits, spec), spec.limit))
    return InputPlan(tuple(files), splits, kept, sum(split.max_rows or 0 for split in splits))


def _counted(splits: Iterable[Split], spec: InputSpec) -> Iterator[Split]:
    """Text splits with their number of rows, counted no further than the limit asks."""
    assert spec.limit is not None
    left = spec.limit
    for split in splits:
        if left <= 0:
            return
        rows = count_text_rows(split.url, spec.format, at_most=left)
        left -= rows
        yield replace(split, rows=rows)


def _limited(splits: Iterable[Split], limit: int | None) -> Iterator[Split]:
    """The splits that hold the first ``limit`` rows, numbered; the last one is cut to fit."""
    if limit is None:
        yield from _numbered(splits)
        return
    left = limit
    for split in _numbered(splits):
        assert split.rows is not None
        if left <= 0:
            return
        yield replace(split, max_rows=min(left, split.rows))
        left -= split.rows


def _numbered(splits: Iterable[Split]) -> Iterator[Split]:
    for number, split in enumerate(splits):
        yield replace(split, number=number)
