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


def group_places(rows: pa.RecordBatch, thresholds: Thresholds) -> np.ndarray:
    """Where each row's group stands among ``thresholds.groups``, int32 ``[n]``; -1 where it does not, and for null."""
    assert thresholds.by is not None
    groups = pa.array(list(thresholds.groups), pa.string())
    places = pc.index_in(names(rows, thresholds.by), value_set=groups)
    found: np.ndarray = pc.fill_null(places, -1).to_numpy(zero_copy_only=False)
    return found
