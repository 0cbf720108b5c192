"""A night of a few rows: what its drivers and tasks do to the storage, on the real ledger and the real accounting.

What Spark would do in between is left out: a stage is a :class:`~tests.support.protocol_steps.Stage`, and a task is a
program of its own.  Drivers disagree wherever they can (time, threshold, router, answers, tokens), so that a choice
that is not committed is seen.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

import pyarrow as pa

from hybrid_batch import accounting
from hybrid_batch.core.cost import EngineTimePrice, Price
from hybrid_batch.core.inputs import Piece, Split
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import EngineSpan, Receipt, ShardId
from hybrid_batch.core.routing import LARGE, SMALL, TIERS, ScoreHistogram, ThresholdPolicy, decide
from hybrid_batch.engines.base import ChatAnswer
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.parquet import from_parquet, to_parquet
from hybrid_batch.stages import generate, route
from hybrid_batch.tables import SCORED, SCORED_BY
from tests.support.outcomes import HOURLY, MODELS
from tests.support.protocol_steps import Stage, Steps

LAYOUT = RunLayout("/out/runs/night-0123456789ab")
PARTS = ("begin", "write", "answer_small", "answer_large", "account")
DRIVER, SCORE, ROUTE, ANSWER, LOOK = "driver", "score", "route", "answer", "look"


@dataclass(frozen=True)
class Actor:
    """A driver, a task's attempt or somebody who looks.  An attempt has a unit of work, and what ``driver`` told it."""

    kind: str
    name: str
    driver: str = ""
    unit: Hashable = None
    told: Any = None

    @property
    def number(self) -> int:
        """A small number, on which an actor's choices depend: drivers are counted, tasks differ mostly."""
        return int(self.name.split()[-1]) if self.kind == DRIVER else zlib.crc32(self.name.encode()) % 97


class Told:
    """What a driver knows, and hands to its tasks; compared by what it says."""

    def __init__(self, plan: Plan, routing: Routing) -> None:
        self.plan, self.routing = plan, routing
        self._said = repr((plan, routing.decision, routing.ranges))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Told) and other._said == self._said

    def __hash__(self) -> int:
        return hash(self._said)


@dataclass(frozen=True)
class Part:
    """The part of a run that a driver comes to, with what it knows by then."""

    number: int
    told: Told | None


@dataclass(frozen=True)
class Night:
    """``parts`` scored parts of ``part_rows`` rows each, all of which models can answer.

    ``looks`` makes drivers look at the receipts before and after each tier, as the progress display does; with
    ``own_prices`` each driver was started with another price.
    """

    parts: int = 1
    part_rows: int = 4
    shard_rows: int = 2
    looks: bool = False
    own_prices: bool = False

    def program(self, actor: Actor) -> Any:
        """What ``actor`` does, as a program."""
        bodies = {DRIVER: self.drive, SCORE: self.score, ROUTE: self.route, ANSWER: self.answer, LOOK: self.look}
        body = bodies[actor.kind]
        return lambda steps: body(actor, steps)

    def ledger(self, steps: Steps) -> Ledger:
        return Ledger(LAYOUT, steps)

    def drive(self, actor: Actor, steps: Steps) -> Any:
        """``pipeline.run`` from the manifest to the manifest, or the next part of it.

        What a driver remembers from one part to the next is plan and split alone; with ``looks`` also receipts.
        """
        ledger, at = self.ledger(steps), Part(actor.unit or 0, actor.told)
        while True:
            after = getattr(self, PARTS[at.number])(actor, ledger, at.told, steps)
            if not isinstance(after, Told):
                return after
            at = Part(at.number + 1, after)
            if not self.looks:
                return at

    def begin(self, actor: Actor, ledger: Ledger, told: None, steps: Steps) -> Any:
        """To the split of the night."""
        if (manifest := ledger.manifest()) is not None:
            return accounting.finished_outcome(ledger, manifest).manifest
        plan = ledger.commit_plan(self.draft(actor))
        if missing := sorted({split.number for split in plan.splits} - ledger.scored_parts()):
            steps.run(Stage(SCORE, tuple(missing)))
        return Told(plan, ledger.routing() or ledger.commit_routing(self.decided(actor, plan, steps)))

    def write(self, actor: Actor, ledger: Ledger, told: Told, steps: Steps) -> Told:
        """The shards of all tiers."""
        written = ledger.routed()
        if absent := tuple(shard for shard in told.routing.shards if shard not in written):
            steps.run(Stage(ROUTE, (absent,), told))
        return told

    def answer_small(self, actor: Actor, ledger: Ledger, told: Told, steps: Steps) -> Told:
        return self.answer_tier(SMALL, ledger, told, steps)

    def answer_large(self, actor: Actor, ledger: Ledger, told: Told, steps: Steps) -> Told:
        return self.answer_tier(LARGE, ledger, told, steps)

    def answer_tier(self, tier: str, ledger: Ledger, told: Told, steps: Steps) -> Told:
        """``answering.answer``."""
        shards = [shard for shard in told.routing.shards if shard.tier == tier]
        committed = ledger.committed() if shards else set()
        if missing := tuple(shard for shard in shards if shard not in committed):
            if self.looks:
                ledger.receipts(ledger.committed())
            steps.run(Stage(ANSWER, missing))
            if self.looks:
                ledger.receipts(ledger.committed())
        return told

    def account(self, actor: Actor, ledger: Ledger, told: Told, steps: Steps) -> Any:
        """To the manifest."""
        return accounting.account(None, ledger, told.plan, told.routing, MODELS, self.prices(actor)).manifest

    def draft(self, actor: Actor) -> Plan:
        splits = tuple(Split(number, (Piece(f"/in/{number}.jsonl"),)) for number in range(self.parts))
        return Plan(
            run_id=LAYOUT.run_id,
            fingerprint="f",
            identity={"answers": 1},
            splits=splits,
            shard_rows=self.shard_rows,
            created_at=f"when {actor.name} began",
            config={"input": {"format": "jsonl"}},
            versions={},
        )

    def prices(self, actor: Actor) -> dict[str, Price | None]:
        price = EngineTimePrice(Decimal(1 + actor.number)) if self.own_prices else HOURLY
        return dict.fromkeys(MODELS, price)

    def decided(self, actor: Actor, plan: Plan, steps: Steps) -> Routing:
        """``pipeline._decide`` with a threshold of this driver's own, which no two drivers with an identity have."""
        rows = scored_rows(tuple(steps.read(LAYOUT.scored(split.number)) for split in plan.splits))
        counts = route.summed(pa.Table.from_batches([route.count_scores(rows, None)])).sort_by("micros")
        histogram = ScoreHistogram(counts["micros"].to_numpy(), counts["rows"].to_numpy())
        return routing_of(rows, histogram, 0.5 if actor.number % 2 else 0.0, plan.shard_rows)

    def score(self, actor: Actor, steps: Steps) -> bool:
        """``ScoreTask``."""
        return steps.put_if_absent(LAYOUT.scored(actor.unit), self.part(actor))

    def part(self, actor: Actor) -> bytes:
        first = actor.unit * self.part_rows
        rows = [self.row(number) for number in range(first, first + self.part_rows)]
        schema = SCORED.with_metadata({SCORED_BY: f"the router of {actor.name}"})
        return to_parquet(pa.Table.from_pylist(rows, schema))

    def row(self, number: int) -> dict[str, Any]:
        return {
            "query_id": f"q{number}",
            "prompt": f"question {number}",
            "score": (number % 4) / 4 + 0.1,
            "source_file": "/in",
            "source_row": number,
        }

    def ids(self) -> list[str]:
        """The ids of all rows."""
        return sorted(f"q{number}" for number in range(self.parts * self.part_rows))

    def route(self, actor: Actor, steps: Steps) -> bool:
        """``RouteTask`` and ``WriteShardsTask`` of one partition, which is a set of shards."""
        rows = scored_rows(tuple(steps.read(LAYOUT.scored(part)) for part in range(self.parts)))
        for shard in actor.unit:
            steps.put_if_absent(LAYOUT.routed(shard), to_parquet(shard_of(rows, actor.told.routing, shard)))
        return True

    def answer(self, actor: Actor, steps: Steps) -> bool:
        """``GenerateTask``: look, read, have it answered, commit."""
        shard, ledger = actor.unit, self.ledger(steps)
        if ledger.is_committed(shard):
            return ledger.receipts([shard])[0].usage.rows > 0
        rows = from_parquet(steps.read(LAYOUT.routed(shard)))
        steps.pay(shard)
        return ledger.commit_results(*answered(rows, shard, actor))

    def look(self, actor: Actor, steps: Steps) -> int:
        """``hybrid-batch status``, which makes copies of receipts that it misses."""
        ledger = self.ledger(steps)
        return len(ledger.receipts(ledger.committed()))


def answered(rows: pa.Table, shard: ShardId, actor: Actor) -> tuple[pa.Table, Receipt]:
    """Results and receipt of a shard, which tell whose they are."""
    tokens, busy_us = 1 + actor.number, 1_000_000 * (1 + actor.number)
    answers = [ChatAnswer(f"{actor.name}: {name}", "stop", 3, tokens) for name in rows["query_id"].to_pylist()]
    spans = [EngineSpan(f"engine of {actor.name}", 0, busy_us)]
    receipt = generate.make_receipt(shard.tier, shard.number, answers, spans=spans)
    return generate.results_table(rows, answers, shard.tier, "m"), receipt


@lru_cache
def scored_rows(parts: tuple[bytes, ...]) -> pa.RecordBatch:
    """All scored rows as one batch."""
    tables = [from_parquet(part).replace_schema_metadata() for part in parts]
    return pa.concat_tables(tables).combine_chunks().to_batches()[0]


def routing_of(rows: pa.RecordBatch, histogram: ScoreHistogram, threshold: float, shard_rows: int) -> Routing:
    """The split of the night at ``threshold``, cut by all its keys."""
    decision = decide(ThresholdPolicy(threshold), histogram)
    tiers, keys = route.tier_indices(rows, decision.thresholds), route.sort_keys(rows).to_pylist()
    own = {name: [key for key, tier in zip(keys, tiers, strict=True) if tier == n] for n, name in enumerate(TIERS)}
    ranges = {name: route.plan_ranges(found, [1] * len(found), len(found), shard_rows) for name, found in own.items()}
    return Routing(decision, route.ShardRanges(ranges), histogram.coarse())


def routing_in(content: bytes) -> Routing:
    """The split that an object holds."""
    routing = Ledger(LAYOUT, Steps({("read_if_present", LAYOUT.routing, 0): content})).routing()
    assert routing is not None
    return routing


def shard_of(rows: pa.RecordBatch, routing: Routing, shard: ShardId) -> pa.Table:
    """The rows of one shard."""
    numbers = route.shard_numbers(rows, routing.decision.thresholds, routing.ranges)
    own = pa.array(numbers == routing.shards.index(shard))
    return pa.Table.from_batches([rows.filter(own)], SCORED)
