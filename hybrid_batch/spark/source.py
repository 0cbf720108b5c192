"""Which files hold tonight's queries, whether they can be read at all, and in which splits.

Everything that can be known from listings, Parquet footers and first lines is checked here, on the driver,
before Spark starts or a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

import pyarrow as pa

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec, Piece, Split
from hybrid_batch.core.packing import Sized, Target, cut_bytes, cut_rows, limited, pack
from hybrid_batch.spark.kept import ALLOWED, kept_type
from hybrid_batch.spark.parquet_files import RowGroup, footer
from hybrid_batch.spark.text_files import TextHead, count_rows, text_head
from hybrid_batch.storage import ObjectInfo, basename, normalise, open_store

_THREADS: Final = 16
_SHOWN_COLUMNS: Final = 40
_INFLATION: Final = 5
"""Bytes of text in a byte of gzip or zstd, assumed: only reading tells, and questions have 3 to 4."""


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
    files = [file for file in open_store(path).list(path) if not _is_marker(file.url, path)]
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
        footers = list(pool.map(lambda file: footer(file.url, spec.columns), files))
    kept = _kept_fields(spec, [(file.url, schema) for file, (schema, _) in zip(files, footers, strict=True)])
    target = _target(spec)
    sized = (
        one for file, (_, groups) in zip(files, footers, strict=True) for one in _row_pieces(file.url, groups, target)
    )
    splits = pack(sized if spec.limit is None else limited(sized, spec.limit), target)
    return InputPlan(tuple(files), splits, kept, sum(split.rows or 0 for split in splits))


def _target(spec: InputSpec) -> Target:
    return Target(spec.rows_per_split, spec.bytes_per_split, spec.files_per_split)


def _row_pieces(url: str, groups: Sequence[RowGroup], target: Target) -> Iterator[Sized]:
    """The row groups of a file, cut where they are above the target."""
    first_row = 0
    for index, group in enumerate(groups):
        whole = Piece(url, first_row, group.rows, (index, index + 1))
        for piece in cut_rows(whole, target.parts(group.rows, group.bytes)):
            rows = piece.rows or 0
            yield Sized(piece, rows, group.bytes * rows // group.rows)
        first_row += group.rows


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
        if spec.request_column:
            _require_type(url, schema, spec.request_column, _is_request, "text (JSON) or a struct")
        if spec.image_column:
            _require_type(url, schema, spec.image_column, _is_image, "text (addresses) or binary")
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
    for column in spec.columns:
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


def _is_request(kind: pa.DataType) -> bool:
    return _is_text(kind) or pa.types.is_struct(kind)


def _is_image(kind: pa.DataType) -> bool:
    is_binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return _is_text(kind) or is_binary


def _plan_text(spec: InputSpec, files: Sequence[ObjectInfo]) -> InputPlan:
    with ThreadPoolExecutor(_THREADS) as pool:
        heads = list(pool.map(lambda file: text_head(file.url, spec.format), files))
    for file, head in zip(files, heads, strict=True):
        _require_columns(file.url, head.columns, spec)
    kept = tuple(pa.field(name, pa.string()) for name in spec.keep)
    target = _target(spec)
    sized = (one for file, head in zip(files, heads, strict=True) for one in _text_pieces(spec, file, head, target))
    if spec.limit is None:
        return InputPlan(tuple(files), pack(sized, target), kept, None)
    splits = pack(limited(_counted(sized, spec.format, spec.limit), spec.limit), target)
    return InputPlan(tuple(files), splits, kept, sum(split.rows or 0 for split in splits))


def _text_pieces(spec: InputSpec, file: ObjectInfo, head: TextHead, target: Target) -> Iterator[Sized]:
    """A file of plain JSON lines, cut where it is above the target; any other file of text whole."""
    size = file.size * (_INFLATION if head.compression else 1)
    rows = size / head.line_bytes
    is_cut = spec.format != "csv" and head.compression is None
    pieces = list(cut_bytes(file.url, size, target.parts(rows, size) if is_cut else 1))
    for piece in pieces:
        yield Sized(piece, rows / len(pieces), size // len(pieces))


def _counted(sized: Iterator[Sized], file_format: str, limit: int) -> Iterator[Sized]:
    """Pieces of text with their rows and places, counted no further than the limit asks."""
    left, url, first_row = limit, None, 0
    for one in sized:
        if left <= 0:
            return
        rows = count_rows(one.piece, file_format, at_most=left)
        first_row = first_row if one.piece.url == url else 0
        yield replace(one, piece=replace(one.piece, first_row=first_row, rows=rows))
        left, url, first_row = left - rows, one.piece.url, first_row + rows
