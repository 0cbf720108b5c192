"""Open a text file as a stream of its text: as it lies there, or decompressed on the way."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pyarrow as pa

from hybrid_batch.core.errors import InputError
from hybrid_batch.spark.file_kinds import HEAD_BYTES, compression_of, foreign_kind
from hybrid_batch.storage import open_store, reading

MAX_LINE_BYTES: Final = 64 << 20
"""A longer line or CSV field is a file without line ends, or with a quote left open: it is refused, not loaded."""

_BUFFER_BYTES: Final = 1 << 20


@contextmanager
def opened(url: str, file_format: str) -> Iterator[tuple[io.BufferedReader, str | None]]:
    """The text of a file from its beginning, and by what it is compressed (gzip, zstd; None: not).

    Told by the first bytes, not by the name; gzip members and zstd frames that follow each other are one text.
    Raises ``InputError`` for a file that is no text, and wherever compressed bytes are damaged or end too soon.
    """
    with reading(url), open_store(url).open_input(url) as file, io.BufferedReader(file, _BUFFER_BYTES) as plain:
        head = plain.peek(HEAD_BYTES)
        compression = compression_of(head)
        if compression is None:
            _require_text(url, file_format, head, "")
            yield plain, None
            return
        file.seek(0)
        packed = pa.CompressedInputStream(pa.BufferedInputStream(file, _BUFFER_BYTES), compression)
        with packed, io.BufferedReader(packed, _BUFFER_BYTES) as text:
            _require_text(url, file_format, text.peek(HEAD_BYTES), f"inside its {compression} compression ")
            yield text, compression


@contextmanager
def opened_at(url: str, start: int) -> Iterator[io.BufferedReader]:
    """The bytes of an uncompressed file from ``start`` on."""
    with reading(url), open_store(url).open_input(url) as file:
        file.seek(start)
        with io.BufferedReader(file, _BUFFER_BYTES) as plain:
            yield plain


def newlines_before(url: str, stop: int) -> int:
    """Newlines among the first ``stop`` bytes of an uncompressed file."""
    found = 0
    with opened_at(url, 0) as stream:
        while stop > 0 and (block := stream.read(min(stop, _BUFFER_BYTES))):
            found += block.count(b"\n")
            stop -= len(block)
    return found


def too_long(place: str) -> str:
    """The message about a line at ``place`` that is longer than :data:`MAX_LINE_BYTES`."""
    return f"{place}: the line is longer than {MAX_LINE_BYTES:,} bytes; is it one row a line?"


def _require_text(url: str, file_format: str, head: bytes, where: str) -> None:
    if kind := foreign_kind(head, file_format):
        raise InputError(f"{url}: input.format is {file_format}, but the file is {where}{kind}")
