"""The Spark jobs of a run, as the driver sees them: each takes what is left to do and returns what it learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hybrid_batch.core.errors import HybridBatchError, InputError, SparkError
from hybrid_batch.core.inputs import InputSpec, Piece, Split
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.packing import located
from hybrid_batch.core.progress import PartTime
from hybrid_batch.core.records import ShardId
from hybrid_batch.core.routing import TIERS, RoutingDecision, ScoreHistogram, Thresholds
from hybrid_batch.parquet import uncompressed_bytes
from hybrid_batch.spark import tasks
from hybrid_batch.spark.failures import cause_of, interruption_behind
from hybrid_batch.spark.listed import Listed
from hybrid_batch.stages import blocks
from hybrid_batch.stages.route import SHARD_BYTES, ShardRanges, plan_ranges
from hybrid_batch.storage import open_store, reading
from hybrid_batch.tables import BLOCKS, INPUT_IDS, KEY_SAMPLE, PART_DONE, SCORE_COUNTS, SCORED, TASK_DONE, with_kept

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Task = Callable[[int], Iterator[pa.RecordBatch]]

SAMPLE_KEYS_PER_SHARD: Final = 16
MOST_SAMPLE_KEYS: Final = 800_000
"""What the driver holds of the largest night, some 250 MB; its shards differ more in size then."""

FULL_SAMPLE_ROWS: Final = 200_000
"""Nights up to this size are cut into shards by all their keys, so every shard has its full size."""

_FOOTER_READERS: Final = 16


def run_units(spark: SparkSession, task: Task, units: Sequence[int], schema: pa.Schema) -> DataFrame:
    """A DataFrame of what ``task`` yields for each of ``units``; one Spark task for each unit."""
    from pyspark.sql.pandas.types import from_arrow_schema

    numbers = list(units)

    def body(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for index in batch["id"].to_pylist():
                yield from task(numbers[index])

    indices = spark.range(0, len(numbers), 1, max(1, len(numbers)))
    return indices.mapInArrow(body, from_arrow_schema(schema))


def collect(frame: DataFrame) -> pa.Table:
    """Run ``frame``.  Raises the task's own error where it is one of ours, else ``SparkError`` with the cause."""
    with _own_errors():
        return frame.toArrow()


@contextmanager
def _own_errors() -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except HybridBatchError:
        raise
    except (PySparkException, Py4JError) as error:
        if (interruption := interruption_behind(error)) is not None:
            raise interruption from None
        raise cause_of(str(error)) or SparkError(f"a Spark job failed: {_first_line(str(error))}") from error


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "no message")


def check_ids(spark: SparkSession, splits: Sequence[Split], spec: InputSpec, listed: Listed) -> tuple[Split, ...]:
    """The splits with the place and the number of rows of every piece.

    Text files are read whole even where ids are made from places: a broken line is found before a model is loaded.
    Raises ``InputError`` if an id is null or stands there twice, naming the places, and for files that are not those
    that were ``listed``.
    """
    if spec.id_column is None and spec.format == "parquet":
        return tuple(splits)
    found = _gathered(run_units(spark, tasks.IdsTask(splits, spec, listed), range(len(splits)), INPUT_IDS))
    counted = {count["piece"]: count["row"] for count in found["counts"]}
    pieces = [piece for split in splits for piece in split.pieces]
    checked = located(splits, [counted[number] for number in range(len(pieces))])
    if found["doubled"]:
        placed = [piece for split in checked for piece in split.pieces]
        first, second = (_place(placed[place["piece"]], place["row"]) for place in found["first"].values())
        raise InputError(
            f"column {spec.id_column!r}: {found['doubled']:,} ids stand there more than once; the first: "
            f"{first} and {second} (rows count from 0)"
        )
    return checked


def _gathered(ids: DataFrame) -> dict[str, Any]:
    """``counts`` of the pieces, how many ids are ``doubled``, and two places of the ``first`` of them."""
    from pyspark.sql import functions as F  # noqa: N812

    place, counts = F.struct("piece", "row"), F.col("counted").isNotNull()
    counted = F.when(F.isnull("id_hash"), F.col("piece")).alias("counted")
    groups = ids.groupBy("id_hash", counted).agg(
        F.count("*").alias("n"), F.min(place).alias("a"), F.max(place).alias("b")
    )
    is_doubled = ~counts & (F.col("n") > 1)
    found = groups.agg(
        F.collect_list(F.when(counts, F.col("a"))).alias("counts"),
        F.coalesce(F.sum(is_doubled.cast("long")), F.lit(0)).alias("doubled"),
        F.min(F.when(is_doubled, F.struct("a", "b"))).alias("first"),
    )
    return collect(found).to_pylist()[0]


def _place(piece: Piece, row: int) -> str:
    assert piece.first_row is not None
    return f"{piece.url} row {piece.first_row + row}"


def score(spark: SparkSession, task: tasks.ScoreTask, missing: Sequence[int]) -> list[PartTime]:
    """Score the splits in ``missing`` and commit each as one part -> what each took."""
    told = collect(run_units(spark, task, missing, PART_DONE))
    return [PartTime(part["unit"], part["rows"], part["seconds"]) for part in told.to_pylist()]


def count_scores(
    spark: SparkSession, layout: RunLayout, parts: Sequence[int], groups: Thresholds | None = None
) -> ScoreHistogram:
    """The night's scores, exactly; with thresholds by group also which of them go to small.

    The groups are looked at in the parts, so that no more comes back for thousands of them than for none.
    """
    from pyspark.sql import functions as F  # noqa: N812

    counts = run_units(spark, tasks.CountScoresTask(layout, parts, groups), range(len(parts)), SCORE_COUNTS)
    sums = [F.sum(name).alias(name) for name in SCORE_COUNTS.names[1:]]
    table = collect(counts.groupBy("micros").agg(*sums)).sort_by("micros")
    micros, rows = np.asarray(table["micros"]), np.asarray(table["rows"])
    if groups is None:
        return ScoreHistogram(micros, rows)
    return ScoreHistogram(micros, rows, np.asarray(table["small"]), pc.sum(table["ungrouped"]).as_py() or 0)


def place_shards(
    spark: SparkSession, layout: RunLayout, parts: Sequence[int], decision: RoutingDecision, shard_rows: int
) -> ShardRanges:
    """Cut each tier's rows, in key order, into shards of about ``shard_rows`` rows, fewer where requests are large."""
    rows = dict(zip(TIERS, (decision.small, decision.large, decision.rejected), strict=True))
    total = sum(rows.values())
    by_bytes = scored_bytes(layout, parts) // SHARD_BYTES if total > FULL_SAMPLE_ROWS else 0
    shards = max(by_bytes, sum(-(-count // shard_rows) for count in rows.values()))
    wanted = min(SAMPLE_KEYS_PER_SHARD * shards, MOST_SAMPLE_KEYS)
    rate = 1.0 if total <= FULL_SAMPLE_ROWS else min(1.0, wanted / total)
    task = tasks.SampleKeysTask(layout, parts, decision.thresholds, rate)
    sample = collect(run_units(spark, task, range(len(parts)), KEY_SAMPLE))
    own = {tier: sample.filter(pc.equal(sample["tier"], tier)) for tier in TIERS}
    return ShardRanges({tier: _ranges(own[tier], rows[tier], shard_rows) for tier in TIERS})


def _ranges(sample: pa.Table, rows: int, shard_rows: int) -> list[str]:
    # A tier so small that the sample missed it is one shard, which takes every key.
    return plan_ranges(sample["key"], sample["bytes"], rows, shard_rows) or ([""] if rows else [])


def write_shards(
    spark: SparkSession,
    task: tasks.RouteTask,
    shards: Sequence[ShardId],
    kept: Iterable[pa.Field],
) -> None:
    """Bring all rows to their shards and write the ones in ``task.missing``; ``shards`` in the order of numbers.

    The more bytes there are, the more partitions: what one task holds does not grow with the night.
    """
    from pyspark.sql.pandas.types import from_arrow_schema

    total = scored_bytes(task.layout, task.parts)
    missing = len(task.missing)
    partitions = blocks.partitions_of(total * missing // task.ranges.total, missing)
    packed = run_units(spark, replace(task, partitions=partitions), range(len(task.parts)), BLOCKS)
    write: Any = tasks.WriteShardsTask(task.layout, shards, with_kept(SCORED, kept))
    brought = packed.repartitionById(partitions, "partition").select("rows")
    collect(brought.mapInArrow(write.__call__, from_arrow_schema(TASK_DONE)))


def scored_bytes(layout: RunLayout, parts: Sequence[int]) -> int:
    """Bytes of the scored rows as they are in memory, nearly: from the parts' footers."""

    def size(part: int) -> int:
        url = layout.scored(part)
        with reading(url), open_store(url).open_input(url) as file:
            return uncompressed_bytes(file)

    with ThreadPoolExecutor(_FOOTER_READERS) as pool:
        return sum(pool.map(size, parts))


def tasks_at_once(spark: SparkSession) -> int:
    """How many tasks can run at the same time: on all executors that there may be, where that is known, else on those
    that Spark has now."""
    conf = spark.sparkContext.getConf()
    cpus, cores = int(conf.get("spark.task.cpus") or 1), int(conf.get("spark.executor.cores") or 0)
    most = conf.get("spark.dynamicAllocation.maxExecutors")
    if conf.get("spark.dynamicAllocation.enabled") == "true" and most and cores:
        return max(1, int(most) * (cores // cpus))
    return max(1, spark.sparkContext.defaultParallelism // cpus)


def generate(spark: SparkSession, task: tasks.GenerateTask, missing: Sequence[int]) -> None:
    """Answer the shards in ``missing`` (indices into ``task.shards``) and commit each."""
    collect(run_units(spark, task, missing, TASK_DONE))


def write_dead_letters(spark: SparkSession, layout: RunLayout, shards: Sequence[ShardId]) -> None:
    """Write the failed rows of ``shards``."""
    collect(run_units(spark, tasks.DeadLettersTask(layout, shards), range(len(shards)), TASK_DONE))
