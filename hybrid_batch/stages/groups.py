"""The task or the group of a query: the value of a column that is carried along, as text."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from hybrid_batch.core.routing import Thresholds

ALLOWED: Final = "text, integer or boolean"


def is_nameable(kind: pa.DataType) -> bool:
    """Whether values of a kept column of type ``kind`` name a task or a group; allowed are those of :data:`ALLOWED`."""
    return types.is_string(kind) or types.is_integer(kind) or types.is_boolean(kind)


def names(rows: pa.RecordBatch, column: str) -> pa.StringArray:
    """The values of ``column`` as text, string ``[n]``: ``a``, ``7``, ``true``; null stays null."""
    return rows[column].cast(pa.string())


def row_thresholds(rows: pa.RecordBatch, thresholds: Thresholds) -> tuple[np.ndarray, np.ndarray]:
    """The threshold that each row is held against, int64 ``[n]``, and whether it is its group's own, bool ``[n]``."""
    assert thresholds.by is not None
    encoded = names(rows, thresholds.by).dictionary_encode()
    found = [*encoded.dictionary.to_pylist(), None]
    places = pc.fill_null(encoded.indices, len(found) - 1).to_numpy(zero_copy_only=False)
    return thresholds.of(found)[places], thresholds.known(found)[places]
