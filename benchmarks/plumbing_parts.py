"""What the benchmark of the plumbing measures: made-up queries, a scorer that costs nothing, a night's score and route,
and the same rows through pyarrow alone.

``python -m benchmarks.plumbing_parts STEP FOLDER ...`` runs one step in a process of its own, and says what it does in
lines of JSON.
"""

from __future__ import annotations

import cProfile
import io
import json
import pstats
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hybrid_batch.core.inputs import InputSpec, Split
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.routing import SmallSharePolicy, decide
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.parquet import batches_to_parquet
from hybrid_batch.spark import jobs, tasks
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.session import spark_session
from hybrid_batch.spark.source import InputPlan, plan_input

PROMPT_BYTES = 1024
FILE_ROWS = 125_000
"""Rows of one input file, which are one row group of 128 MB, Spark's own size."""
SHARD_ROWS = 1000
"""As in conf/base.yaml."""
SMALL_SHARE = 0.4
_WORDS, _WORDS_PER_ROW, _BATCH_ROWS = 20_000, 230, 5_000
_TOP = 14


class FirstLetters:
    """A scorer that costs nothing: the score is made of the text's first eight bytes."""

    told = "no model"

    def prepare(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> np.ndarray:
        del tasks
        first = (int.from_bytes(text[:8].encode(), "big") for text in texts)
        return np.fromiter(first, dtype=np.uint64, count=len(texts))

    def scores(self, prepared: np.ndarray) -> np.ndarray:
        return ((prepared % 1_000_003) / 1_000_003).astype(np.float32)


def write_input(folder: Path, rows: int) -> None:
    """``rows`` queries of 1 KiB as Spark would write them: snappy, a row group of at most 128 MB in each file."""
    folder.mkdir(parents=True)
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        count = min(FILE_ROWS, rows - start)
        pieces = [
            _queries(start + first, min(_BATCH_ROWS, count - first), number) for first in range(0, count, _BATCH_ROWS)
        ]
        table = pa.Table.from_batches(pieces)
        pq.write_table(table, folder / f"part-{number:05d}.snappy.parquet", row_group_size=FILE_ROWS)


def _queries(start: int, rows: int, file: int) -> pa.RecordBatch:
    """Words by Zipf's law, cut after 1,024 bytes: zstd makes a third of them, as of English."""
    random = np.random.default_rng((file, start))
    # A rank that is uniform in its logarithm has a probability of 1/rank: Zipf's law.
    ranks = np.exp(random.random(rows * _WORDS_PER_ROW, dtype=np.float32) * np.float32(np.log(_WORDS))) - 1
    words = _vocabulary().take(pa.array(ranks.astype(np.int32)))
    offsets = pa.array(np.arange(0, rows * _WORDS_PER_ROW + 1, _WORDS_PER_ROW, dtype=np.int32))
    text = pc.utf8_slice_codeunits(pc.binary_join(pa.ListArray.from_arrays(offsets, words), " "), 0, PROMPT_BYTES)
    ids = pc.binary_join_element_wise("query", pa.array(np.arange(start, start + rows)).cast(pa.string()), "-")
    return pa.RecordBatch.from_arrays([ids, text], ["query_id", "prompt"])


@lru_cache(maxsize=1)
def _vocabulary() -> pa.Array:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 12, _WORDS)
    letters = "etaoinshrdlcumwfgypbvk"
    return pa.array(["".join(letters[place] for place in random.integers(0, len(letters), n)) for n in lengths])


def spec_of(folder: Path) -> InputSpec:
    """How the benchmark reads its input."""
    return InputSpec(str(folder), "parquet", id_column="query_id", prompt_column="prompt")


def run_job(folder: Path, output: Path) -> None:
    """Check ids, score and route the queries in ``folder`` on two cores; says when each step ends."""
    source, layout = plan_input(spec_of(folder)), RunLayout.of(str(output), "plumbing")
    began = time.monotonic()
    with spark_session(app_name="plumbing", master="local[2]", conf={}, log_file=output / "spark.log") as spark:
        say(step="start", seconds=time.monotonic() - began)
        with _step("ids"):
            listed = Listed.of(source.files, source.splits)
            located = jobs.check_ids(spark, source.splits, spec_of(folder), listed)
        with _step("score"):
            task = score_task(folder, located, source, layout)
            times = jobs.score(spark, task, [split.number for split in located])
        say(parts=[[time.rows, time.seconds] for time in times])
        _route(spark, layout, [split.number for split in source.splits])


def score_task(folder: Path, splits: Sequence[Split], source: InputPlan, layout: RunLayout) -> tasks.ScoreTask:
    """The score task of a run, with a scorer that costs nothing."""
    listed = Listed.of(source.files, splits)
    return tasks.ScoreTask(layout, splits, spec_of(folder), source.kept, FirstLetters, listed)


def _route(spark: Any, layout: RunLayout, parts: Sequence[int]) -> None:
    with _step("count"):
        histogram = jobs.count_scores(spark, layout, parts)
    with _step("place"):
        decision = decide(SmallSharePolicy(SMALL_SHARE), histogram)
        ranges = jobs.place_shards(spark, layout, parts, decision, SHARD_ROWS)
        routing = Ledger(layout).commit_routing(Routing(decision, ranges, histogram.coarse()))
    with _step("write", small=decision.small, large=decision.large, shards=ranges.total):
        task = tasks.RouteTask(layout, parts, decision.thresholds, ranges, frozenset(range(ranges.total)))
        jobs.write_shards(spark, task, routing.shards, ())


@contextmanager
def _step(name: str, **facts: int) -> Iterator[None]:
    say(phase=name)
    began = time.monotonic()
    yield
    say(step=name, seconds=time.monotonic() - began, **facts)


def say(**facts: object) -> None:
    """One line of JSON for whoever started this process."""
    print(json.dumps(facts), flush=True)


def copy_raw(files: Sequence[Path], target: Path) -> None:
    """The same rows through pyarrow alone: read ``files`` in batches, write them as the scored table is written."""
    target.mkdir(parents=True, exist_ok=True)
    began, rows = time.monotonic(), 0
    for path in files:
        with pq.ParquetFile(path) as parquet:
            data, count = batches_to_parquet(parquet.iter_batches(4096, use_threads=False), parquet.schema_arrow)
        (target / path.name).write_bytes(data)
        rows += count
    say(rows=rows, seconds=time.monotonic() - began)


def profile(folder: Path, output: Path) -> None:
    """The bodies of a score task and of a route task without Spark, by the time spent in each function itself."""
    source, layout = plan_input(spec_of(folder)), RunLayout.of(str(output), "profile")
    score = score_task(folder, source.splits, source, layout)
    _profile("score", source.splits[0].rows, lambda: list(score(0)))
    histogram = _histogram(list(tasks.CountScoresTask(layout, [0], None)(0)))
    decision = decide(SmallSharePolicy(SMALL_SHARE), histogram)
    keys = pa.Table.from_batches(tasks.SampleKeysTask(layout, [0], decision.thresholds, 1.0)(0)).to_pylist()
    first_keys = {}
    for tier, count in {"small": decision.small, "large": decision.large}.items():
        own = [row for row in keys if row["tier"] == tier]
        columns = ([row[name] for row in own] for name in ("key", "bytes"))
        first_keys[tier] = jobs.plan_ranges(*columns, count, SHARD_ROWS)
    ranges = jobs.ShardRanges(first_keys)
    route = tasks.RouteTask(layout, [0], decision.thresholds, ranges, frozenset(range(ranges.total)))
    _profile("route", source.splits[0].rows, lambda: list(route(0)))


def _histogram(counted: list[pa.RecordBatch]) -> Any:
    table = pa.Table.from_batches(counted).group_by("micros").aggregate([("rows", "sum")]).sort_by("micros")
    return jobs.ScoreHistogram(table["micros"].to_numpy(), table["rows_sum"].to_numpy())


def _profile(name: str, rows: int | None, body: Callable[[], object]) -> None:
    """Say where the time of ``body`` goes, in all its threads, once everything is imported."""
    body()
    profiles: list[cProfile.Profile] = []

    def begin(*_: object) -> None:
        profiles.append(cProfile.Profile())
        profiles[-1].enable()

    threading.setprofile(begin)
    own = cProfile.Profile()
    began = time.monotonic()
    own.runcall(body)
    seconds = time.monotonic() - began
    threading.setprofile(None)
    text = io.StringIO()
    figures = pstats.Stats(own, stream=text)
    for other in profiles:
        other.disable()
        figures.add(other)
    figures.sort_stats("tottime").print_stats(_TOP)
    lines = [line[:118] for line in text.getvalue().splitlines() if line.strip()]
    head = next(place for place, line in enumerate(lines) if line.lstrip().startswith("ncalls"))
    say(profile=name, rows=rows, seconds=seconds, table="\n".join(lines[head:]))


if __name__ == "__main__":
    step, *rest = sys.argv[1:]
    if step == "input":
        write_input(Path(rest[0]), int(rest[1]))
    elif step == "job":
        run_job(Path(rest[0]), Path(rest[1]))
    elif step == "profile":
        profile(Path(rest[0]), Path(rest[1]))
    else:
        copy_raw([Path(name) for name in rest[1:]], Path(rest[0]))
