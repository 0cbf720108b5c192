"""Having rows routed and shards answered: what a run, a retry and a labelling have in common."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hybrid_batch import accounting, preflight, watch
from hybrid_batch.config import AnswerConfig
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.progress import Observer
from hybrid_batch.core.records import ShardId
from hybrid_batch.core.routing import REJECTED, Policy, RoutingDecision, Thresholds, decide
from hybrid_batch.engines.base import EndpointRecipe, Sampling
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.reports import words
from hybrid_batch.spark import jobs, tasks
from hybrid_batch.spark.session import local_slots, spark_session, submitted
from hybrid_batch.spark.source import InputPlan
from hybrid_batch.storage import is_remote, join, normalise

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


Config = TypeVar("Config", bound=AnswerConfig)


@dataclass(frozen=True)
class Job(Generic[Config]):
    """One start of a run: what was asked for, what is there, who watches."""

    config: Config
    source: InputPlan
    plan: Plan
    ledger: Ledger
    observer: Observer

    @property
    def layout(self) -> RunLayout:
        return self.ledger.layout

    @property
    def log_folder(self) -> Path:
        return log_folder(self.config, self.layout)


def require_ready(config: AnswerConfig, source: InputPlan, observer: Observer) -> None:
    """Look at everything that can fail before a model is loaded, and say what is only odd.  Raises as
    :func:`hybrid_batch.preflight.require_ready`."""
    for finding in preflight.require_ready(config, source):
        observer.note(f"note: {finding.field}: {finding.message}")


def tell_logs(job: Job[Any]) -> None:
    """Say where logs are, unless spark-submit has them elsewhere."""
    if not submitted():
        job.observer.note(f"logs of Spark and the engines: {job.log_folder}")


def session(job: Job[Any]) -> AbstractContextManager[SparkSession]:
    """The Spark session of ``job``."""
    spark = job.config.spark
    return spark_session(
        app_name=f"{spark.app_name} {job.plan.run_id}",
        master=spark.master,
        conf=spark.conf,
        log_file=job.log_folder / "spark.log",
    )


def drafted_routing(spark: SparkSession, job: Job[Any], parts: Sequence[int], policy: Policy) -> Routing:
    """What ``policy`` makes of the scored ``parts``, for the ledger to commit."""
    groups = policy if isinstance(policy, Thresholds) and policy.by is not None else None
    histogram = jobs.count_scores(spark, job.layout, parts, groups)
    decision = decide(policy, histogram)
    ranges = jobs.place_shards(spark, job.layout, parts, decision, job.plan.shard_rows)
    return Routing(decision, ranges, histogram.coarse())


def write_routed(spark: SparkSession, job: Job[Any], parts: Sequence[int], routing: Routing) -> None:
    """Write the shards of a committed ``routing`` that are not written yet."""
    job.observer.note(_told(routing.decision))
    shards = routing.shards
    written = job.ledger.routed()
    missing = frozenset(number for number, shard in enumerate(shards) if shard not in written)
    if missing:
        task = tasks.RouteTask(job.layout, parts, routing.decision.thresholds, routing.ranges, missing)
        jobs.write_shards(spark, task, shards, job.source.kept)


def _told(decision: RoutingDecision) -> str:
    refused = f", {decision.rejected:,} refused" if decision.rejected else ""
    ungrouped = words.ungrouped(decision.by, decision.ungrouped)
    return (
        f"{words.split(decision.threshold, decision.by, len(decision.groups))}: "
        f"{decision.small:,} queries to small, {decision.large:,} to large{refused}"
        + (f"; {ungrouped}" if ungrouped else "")
    )


def answer(
    spark: SparkSession, job: Job[Any], routing: Routing, tier: str, sampling: Sampling, at_most: int | None = None
) -> None:
    """Answer the shards of ``tier`` that are not committed yet, or the first ``at_most`` of them."""
    shards = [shard for shard in routing.shards if shard.tier == tier]
    missing = _missing(shards, job.ledger)[:at_most]
    if not missing:
        return
    local = local_slots(job.config.spark.master) is not None
    recipe = None if tier == REJECTED else job.config.tiers.by_name()[tier].recipe(tier)
    if isinstance(recipe, EndpointRecipe):
        recipe = replace(recipe, shares=min(len(missing), jobs.tasks_at_once(spark)))
    task = tasks.GenerateTask(
        layout=job.layout,
        shards=shards,
        recipe=recipe,
        sampling=sampling,
        system_prompt=job.config.prompt.system,
        log_folder=str(job.log_folder) if local else None,
        share_answers=job.config.shards.share_answers,
    )
    look = watch.generate_look(job.ledger, tier, routing.rows()[tier], models(job.config), prices(job.config))
    with watch.watched(job.observer, look):
        jobs.generate(spark, task, missing)


def models(config: AnswerConfig) -> dict[str, str]:
    """Display name of each tier's model."""
    return {name: tier.model_name() for name, tier in config.tiers.by_name().items()}


def prices(config: AnswerConfig) -> accounting.Prices:
    """Price of each tier."""
    return {name: tier.price() for name, tier in config.tiers.by_name().items()}


def log_folder(config: AnswerConfig, layout: RunLayout) -> Path:
    """Where the driver's logs go: as configured, else beside a local run, else the working directory."""
    if config.run.log_dir:
        return Path(config.run.log_dir) / layout.run_id
    if is_remote(layout.root):
        return Path.cwd() / "logs" / layout.run_id
    return Path(join(normalise(config.run.output), "logs", layout.run_id))


def _missing(shards: Sequence[ShardId], ledger: Ledger) -> list[int]:
    committed = ledger.committed()
    return [index for index, shard in enumerate(shards) if shard not in committed]
