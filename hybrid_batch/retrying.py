"""The story of one retry: the failed rows of a finished run, answered again as a small run that is linked to it.

The rows keep their ids, scores, places and kept columns, and each goes to the tier in which it failed: they are held
against the thresholds that the run committed.  The run itself is only read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from hybrid_batch import accounting
from hybrid_batch.answering import (
    Job,
    answer,
    drafted_routing,
    models,
    prices,
    require_ready,
    session,
    tell_logs,
    write_routed,
)
from hybrid_batch.config import AnswerConfig, load_config
from hybrid_batch.config.recorded import recorded_config
from hybrid_batch.core.errors import InputError, RunConflictError, StorageError
from hybrid_batch.core.fingerprint import Plain
from hybrid_batch.core.inputs import Piece, Split
from hybrid_batch.core.layout import RunLayout, output_of, parse_shard
from hybrid_batch.core.packing import Sized, Target, pack
from hybrid_batch.core.plan import RETRY, Plan, run_id
from hybrid_batch.core.progress import Observer
from hybrid_batch.core.records import ShardId
from hybrid_batch.core.routing import LARGE, SMALL
from hybrid_batch.failed import Failures, counted
from hybrid_batch.identity import answers_identity, plan_of
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.outcome import RunOutcome
from hybrid_batch.parquet import schema_of
from hybrid_batch.spark.retry_jobs import FailedRowsTask, collect_failed
from hybrid_batch.spark.source import InputPlan
from hybrid_batch.storage import open_store, reading
from hybrid_batch.tables import SCORED, SCORED_BY, with_kept

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_SHARDS_PER_PART: Final = 64
"""Shards with failed rows that one task reads at most."""

_ANSWERS: Final = ("answers_version", "prompt", "sampling", "tiers")
"""What determines the answers of rows whose text is committed already."""


@dataclass(frozen=True)
class Retry:
    """Which rows of a finished run are asked again, and how: ``kinds`` are those of ``of`` that were asked for.

    See :func:`hybrid_batch.failed.chosen` and :func:`configured` for where the two come from.
    """

    of: Failures
    kinds: frozenset[str]
    config: AnswerConfig

    @property
    def rows(self) -> dict[str, int]:
        """Rows that are asked again, by kind."""
        return {kind: rows for kind, rows in self.of.kinds.items() if kind in self.kinds}


def configured(ledger: Ledger, plan: Plan, overrides: Sequence[str] = (), file: Path | None = None) -> AnswerConfig:
    """How the rows of a run are answered again: as its plan says, with ``overrides`` laid over it.

    What the plan hides is taken from ``file``, with which the run was started.  Raises ``ConfigError`` as
    :func:`~hybrid_batch.config.recorded.recorded_config`, ``RunConflictError`` for a run outside of an output.
    """
    layout, output = ledger.layout, output_of(ledger.layout.root)
    if output is None:
        raise RunConflictError(f"{layout.root}: lies in no folder runs of an output, where a retry has its place")
    shown = None
    if file is not None:
        date = plan.config["run"]["date"]
        shown = load_config(file, [] if date is None else [f"run.date={date}"]).model_dump(mode="json")
    return recorded_config(plan.config, layout.plan, overrides, output=output, shown=shown)


def retry(asked: Retry, observer: Observer) -> RunOutcome:
    """Start, resume or find finished the retry ``asked``, whose rows are at least one.

    Raises ``ConfigError``, ``InputError`` or ``RunConflictError`` before any model is loaded, ``InfrastructureError``
    when something outside failed: then the same call goes on where this one stopped.
    """
    plan = draft_plan(asked)
    ledger = _ledger(asked, plan)
    if (manifest := ledger.manifest()) is not None:
        ledger.mark_success()
        return accounting.finished_outcome(ledger, manifest)
    source = _source(asked, ledger.plan() or plan, ledger)
    require_ready(asked.config, source, observer)
    job = Job(asked.config, source, ledger.commit_plan(plan), ledger, observer)
    observer.note(f"retry {plan.run_id} of run {asked.of.plan.run_id}: {counted(asked.rows)}")
    tell_logs(job)
    with session(job) as spark:
        routing = _route(spark, job, asked, _collect(spark, job, asked))
        for tier in (SMALL, LARGE):
            answer(spark, job, routing, tier, asked.config.sampling.to_sampling())
        return accounting.account(spark, ledger, job.plan, routing, models(asked.config), prices(asked.config))


def dry_run(asked: Retry, observer: Observer) -> None:
    """Say what :func:`retry` would do; nothing is written or started."""
    drafted = draft_plan(asked)
    ledger = _ledger(asked, drafted)
    if ledger.is_finished():
        observer.note(f"retry {ledger.layout.run_id} is finished already: nothing would be done")
        return
    held = ledger.plan()
    require_ready(asked.config, _source(asked, held or drafted, ledger), observer)
    observer.note(f"would ask again for {counted(asked.rows)} of run {asked.of.plan.run_id}")
    if held is not None:
        observer.note(f"would resume {ledger.layout.run_id}: {len(ledger.committed()):,} shards are committed")
    else:
        observer.note(f"would start {ledger.layout.run_id} in {ledger.layout.root}")


def draft_plan(asked: Retry) -> Plan:
    """The plan that a first start would commit.  The routed rows of the run are not looked at."""
    run, source = asked.config.run, InputPlan((), _splits(asked), (), sum(asked.rows.values()))
    answers = answers_identity(asked.config, source, asked.config.sampling.to_sampling())
    identity: dict[str, Plain] = {
        "kind": RETRY,
        "retry_of": {
            "run_id": asked.of.plan.run_id,
            "fingerprint": asked.of.plan.fingerprint,
            # Kinds that have no rows in the run change nothing in what is asked.
            "errors": sorted(asked.rows),
        },
        # Of rows that timed out, how long they are waited for decides whether they do so again.
        "request_timeout_s": {name: tier.request_timeout_s for name, tier in asked.config.tiers.by_name().items()},
        **{name: answers[name] for name in _ANSWERS},
    }
    plan = plan_of(asked.config, source, identity)
    return replace(plan, run_id=run_id(f"{run.name}-{RETRY}", run.date, identity))


def _ledger(asked: Retry, plan: Plan) -> Ledger:
    return Ledger(RunLayout.of(asked.config.run.output, plan.run_id))


def _splits(asked: Retry) -> tuple[Split, ...]:
    """The result objects of the run that hold the rows, in splits of about a shard's rows."""
    layout, shards = asked.of.ledger.layout, asked.of.of(asked.kinds)
    pieces = [Piece(layout.results(shard), rows=rows) for shard, rows in shards]
    target = Target(rows=asked.config.shard_rows(), bytes=1, pieces=_SHARDS_PER_PART)
    return pack((Sized(piece, piece.rows or 0, 0) for piece in pieces), target)


def _source(asked: Retry, plan: Plan, ledger: Ledger) -> InputPlan:
    """What the retry of ``plan`` reads, with the columns that the run carried along.

    The routed rows of the run are needed for the parts alone that are not collected yet.  Raises ``InputError`` if
    they were removed.
    """
    layout, scored = asked.of.ledger.layout, ledger.scored_parts()
    shards = [_shard(piece) for split in plan.splits if split.number not in scored for piece in split.pieces]
    if gone := set(shards) - asked.of.ledger.routed() if shards else set():
        raise InputError(
            f"{layout.routed_folder}: {len(gone):,} of {len(shards):,} shards were removed, and with them the text of "
            "the failed rows; answer the input in a new run"
        )
    like = ledger.layout.scored(min(scored)) if scored else layout.routed(shards[0])
    return InputPlan((), plan.splits, _kept(like), sum(asked.rows.values()))


def _shard(piece: Piece) -> ShardId:
    shard = parse_shard(piece.url)
    assert shard is not None
    return shard


def _kept(url: str) -> tuple[pa.Field, ...]:
    """The columns that the run carried along, as the scored or routed rows at ``url`` have them."""
    with reading(url), open_store(url).open_input(url) as file:
        return tuple(field for field in schema_of(file) if field.name not in SCORED.names)


def _collect(spark: SparkSession, job: Job[AnswerConfig], asked: Retry) -> Sequence[int]:
    """Commit the failed rows that are not collected yet -> the numbers of all parts."""
    splits: tuple[Split, ...] = job.plan.splits
    scored = job.ledger.scored_parts()
    missing = [index for index, split in enumerate(splits) if split.number not in scored]
    if missing:
        scorers = " or ".join((asked.of.ledger.manifest() or {}).get("scored_by", {})) or "not known"
        schema = with_kept(SCORED, job.source.kept).with_metadata({SCORED_BY: scorers})
        task = FailedRowsTask(job.layout, asked.of.ledger.layout, splits, asked.kinds, schema)
        collect_failed(spark, task, missing)
    return [split.number for split in splits]


def _route(spark: SparkSession, job: Job[AnswerConfig], asked: Retry, parts: Sequence[int]) -> Routing:
    """Send each row to the tier where it failed: by the same score and the same thresholds."""
    routing = job.ledger.routing()
    if routing is None:
        before = asked.of.ledger.routing()
        if before is None:
            raise StorageError(f"{asked.of.ledger.layout.routing}: is missing, and with it the thresholds of the run")
        routing = job.ledger.commit_routing(drafted_routing(spark, job, parts, before.decision.thresholds))
    write_routed(spark, job, parts, routing)
    return routing
