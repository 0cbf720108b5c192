"""Finished runs in a folder, made by the bodies of the real tasks one after the other: no Spark, no engine."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from hybrid_batch import accounting, pipeline
from hybrid_batch.answering import models, prices
from hybrid_batch.config import JobConfig
from hybrid_batch.core.inputs import OPENAI_BATCH
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import EngineSpan, ShardId
from hybrid_batch.core.routing import REJECTED, TIERS, RoutingDecision, ScoreHistogram, ThresholdPolicy, decide
from hybrid_batch.engines.base import ChatAnswer
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.parquet import from_parquet
from hybrid_batch.spark.batch_tasks import BatchFilesTask
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.source import plan_input
from hybrid_batch.spark.tasks import (
    CountScoresTask,
    DeadLettersTask,
    RouteTask,
    SampleKeysTask,
    ScoreTask,
    WriteShardsTask,
)
from hybrid_batch.stages.generate import make_receipt, results_table
from hybrid_batch.stages.route import ShardRanges, plan_ranges
from hybrid_batch.storage import open_store
from hybrid_batch.tables import SCORED, with_kept
from tests.support.jobs import job_document, load, questions, write_jsonl, write_parquet
from tests.support.paper_router import make_paper_router

BEGAN_US = 1_764_000_000_000_000


class HashScorer:
    """A scorer whose scores say nothing, and are the same everywhere."""

    told = "hashes"

    def prepare(self, texts: Sequence[str], tasks: Sequence[str | None] | None = None) -> Sequence[str]:
        return texts

    def scores(self, prepared: Sequence[str]) -> np.ndarray:
        return np.array([xxhash.xxh32_intdigest(text.encode()) % 1000 / 1000 for text in prepared])


def scorer() -> HashScorer:
    return HashScorer()


def batch_lines(rows: int) -> list[dict[str, Any]]:
    """Lines of a batch file, of which one has a role that no chat has."""
    made = [
        {"custom_id": f"r{n}", "body": {"messages": [{"role": "user", "content": f"What is {n}?"}]}}
        for n in range(rows)
    ]
    made[1]["body"]["messages"][0]["role"] = "wizard"
    return made


class LocalRun:
    """A run of ``rows`` questions: :meth:`plan`, :meth:`route`, :meth:`answer` and :meth:`finish`, in this order."""

    def __init__(self, folder: Path, rows: int = 60, *, batch: bool = False, output: str | None = None) -> None:
        router = make_paper_router(folder / "router")
        if batch:
            path = write_jsonl(folder / "in" / "q.jsonl", batch_lines(rows))
        else:
            path = write_parquet(folder / "in" / "q.parquet", questions(rows), row_group=-(-rows // 4))
        document = job_document(path, output or str(folder / "out"), router)
        document["input"]["rows_per_split"] = -(-rows // 4)
        if batch:
            document["input"] = {"path": str(path), "format": OPENAI_BATCH}
        document["shards"]["rows"] = max(4, rows // 6)
        self.config: JobConfig = load(document, folder)
        self.source = plan_input(self.config.input.to_spec())
        self.plan_held: Plan = pipeline.draft_plan(self.config, self.source)
        self.ledger = Ledger(RunLayout.of(document["run"]["output"], self.plan_held.run_id))

    @property
    def layout(self) -> RunLayout:
        return self.ledger.layout

    @property
    def routing(self) -> Routing:
        routing = self.ledger.routing()
        assert routing is not None
        return routing

    def plan(self) -> LocalRun:
        self.plan_held = self.ledger.commit_plan(self.plan_held)
        return self

    def score(self, parts: Sequence[int] | None = None) -> LocalRun:
        splits = self.plan_held.splits
        listed = Listed.of(self.source.files, splits)
        task = ScoreTask(self.layout, splits, self.config.input.to_spec(), self.source.kept, scorer, listed)
        for part in range(len(splits)) if parts is None else parts:
            list(task(part))
        return self

    def route(self) -> LocalRun:
        parts = [split.number for split in self.plan_held.splits]
        count = CountScoresTask(self.layout, parts, None)
        counts = pa.Table.from_batches([batch for part in parts for batch in count(part)])
        summed = counts.group_by("micros").aggregate([("rows", "sum")]).sort_by("micros")
        histogram = ScoreHistogram(np.asarray(summed["micros"]), np.asarray(summed["rows_sum"]))
        decision = decide(ThresholdPolicy(0.6), histogram)
        routing = Routing(decision, self._ranges(parts, decision), histogram.coarse())
        shards, missing = routing.shards, frozenset(range(len(routing.shards)))
        self.ledger.commit_routing(routing)
        move = RouteTask(self.layout, parts, decision.thresholds, routing.ranges, missing)
        blocks = (batch.select(["rows"]) for part in parts for batch in move(part))
        list(WriteShardsTask(self.layout, shards, with_kept(SCORED, self.source.kept))(blocks))
        return self

    def _ranges(self, parts: Sequence[int], decision: RoutingDecision) -> ShardRanges:
        take = SampleKeysTask(self.layout, parts, decision.thresholds, 1.0)
        keys = pa.Table.from_batches([batch for part in parts for batch in take(part)])
        tiers = {tier: keys.filter(pc.equal(keys["tier"], tier)) for tier in TIERS}
        size = self.plan_held.shard_rows
        ranges = {tier: plan_ranges(own["key"], own["bytes"], len(own), size) for tier, own in tiers.items()}
        return ShardRanges(ranges)

    def answer(self, shards: Sequence[ShardId] | None = None) -> LocalRun:
        """Answer ``shards`` (all), one after the other, a second each; a row of every shard but one fails."""
        for number, shard in enumerate(self.routing.shards):
            if shards is None or shard in shards:
                rows = from_parquet(open_store(self.layout.root).read(self.layout.routed(shard)))
                answers = [answer_of(row, place) for place, row in enumerate(rows.to_pylist())]
                began = BEGAN_US + number * 1_000_000
                engine = "" if shard.tier == REJECTED else f"engine-{shard.tier}"
                spans = [EngineSpan(engine, began, began + 1_000_000, 5_000_000)]
                receipt = make_receipt(shard.tier, shard.number, answers, spans=spans)
                self.ledger.commit_results(results_table(rows, answers, shard.tier, "fake-model"), receipt)
        return self

    def finish(self) -> LocalRun:
        receipts = self.ledger.receipts(self.ledger.committed())
        failed = [receipt.shard for receipt in receipts if receipt.errors]
        letters = DeadLettersTask(self.layout, failed)
        for unit in range(len(failed)):
            list(letters(unit))
        if self.plan_held.input_format == OPENAI_BATCH:
            files = BatchFilesTask(self.layout, self.routing.shards)
            for unit in range(len(self.routing.shards)):
                list(files(unit))
        accounting.conclude(
            self.ledger, self.plan_held, self.routing, receipts, models(self.config), prices(self.config)
        )
        return self


def a_finished_run(folder: Path, rows: int = 60, *, batch: bool = False, output: str | None = None) -> LocalRun:
    return LocalRun(folder, rows, batch=batch, output=output).plan().score().route().answer().finish()


def answer_of(row: dict[str, Any], place: int) -> ChatAnswer:
    """An answer whose tokens and fate follow from the row."""
    if row["error_kind"]:
        return ChatAnswer(error_kind=row["error_kind"], error_message=row["error_message"])
    if place == 3:
        return ChatAnswer(error_kind="timeout", error_message="no answer in time")
    if place == 4:
        return ChatAnswer("shared", "stop", answered_by="another")
    reason = "length" if place % 3 == 0 else "stop"
    return ChatAnswer(f"answer to {row['query_id']}", reason, 10 + place, 5 + place, 0.5, cached_prompt_tokens=place)


def flipped(data: bytes, column: str) -> bytes:
    """A Parquet object with one bit changed in what its last page of ``column`` holds."""
    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    chunk = next(group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == column)
    begin = chunk.data_page_offset if chunk.dictionary_page_offset is None else chunk.dictionary_page_offset
    broken = bytearray(data)
    broken[begin + chunk.total_compressed_size - 1] ^= 1
    return bytes(broken)


def manifest_of(layout: RunLayout) -> dict[str, Any]:
    return json.loads(Path(layout.manifest).read_text())
