"""What the planner and the readers need of text files, whatever their format: their first lines, counts, rows."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from hybrid_batch.core.errors import InputError
from hybrid_batch.core.inputs import InputSpec, Piece
from hybrid_batch.spark.csv_text import count_csv, csv_columns, read_csv
from hybrid_batch.spark.jsonl import count_jsonl, jsonl_columns, read_jsonl, rows_before
from hybrid_batch.spark.text_streams import opened

__all__ = ["TextHead", "count_rows", "read_text", "rows_before", "text_head"]


@dataclass(frozen=True)
class TextHead:
    """What the beginning of a text file tells.

    ``columns`` are its header, or the keys that the first JSON lines have between them; ``compression`` is gzip, zstd
    or None; ``line_bytes`` is the mean length of the first lines, uncompressed.
    """

    columns: list[str]
    compression: str | None
    line_bytes: float


def text_head(url: str, file_format: str) -> TextHead:
    """Raises ``InputError`` for a file that is no text, has no header, or whose first lines are broken."""
    with opened(url, file_format) as (stream, compression):
        line_bytes = _mean_line(stream)
        columns = csv_columns(url, stream) if file_format == "csv" else jsonl_columns(url, stream)
    if columns is None:
        raise InputError(f"{url}: the file has only blank lines")
    return TextHead(columns, compression, line_bytes)


def _mean_line(stream: io.BufferedReader) -> float:
    """Of the lines that the buffer holds."""
    sample = stream.peek()
    return len(sample) / max(1, sample.count(b"\n") + (not sample.endswith(b"\n")))


def count_rows(piece: Piece, file_format: str, at_most: int) -> int:
    """Rows of a piece of a text file, counted up to ``at_most``."""
    return (count_csv if file_format == "csv" else count_jsonl)(piece, at_most)


def read_text(piece: Piece, spec: InputSpec, kept: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """``query_id`` (if the input has ids), the query's columns and the kept ones, batch by batch."""
    return (read_csv if spec.format == "csv" else read_jsonl)(piece, spec, kept)
