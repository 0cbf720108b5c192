"""The Spark jobs of a labelling, as the driver sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybrid_batch.core.inputs import InputSpec, Split
from hybrid_batch.spark.jobs import check_ids, collect, run_units
from hybrid_batch.spark.label_tasks import JudgeTask, SampleHashesTask, SampleTask
from hybrid_batch.spark.listed import Listed
from hybrid_batch.tables import ID_HASHES, TASK_DONE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["check_ids", "commit_sample", "judge", "sample_limit"]


def sample_limit(
    spark: SparkSession, splits: Sequence[Split], spec: InputSpec, count: int, listed: Listed
) -> int | None:
    """The largest hash that is in a sample of ``count`` rows; None where no row can be answered."""
    from pyspark.sql import functions as F  # noqa: N812

    hashes = run_units(spark, SampleHashesTask(splits, spec, count, listed), range(len(splits)), ID_HASHES)
    # Sorted with a limit, executors keep no more than the sample, and the driver gets one number.
    largest = collect(hashes.orderBy("hash").limit(count).agg(F.max("hash").alias("hash")))["hash"][0].as_py()
    return None if largest is None else int(largest)


def commit_sample(spark: SparkSession, task: SampleTask, missing: Sequence[int]) -> None:
    """Commit the sampled rows of the splits in ``missing``."""
    collect(run_units(spark, task, missing, TASK_DONE))


def judge(spark: SparkSession, task: JudgeTask, missing: Sequence[int]) -> None:
    """Judge the shards in ``missing``."""
    collect(run_units(spark, task, missing, TASK_DONE))
