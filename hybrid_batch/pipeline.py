"""The story of one run: plan, score, route, generate, account.

Each step looks at what is committed, does what is missing, and commits it.  Starting a run, resuming it and finding
it finished are therefore the same call.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from hybrid_batch import accounting, watch
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
from hybrid_batch.config import JobConfig
from hybrid_batch.conflicts import require_same_input
from hybrid_batch.core.errors import RowErrorRateError
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.progress import Observer
from hybrid_batch.core.routing import REJECTED
from hybrid_batch.identity import identity_of, plan_of
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.outcome import RunOutcome, RunStatus
from hybrid_batch.promise import policy_of
from hybrid_batch.routers import planned_recipe, router_recipe, scorer_entry
from hybrid_batch.spark import executor, jobs, tasks
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.source import InputPlan, plan_input
from hybrid_batch.status import status
from hybrid_batch.storage import normalise

__all__ = ["check_error_rate", "dry_run", "run", "run_part", "status"]

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run(config: JobConfig, observer: Observer, *, new_run: bool = False) -> RunOutcome:
    """Start, resume or find finished the run that ``config`` describes.

    With ``new_run`` it is started also where an unfinished run of its name had other input.  Raises ``InputError``,
    ``ConfigError`` or ``RunConflictError`` before any model is loaded, ``InfrastructureError`` when something outside
    failed: then the same call goes on where this one stopped.
    """
    source = plan_input(config.input.to_spec())
    plan = draft_plan(config, source)
    ledger = Ledger(RunLayout.of(normalise(config.run.output), plan.run_id))
    if (manifest := ledger.manifest()) is not None:
        ledger.mark_success()
        return accounting.finished_outcome(ledger, manifest)
    job = _begin(config, source, plan, ledger, observer, new_run=new_run)
    with session(job) as spark:
        routing = _answer(spark, job, at_most=None)
        return accounting.account(spark, ledger, job.plan, routing, models(config), prices(config))


def run_part(config: JobConfig, observer: Observer, shards: int, *, new_run: bool = False) -> RunStatus:
    """Like :func:`run`, but answer at most ``shards`` more shards of each tier and stop there.

    All queries are scored and routed.  :func:`run` goes on from there, with the same configuration.
    """
    source = plan_input(config.input.to_spec())
    plan = draft_plan(config, source)
    ledger = Ledger(RunLayout.of(normalise(config.run.output), plan.run_id))
    if ledger.manifest() is None:
        job = _begin(config, source, plan, ledger, observer, new_run=new_run)
        with session(job) as spark:
            _answer(spark, job, at_most=shards)
    return status(ledger.layout.root)


def _begin(
    config: JobConfig, source: InputPlan, plan: Plan, ledger: Ledger, observer: Observer, *, new_run: bool
) -> Job[JobConfig]:
    """Look at everything that can fail before a model is loaded, then commit the plan."""
    if not new_run and ledger.plan() is None:
        require_same_input(config.run.output, plan)
    require_ready(config, source, observer)
    job = Job(config, source, ledger.commit_plan(plan), ledger, observer)
    observer.note(f"run {plan.run_id}: {len(source.files):,} input files, {source.bytes / 1e6:,.1f} MB")
    tell_logs(job)
    return job


def dry_run(config: JobConfig, observer: Observer, *, new_run: bool = False) -> None:
    """Say what :func:`run` would do; no result is written, no model and no Spark is started."""
    source = plan_input(config.input.to_spec())
    require_ready(config, source, observer)
    drafted = draft_plan(config, source)
    ledger = Ledger(RunLayout.of(normalise(config.run.output), drafted.run_id))
    rows = "an unknown number of" if source.rows is None else f"{source.rows:,}"
    observer.note(f"would read {rows} queries from {len(source.files):,} files, {source.bytes / 1e6:,.1f} MB")
    observer.note(f"would score them in {len(source.splits):,} parts with the router {config.router.path}")
    if ledger.manifest() is not None:
        observer.note(f"run {ledger.layout.run_id} is finished already: nothing would be done")
    elif (plan := ledger.plan()) is not None:
        done = len(ledger.committed())
        observer.note(f"would resume run {plan.run_id}: {done:,} shards are committed")
    else:
        if not new_run:
            require_same_input(config.run.output, drafted)
        observer.note(f"would start run {ledger.layout.run_id} in {ledger.layout.root}")


def check_error_rate(outcome: RunOutcome, max_error_rate: float) -> None:
    """Raises ``RowErrorRateError`` if a larger share of the rows failed; everything is committed all the same."""
    rows, failed = outcome.manifest["rows"], outcome.manifest["failed_rows"]
    if rows and failed / rows > max_error_rate:
        raise RowErrorRateError(
            f"{failed:,} of {rows:,} rows failed ({failed / rows:.1%}), allowed by run.max_error_rate are "
            f"{max_error_rate:.1%}; they are in {outcome.layout.dead_letters_folder}"
        )


def draft_plan(config: JobConfig, source: InputPlan) -> Plan:
    """The plan that a first start would commit."""
    recipe = router_recipe(config.router.path, config.router.backend)
    return plan_of(config, source, identity_of(config, source), scorer_entry(recipe))


def _answer(spark: SparkSession, job: Job[JobConfig], at_most: int | None) -> Routing:
    """Score and route all queries, answer those that have no answer yet (``at_most`` shards of each tier)."""
    routing = _route(spark, job, _score(spark, job))
    sampling = job.config.sampling.to_sampling()
    for tier in (REJECTED, *job.config.tiers.by_name()):
        answer(spark, job, routing, tier, sampling, at_most)
    return routing


def _score(spark: SparkSession, job: Job) -> Sequence[int]:
    """Score what is not scored yet -> the numbers of all parts."""
    splits = job.plan.splits
    missing = sorted({split.number for split in splits} - job.ledger.scored_parts())
    if missing:
        listed = Listed.of(job.source.files, splits)
        located = jobs.check_ids(spark, splits, job.config.input.to_spec(), listed)
        task = tasks.ScoreTask(
            layout=job.layout,
            splits=located,
            spec=job.config.input.to_spec(),
            kept=job.source.kept,
            scorer=partial(executor.scorer, planned_recipe(job.config.router.path, job.plan)),
            listed=listed,
        )
        with watch.watched(job.observer, watch.score_look(job.ledger, located)):
            times = jobs.score(spark, task, missing)
        watch.tell_scorers(job.observer, job.ledger.scored_by())
        watch.tell_skew(job.observer, located, times)
    return [split.number for split in splits]


def _route(spark: SparkSession, job: Job[JobConfig], parts: Sequence[int]) -> Routing:
    """Decide the thresholds and write the shards that are not written yet."""
    routing = job.ledger.routing()
    if routing is None:
        routing = job.ledger.commit_routing(drafted_routing(spark, job, parts, policy_of(job.config)))
    write_routed(spark, job, parts, routing)
    return routing
