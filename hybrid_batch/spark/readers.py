"""Read one split of a query file into guarded rows, in the file's order.

All formats come out with one schema: ``SCORED`` without its score, then the kept columns.  In text formats every
kept column is text (a JSON value that is no string is kept as its JSON).
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv
import pyarrow.parquet as pq

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec, Split
from hybrid_batch.stages.guard import INVALID_MESSAGES, INVALID_TEXT, guard, text_of_messages
from hybrid_batch.storage import open_store, reading
from hybrid_batch.tables import SCORED, with_kept

BATCH_ROWS = 4_096
_HEADER_LINES = 100

_READ = pa.schema([field for field in SCORED if field.name != "score"])

Row = dict[str, Any]


def read_split(split: Split, spec: InputSpec, kept: Sequence[pa.Field]) -> Iterator[pa.RecordBatch]:
    """The split's rows, guarded.  Raises ``InputError`` naming file, column and row."""
    schema = with_kept(_READ, kept)
    first_row = split.first_row
    for batch in _limit_rows(_columns(split, spec, kept), split.max_rows):
        rows = pa.array(range(first_row, first_row + batch.num_rows), pa.int64())
        first_row += batch.num_rows
        columns = {name: batch[name] for name in batch.schema.names} | {
            "source_file": pa.repeat(split.url, batch.num_rows),
            "source_row": rows,
        }
        whole = pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)
        yield guard(whole, spec.max_prompt_bytes)


def read_ids(split: Split, spec: InputSpec) -> Iterator[pa.Array]:
    """The ids of a split, as text, batch by batch.

    Text files are parsed whole on the way, so a broken line is found here, before any model is loaded.
    """
    batches: Iterator[pa.RecordBatch]
    if spec.format == "parquet":
        batches = (
            pa.RecordBatch.from_arrays([_id_column(batch[spec.id_column])], names=["query_id"])
            for batch in _parquet_batches(split, [spec.id_column])
        )
    else:
        batches = _columns(split, spec, ())
    first_row = split.first_row
    for batch in _limit_rows(batches, split.max_rows):
        ids = batch["query_id"]
        if ids.null_count:
            row = first_row + pc.index(pc.is_null(ids), True).as_py()
            raise InputError(f"{split.url}: column {spec.id_column!r}, row {row}: the id is null")
        first_row += batch.num_rows
        yield ids


def _columns(split: Split, spec: InputSpec, kept: Sequence[pa.Field]) -> Iterator[pa.RecordBatch]:
    readers: dict[str, Callable[..., Iterator[pa.RecordBatch]]] = {
        "parquet": _read_parquet,
        "jsonl": _read_jsonl,
        "csv": _read_csv,
    }
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


def _parquet_batches(split: Split, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    groups = range(*split.row_groups) if split.row_groups else None
    try:
        with reading(split.url), open_store(split.url).open_input(split.url) as file, pq.ParquetFile(file) as parquet:
            yield from parquet.iter_batches(BATCH_ROWS, row_groups=groups, columns=list(columns), use_threads=False)
    except pa.ArrowException as error:
        raise InputError(f"{split.url}: corrupt Parquet: {str(error).splitlines()[0]}") from error


def _read_parquet(split: Split, spec: InputSpec, kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for batch in _parquet_batches(split, [spec.id_column, spec.text_column, *kept]):
        text = batch[spec.text_column]
        if spec.prompt_column and pa.types.is_dictionary(text.type):
            text = text.dictionary_decode()
        queries = _prompt_columns(text.cast(pa.string())) if spec.prompt_column else _message_columns(text.to_pylist())
        columns = {"query_id": _id_column(batch[spec.id_column]), **queries, **{name: batch[name] for name in kept}}
        yield pa.RecordBatch.from_pydict(columns)


def _id_column(ids: pa.Array) -> pa.Array:
    return ids.cast(pa.string())


def _prompt_columns(prompt: pa.Array) -> dict[str, pa.Array]:
    nulls = pa.nulls(len(prompt), pa.string())
    return {"prompt": prompt, "messages": nulls, "error_kind": nulls, "error_message": nulls}


def _message_columns(values: Sequence[Any]) -> dict[str, pa.Array]:
    rows = [_chat(value) for value in values]
    names = ("prompt", "messages", "error_kind", "error_message")
    return {name: pa.array([row[name] for row in rows], pa.string()) for name in names}


def _chat(value: Any) -> Row:
    """One chat, given as JSON text or as a list -> its columns; an invalid one keeps its JSON and says why."""
    if value is None:
        return {"prompt": None, "messages": None, "error_kind": None, "error_message": None}
    turns = value
    if isinstance(value, str):
        try:
            turns = json.loads(value)
        except ValueError as error:
            return {
                "prompt": None,
                "messages": value,
                "error_kind": INVALID_MESSAGES,
                "error_message": f"messages is no JSON: {error}",
            }
    text, reason = text_of_messages(turns)
    return {
        "prompt": text,
        "messages": json.dumps(turns, ensure_ascii=False, separators=(",", ":")),
        "error_kind": INVALID_MESSAGES if reason else None,
        "error_message": reason,
    }


def _read_jsonl(split: Split, spec: InputSpec, kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    rows = (_jsonl_row(split.url, line, text, spec, kept) for line, text in _jsonl_lines(split.url))
    schema = pa.schema(
        [(name, pa.string()) for name in ("query_id", "prompt", "messages", "error_kind", "error_message", *kept)]
    )
    while chunk := list(islice(rows, BATCH_ROWS)):
        yield pa.RecordBatch.from_pylist(chunk, schema=schema)


def _jsonl_lines(url: str) -> Iterator[tuple[int, bytes]]:
    """Line numbers (from 1) and texts of the lines that are not blank."""
    with reading(url), open_store(url).open_input(url) as file, io.BufferedReader(file, 1 << 20) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line


def _jsonl_object(url: str, line: int, text: bytes) -> Row:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InputError(f"{url}, line {line}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{url}, line {line}: a line must be a JSON object, this one is a {type(value).__name__}")
    return value


def _jsonl_row(url: str, line: int, text: bytes, spec: InputSpec, kept: Sequence[str]) -> Row:
    value = _jsonl_object(url, line, text)
    identity = value.get(spec.id_column)
    if identity is None or isinstance(identity, (bool, float, list, dict)):
        raise InputError(
            f"{url}, line {line}: column {spec.id_column!r} is {identity!r}, allowed is text or an integer"
        )
    query = value.get(spec.text_column)
    if spec.prompt_column:
        if query is not None and not isinstance(query, str):
            raise InputError(f"{url}, line {line}: column {spec.prompt_column!r} is {query!r}, allowed is text or null")
        row: Row = {"prompt": query, "messages": None, "error_kind": None, "error_message": None}
    else:
        row = _chat(query)
    row |= {"query_id": str(identity)} | {name: _kept_text(value.get(name)) for name in kept}
    return _valid_text(row)


def _kept_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _valid_text(row: Row) -> Row:
    """A row that can be written as UTF-8: JSON allows lone surrogates, which are no text."""
    if all(value is None or value.isascii() or _is_utf8(value) for value in row.values()):
        return row
    clean = {name: value if value is None else value.encode("utf-8", "replace").decode() for name, value in row.items()}
    return clean | {"error_kind": INVALID_TEXT, "error_message": "the row holds lone surrogates, which are no text"}


def _is_utf8(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _read_csv(split: Split, spec: InputSpec, kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    columns = list(dict.fromkeys([spec.id_column, spec.text_column, *kept]))
    for batch in _csv_batches(split.url, columns):
        text = batch[spec.text_column]
        queries = _prompt_columns(text) if spec.prompt_column else _message_columns(text.to_pylist())
        own = {"query_id": batch[spec.id_column], **queries, **{name: batch[name] for name in kept}}
        yield pa.RecordBatch.from_pydict(own)


def _csv_batches(url: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    convert = pc_csv.ConvertOptions(
        include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
    )
    parse = pc_csv.ParseOptions(newlines_in_values=True)
    try:
        with reading(url), open_store(url).open_input(url) as file:
            # Single-threaded, because only then does Arrow's message carry the row's number.
            read = pc_csv.ReadOptions(use_threads=False)
            yield from pc_csv.open_csv(file, read, parse, convert)
    except (pa.ArrowException, KeyError) as error:
        raise InputError(f"{url}: {str(error).splitlines()[0]}") from error


def text_columns(url: str, file_format: str) -> list[str]:
    """Column names of a text file: the CSV header, or the keys that the first JSON lines have between them."""
    if file_format == "csv":
        with reading(url), open_store(url).open_input(url) as file:
            header = io.BufferedReader(file).readline().decode("utf-8-sig", "replace")
        try:
            return pc_csv.read_csv(io.BytesIO(header.encode())).column_names
        except pa.ArrowException as error:
            raise InputError(f"{url}: the first line is no CSV header: {str(error).splitlines()[0]}") from error
    first = [_jsonl_object(url, line, text) for line, text in islice(_jsonl_lines(url), _HEADER_LINES)]
    if not first:
        raise InputError(f"{url}: the file has only blank lines")
    return list(dict.fromkeys(name for row in first for name in row))


def count_text_rows(url: str, file_format: str, at_most: int) -> int:
    """Rows of a text file, counted up to ``at_most``."""
    if file_format == "jsonl":
        return sum(1 for _ in islice(_jsonl_lines(url), at_most))
    total = 0
    for batch in _csv_batches(url, text_columns(url, file_format)[:1]):
        total += batch.num_rows
        if total >= at_most:
            return at_most
    return total
