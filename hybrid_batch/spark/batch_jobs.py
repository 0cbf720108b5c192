"""The Spark job that writes results as OpenAI's batch files, as the driver sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.records import ShardId
from hybrid_batch.spark.batch_tasks import BatchFilesTask
from hybrid_batch.spark.jobs import collect, run_units
from hybrid_batch.tables import TASK_DONE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def write_batch_files(spark: SparkSession, layout: RunLayout, shards: Sequence[ShardId]) -> None:
    """Write the answers and errors of ``shards``, all of the run's, which are committed."""
    collect(run_units(spark, BatchFilesTask(layout, shards), range(len(shards)), TASK_DONE))
