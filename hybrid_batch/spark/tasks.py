"""What one Spark task does: the bodies that run on the executors.

Each body takes one unit of work and is safe to repeat: it writes by put-if-absent, to a path that the unit alone
decides, so a retried, speculative or late task changes nothing.  Bodies are built from small picklable values;
models, stores and clients are made where they run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from hybrid_batch.core.inputs import InputSpec, Piece, Split
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.records import EngineSpan, Receipt, ShardId
from hybrid_batch.core.routing import REJECTED, TIERS, Thresholds
from hybrid_batch.engines.base import EndpointRecipe, EngineRecipe, Sampling, Scorer
from hybrid_batch.ledger import Ledger
from hybrid_batch.parquet import batches_to_parquet, from_parquet, read_batches, to_parquet
from hybrid_batch.spark import executor
from hybrid_batch.spark.attempts import answered
from hybrid_batch.spark.batches import BATCH_ROWS
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.readers import read_ids, read_split
from hybrid_batch.stages import blocks, generate, route
from hybrid_batch.stages.ask import Asking
from hybrid_batch.stages.order import longest_first
from hybrid_batch.stages.score import score_batches
from hybrid_batch.storage import open_store, reading
from hybrid_batch.tables import (
    DEAD_LETTERS,
    INPUT_IDS,
    KEY_SAMPLE,
    PART_DONE,
    SCORE_COUNTS,
    SCORED,
    SCORED_BY,
    SHARD,
    TASK_DONE,
    with_kept,
)

PUTS_AT_ONCE: Final = 4
"""Shards that one task writes at once: a store takes longer to confirm one than to make it takes."""


def done(unit: int, committed: bool, rows: int) -> pa.RecordBatch:
    """What a task says of one unit that it wrote, or found written."""
    return pa.RecordBatch.from_pylist([{"unit": unit, "committed": committed, "rows": rows}], schema=TASK_DONE)


@dataclass(frozen=True)
class IdsTask:
    """Reads a split's ids -> a 128-bit hash of each, with its place, and of each piece its number of rows.

    Where the input has no column of ids there are no hashes: places differ.
    """

    splits: Sequence[Split]
    spec: InputSpec
    listed: Listed

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        first = sum(len(split.pieces) for split in self.splits[:unit])
        with self.listed.held(self.splits[unit]):
            for number, piece in enumerate(self.splits[unit].pieces, first):
                yield from self._ids(number, piece)

    def _ids(self, number: int, piece: Piece) -> Iterator[pa.RecordBatch]:
        rows = 0
        for ids in read_ids(piece, self.spec):
            if self.spec.id_columns:
                hashes = [xxhash.xxh3_128_digest(value.encode()) for value in ids.to_pylist()]
                yield _placed(hashes, number, range(rows, rows + len(ids)))
            rows += len(ids)
        yield _placed([None], number, [rows])


def _placed(hashes: Sequence[bytes | None], piece: int, rows: Sequence[int]) -> pa.RecordBatch:
    columns = [hashes, [piece] * len(hashes), rows]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, INPUT_IDS.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=INPUT_IDS)


@dataclass(frozen=True)
class ScoreTask:
    """Scores one split and commits it as one part of the scored table.

    Raises ``InputError``, and commits nothing, if a file of the split is by then not the one that was ``listed``: what
    is committed stays, also when the file is put back.

    ``scorer`` is a picklable recipe: called on the executor, it gives the scorer of this Python worker.
    """

    layout: RunLayout
    splits: Sequence[Split]
    spec: InputSpec
    kept: Sequence[pa.Field]
    scorer: Callable[[], Scorer]
    listed: Listed

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        split, began = self.splits[unit], time.monotonic()
        scorer = self.scorer()
        schema = with_kept(SCORED, self.kept).with_metadata({SCORED_BY: scorer.told})
        with self.listed.held(split):
            read = read_split(split, self.spec, self.kept)
            batches = score_batches(read, scorer, schema, self.spec.task_column)
            data, rows = batches_to_parquet(batches, schema)
        committed = open_store(self.layout.root).put_if_absent(self.layout.scored(split.number), data)
        told = done(unit, committed, rows).columns
        yield pa.RecordBatch.from_arrays([*told, pa.array([time.monotonic() - began])], schema=PART_DONE)


@dataclass(frozen=True)
class CountScoresTask:
    """Counts the scores of one part; with thresholds by group also which of them go to small."""

    layout: RunLayout
    parts: Sequence[int]
    groups: Thresholds | None

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        columns = ["score", "error_kind", *(self.groups.columns if self.groups else ())]
        batches = _read_batches(self.layout.scored(self.parts[unit]), columns)
        counts = pa.Table.from_batches((route.count_scores(batch, self.groups) for batch in batches), SCORE_COUNTS)
        yield from route.summed(counts).to_batches()


@dataclass(frozen=True)
class SampleKeysTask:
    """Samples the sort keys of one part, by tier, to place the borders between shards."""

    layout: RunLayout
    parts: Sequence[int]
    thresholds: Thresholds
    rate: float

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        columns = ["query_id", "prompt", "messages", "score", "error_kind", *self.thresholds.columns]
        for batch in _read_batches(self.layout.scored(self.parts[unit]), columns):
            rows = route.sampled(batch, self.rate)
            names = np.array(TIERS)[route.tier_indices(rows, self.thresholds)]
            found = [pa.array(names, pa.string()), route.sort_keys(rows), route.request_bytes(rows)]
            yield pa.RecordBatch.from_arrays(found, schema=KEY_SAMPLE)


@dataclass(frozen=True)
class RouteTask:
    """Reads one part -> the rows of missing shards, packed into blocks for ``partitions`` partitions."""

    layout: RunLayout
    parts: Sequence[int]
    thresholds: Thresholds
    ranges: route.ShardRanges
    missing: frozenset[int]
    partitions: int = 1

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        yield from blocks.pack(self._rows(self.parts[unit]), self.partitions)

    def _rows(self, part: int) -> Iterator[pa.RecordBatch]:
        wanted = np.zeros(self.ranges.total, dtype=np.bool_)
        wanted[list(self.missing)] = True
        for batch in _read_batches(self.layout.scored(part), None):
            numbers = route.shard_numbers(batch, self.thresholds, self.ranges)
            rows = batch.append_column(SHARD, pa.array(numbers, pa.int64()))
            yield rows if wanted.all() else rows.filter(pa.array(wanted[numbers]))


@dataclass(frozen=True)
class WriteShardsTask:
    """Writes the shards of one partition, given as all its blocks, as one object each."""

    layout: RunLayout
    shards: Sequence[ShardId]
    schema: pa.Schema

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        with ThreadPoolExecutor(PUTS_AT_ONCE) as pool:
            yield from pool.map(self._commit, blocks.unpack(batches))

    def _commit(self, shard: tuple[int, pa.Table]) -> pa.RecordBatch:
        number, rows = shard
        data = to_parquet(rows.select(self.schema.names).cast(self.schema))
        committed = open_store(self.layout.root).put_if_absent(self.layout.routed(self.shards[number]), data)
        return done(number, committed, rows.num_rows)


@dataclass(frozen=True)
class GenerateTask:
    """Answers one shard and commits it.  ``recipe`` is None for the rejected tier, which no model sees.

    A shard that is committed by then is left alone: a late attempt, or one of another driver, pays for nothing.
    """

    layout: RunLayout
    shards: Sequence[ShardId]
    recipe: EngineRecipe | None
    sampling: Sampling
    system_prompt: str | None
    log_folder: str | None = None
    share_answers: bool = True

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        shard, ledger = self.shards[unit], Ledger(self.layout)
        if ledger.is_committed(shard):
            yield done(unit, False, ledger.receipts([shard])[0].usage.rows)
            return
        if self.recipe is None or shard.tier == REJECTED:
            results, receipt = self._refused(shard)
        else:
            results, receipt = self._answered(shard, self.recipe)
        committed = ledger.commit_results(results, receipt)
        yield done(unit, committed, results.num_rows)

    def _rows(self, shard: ShardId) -> pa.Table:
        return from_parquet(open_store(self.layout.root).read(self.layout.routed(shard)))

    def _refused(self, shard: ShardId) -> tuple[pa.Table, Receipt]:
        rows = self._rows(shard)
        answers = generate.refused_answers(rows)
        now = time.time_ns() // 1000
        receipt = generate.make_receipt(shard.tier, shard.number, answers, spans=[EngineSpan("", now, now)])
        return generate.results_table(rows, answers, shard.tier, None), receipt

    def _answered(self, shard: ShardId, recipe: EngineRecipe) -> tuple[pa.Table, Receipt]:
        executor.drop_router()
        found: list[pa.Table] = []

        def make() -> Asking:
            found.append(self._rows(shard))
            return self._asking(found[0], recipe)

        done_by = answered(make, recipe, self.log_folder)
        rows, answers = found[0], done_by.asking.answers()
        generate.require_some_answered(rows, answers, shard.tier, recipe)
        receipt = generate.make_receipt(
            shard.tier,
            shard.number,
            answers,
            spans=done_by.spans,
            engine_deaths=done_by.asking.deaths,
            load=done_by.load,
        )
        return generate.results_table(rows, answers, shard.tier, done_by.engine.model), receipt

    def _asking(self, rows: pa.Table, recipe: EngineRecipe) -> Asking:
        endpoint = recipe if isinstance(recipe, EndpointRecipe) else None
        requests = generate.requests_of(rows, self.sampling, self.system_prompt, endpoint.unsent if endpoint else ())
        window, names = executor.window(recipe), rows["query_id"].to_pylist()
        refused = generate.adapters_at_endpoint(requests) if endpoint else {}
        bounds = [request.sampling.max_tokens for request in requests]
        alike = len(set(bounds)) < 2
        order = None if alike else longest_first(route.request_text(rows).to_pylist(), bounds, window)
        return Asking(requests, names, window, share=self.share_answers, refused=refused, order=order)


@dataclass(frozen=True)
class DeadLettersTask:
    """Writes the failed rows of one committed shard, with their prompts, where a person or a retry finds them."""

    layout: RunLayout
    shards: Sequence[ShardId]

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        shard, store = self.shards[unit], open_store(self.layout.root)
        rows = from_parquet(store.read(self.layout.routed(shard)))
        results = from_parquet(store.read(self.layout.results(shard)))
        if not rows["query_id"].equals(results["query_id"]):
            raise ValueError(f"{self.layout.results(shard)}: its rows are not those of the routed shard")
        columns = {name: rows[name] for name in DEAD_LETTERS.names if name in rows.schema.names}
        columns |= {name: results[name] for name in ("tier", "error_kind", "error_message")}
        failed = pa.table(columns).select(DEAD_LETTERS.names).filter(pc.is_valid(results["error_kind"]))
        data = to_parquet(failed.cast(DEAD_LETTERS))
        # Replaces those of a result that somebody deleted in order to have it answered again.
        store.put(self.layout.dead_letters(shard), data)
        yield done(unit, True, failed.num_rows)


def _read_batches(url: str, columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    with reading(url), open_store(url).open_input(url) as file:
        yield from read_batches(file, BATCH_ROWS, columns)
