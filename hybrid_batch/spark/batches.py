"""Batches of a size that a worker holds without noticing, whatever the rows are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import pyarrow as pa

BATCH_ROWS: Final = 4_096
BATCH_BYTES: Final = 32 << 20
"""A batch is full with so many rows or so many bytes, whichever comes first; one row may be larger."""


def bounded(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows: batches that are too large are sliced, small neighbours put together."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        for part in _sliced(batch):
            if held and (rows + part.num_rows > BATCH_ROWS or size + part.nbytes > BATCH_BYTES):
                yield _one(held)
                held, rows, size = [], 0, 0
            held.append(part)
            rows, size = rows + part.num_rows, size + part.nbytes
    if held:
        yield _one(held)


def window(batches: Iterable[pa.RecordBatch], skip: int, rows: int | None) -> Iterator[pa.RecordBatch]:
    """``rows`` rows (None: all) after the first ``skip``; no more batches are drawn than that needs."""
    left = rows
    if left == 0:
        return
    for batch in batches:
        part = batch.slice(min(skip, batch.num_rows), left)
        skip = max(0, skip - batch.num_rows)
        if part.num_rows:
            yield part
        if left is not None and (left := left - part.num_rows) <= 0:
            return


def _sliced(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Halves of halves, until each is small enough: rows may differ much in size."""
    if batch.num_rows <= 1 or (batch.num_rows <= BATCH_ROWS and batch.nbytes <= BATCH_BYTES):
        if batch.num_rows:
            yield batch
        return
    middle = batch.num_rows // 2
    yield from _sliced(batch.slice(0, middle))
    yield from _sliced(batch.slice(middle))


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
