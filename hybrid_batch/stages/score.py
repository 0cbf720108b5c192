"""The score stage: every query gets P(the small model is good enough), or keeps the reason why it has none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.core.routing import GRID, to_micros
from hybrid_batch.engines.base import Scorer
from hybrid_batch.stages.groups import names


def score_batch(
    batch: pa.RecordBatch, scorer: Scorer, schema: pa.Schema, task_column: str | None = None
) -> pa.RecordBatch:
    """Guarded rows -> scored rows with ``schema``, in the same order and number.

    The values of ``task_column``, if there is one, are told to the scorer as the tasks of the queries.
    Scores are put on the grid of one millionth.  Raises ``ValueError`` if the scorer returns another number of scores
    than it got texts, or scores outside [0, 1].
    """
    answerable = pc.is_null(batch["error_kind"])
    texts = batch["prompt"].filter(answerable).to_pylist()
    tasks = None if task_column is None else names(batch, task_column).filter(answerable).to_pylist()
    scores = np.full(batch.num_rows, np.nan)
    if texts:
        scores[answerable.to_numpy(zero_copy_only=False)] = _checked(scorer.score(texts, tasks), len(texts))
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
