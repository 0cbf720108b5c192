"""Our stage through Spark, and the server behind it: shards routed as the job routes them, answered by its own tasks.

The engine stays up between the turns.  Before each turn Spark's Python workers are warmed with a few short answers,
because they end after a minute without work, and the engine's prefix cache is emptied.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from benchmarks.generating_engines import Turn
from benchmarks.generating_rows import MOST_TOKENS, Row
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.records import ShardId
from hybrid_batch.core.routing import SmallSharePolicy, decide
from hybrid_batch.engines.base import EngineHandle, Sampling, ServerRecipe
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.parquet import to_parquet
from hybrid_batch.spark import executor, jobs, tasks
from hybrid_batch.tables import SCORED

WARM_ROWS, WARM_TOKENS = 8, 2
_TEXTS = ("base_url", "model", "api_key")
_HANDLE = pa.schema([*((name, pa.string()) for name in _TEXTS), ("load_seconds", pa.float64())])


@dataclass(frozen=True)
class FreshEngine:
    """Empties the engine's prefix cache -> how to reach it."""

    recipe: ServerRecipe
    log_folder: str

    def __call__(self, unit: int) -> Iterator[pa.RecordBatch]:
        del unit
        with executor.leased(self.recipe, self.log_folder) as engine:
            url = f"{engine.base_url.removesuffix('/v1')}/reset_prefix_cache"
            answer = httpx.post(url, headers={"Authorization": f"Bearer {engine.api_key}"}, trust_env=False)
            answer.raise_for_status()
            yield pa.RecordBatch.from_pylist([{name: getattr(engine, name) for name in _HANDLE.names}], schema=_HANDLE)


@dataclass(frozen=True)
class Routed:
    """Rows in committed shards of one tier, below ``folder``."""

    folder: Path
    shards: Sequence[ShardId]


@dataclass(frozen=True)
class Ours:
    """The job's stage for the engine of ``recipe``; runs lie below ``work``."""

    spark: SparkSession
    recipe: ServerRecipe
    work: Path
    logs: Path

    def routed(self, name: str, rows: Sequence[Row], shard_rows: int) -> Routed:
        """Bring ``rows`` into shards by the job's own steps: count, decide, place, write."""
        folder = self.work / name
        layout = RunLayout(str(folder))
        part = Path(layout.scored(0))
        part.parent.mkdir(parents=True)
        part.write_bytes(to_parquet(_scored(rows)))
        histogram = jobs.count_scores(self.spark, layout, [0])
        decision = decide(SmallSharePolicy(1.0), histogram)
        ranges = jobs.place_shards(self.spark, layout, [0], decision, shard_rows)
        routing = Ledger(layout).commit_routing(Routing(decision, ranges, histogram.coarse()))
        task = tasks.RouteTask(layout, [0], decision.thresholds, ranges, frozenset(range(ranges.total)))
        jobs.write_shards(self.spark, task, routing.shards, ())
        return Routed(folder, routing.shards)

    @cached_property
    def _warm(self) -> Routed:
        rows = [Row(f"{place}", f"How much is {place} and {place}?", WARM_TOKENS) for place in range(2 * WARM_ROWS)]
        return self.routed("warm", rows, WARM_ROWS)

    def fresh(self) -> EngineHandle:
        """The engine, started if it must be, with an empty prefix cache and workers that have used it."""
        self._generate(self._warm, Sampling(max_tokens=WARM_TOKENS))
        found = jobs.collect(jobs.run_units(self.spark, FreshEngine(self.recipe, str(self.logs)), [0], _HANDLE))
        return EngineHandle(engine_id="", **found.to_pylist()[0])

    def start(self) -> float:
        """Start the engine, if it is not up -> the seconds that it took to load."""
        return self.fresh().load_seconds

    def run(self, routed: Routed) -> Turn:
        """Answer all shards in a run of their own, and commit them."""
        self.fresh()
        seconds, results = self._generate(routed, Sampling(max_tokens=MOST_TOKENS))
        answers = dict(zip(results["query_id"].to_pylist(), results["text"].to_pylist(), strict=True))
        errors = Counter(kind for kind in results["error_kind"].to_pylist() if kind)
        return Turn(seconds, answers, sum(results["completion_tokens"].to_pylist()), errors=errors)

    def _generate(self, routed: Routed, sampling: Sampling) -> tuple[float, pa.Table]:
        layout = RunLayout(str(self.work / "turn"))
        shutil.rmtree(layout.root, ignore_errors=True)
        shutil.copytree(routed.folder, layout.root)
        task = tasks.GenerateTask(
            layout=layout,
            shards=routed.shards,
            recipe=self.recipe,
            sampling=sampling,
            system_prompt=None,
            log_folder=str(self.logs),
        )
        began = time.perf_counter()
        jobs.generate(self.spark, task, range(len(routed.shards)))
        return time.perf_counter() - began, pq.read_table(layout.results_folder)


def _scored(rows: Sequence[Row]) -> pa.Table:
    """``rows`` as the score stage commits them: all of one score, each with the bound of its own."""
    columns: dict[str, Any] = {
        "query_id": [row.query_id for row in rows],
        "prompt": [row.prompt for row in rows],
        "score": [0.5] * len(rows),
        "request": [f'{{"max_tokens": {row.max_tokens}}}' for row in rows],
        "source_file": ["benchmark"] * len(rows),
        "source_row": list(range(len(rows))),
    }
    arrays = [pa.array(columns.get(field.name, [None] * len(rows)), field.type) for field in SCORED]
    return pa.table(arrays, schema=SCORED)


def ask_all_at_once(engine: EngineHandle, rows: Sequence[Row]) -> Turn:
    """Every request at once, by a loop that does nothing else."""
    return asyncio.run(_ask_all(engine, rows))


async def _ask_all(engine: EngineHandle, rows: Sequence[Row]) -> Turn:
    import aiohttp

    url, headers = f"{engine.base_url}/chat/completions", {"Authorization": f"Bearer {engine.api_key}"}
    limits: dict[str, Any] = {"connector": aiohttp.TCPConnector(limit=0), "timeout": aiohttp.ClientTimeout(total=None)}

    async with aiohttp.ClientSession(headers=headers, **limits) as session:

        async def ask(row: Row) -> dict[str, Any]:
            body = {"model": engine.model, "messages": row.messages, "temperature": 0.0, "max_tokens": row.max_tokens}
            async with session.post(url, json=body) as response:
                response.raise_for_status()
                found: dict[str, Any] = await response.json()
                return found

        began = time.perf_counter()
        bodies = await asyncio.gather(*map(ask, rows))
        seconds = time.perf_counter() - began
    texts = [body["choices"][0]["message"]["content"] for body in bodies]
    answers = {row.query_id: text for row, text in zip(rows, texts, strict=True)}
    return Turn(seconds, answers, sum(body["usage"]["completion_tokens"] for body in bodies))
