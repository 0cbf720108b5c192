"""The score stage: every query gets P(the small model is good enough), or keeps the reason why it has none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.core.routing import GRID, to_micros
from hybrid_batch.engines.base import Scorer
from hybrid_batch.stages.ahead import ahead
from hybrid_batch.stages.groups import names


@dataclass(frozen=True)
class _Ready:
    """A batch, which of its rows can be answered (bool ``[n]``), and what the scorer made of their texts."""

    batch: pa.RecordBatch
    answerable: np.ndarray
    prepared: Any


def score_batches(
    batches: Iterable[pa.RecordBatch], scorer: Scorer, schema: pa.Schema, task_column: str | None = None
) -> Iterator[pa.RecordBatch]:
    """Guarded rows -> scored rows with ``schema``, batch by batch, in the same order and number.

    The next batch is read and made ready while the one before it is scored.  The values of ``task_column``, if there
    is one, are told to the scorer as the tasks of the queries.  Scores are put on the grid of one millionth.
    Raises ``ValueError`` if the scorer returns another number of scores than it got texts, or scores outside [0, 1].
    """
    with ahead(_ready(batch, scorer, task_column) for batch in batches) as ready:
        for one in ready:
            yield _scored(one, scorer, schema)


def _ready(batch: pa.RecordBatch, scorer: Scorer, task_column: str | None) -> _Ready:
    answerable = pc.is_null(batch["error_kind"])
    texts = batch["prompt"].filter(answerable).to_pylist()
    tasks = None if task_column is None else names(batch, task_column).filter(answerable).to_pylist()
    prepared = scorer.prepare(texts, tasks) if texts else None
    return _Ready(batch, answerable.to_numpy(zero_copy_only=False), prepared)


def _scored(ready: _Ready, scorer: Scorer, schema: pa.Schema) -> pa.RecordBatch:
    batch, scores = ready.batch, np.full(ready.batch.num_rows, np.nan)
    if expected := int(ready.answerable.sum()):
        scores[ready.answerable] = _checked(scorer.scores(ready.prepared), expected)
    micros = to_micros(scores)
    column = pa.array(micros / GRID, mask=micros < 0)
    columns = {name: batch[name] for name in batch.schema.names} | {"score": column}
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _checked(scores: np.ndarray, expected: int) -> np.ndarray:
    if scores.shape != (expected,):
        raise ValueError(f"the router returned scores of shape {scores.shape} for {expected} queries")
    known = scores[~np.isnan(scores)]
    if known.size and (known.min() < 0 or known.max() > 1):
        raise ValueError(f"the router returned scores in [{known.min()}, {known.max()}], allowed is [0, 1]")
    return scores
