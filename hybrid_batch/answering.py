"""Having shards answered: what a run and a labelling have in common."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hybrid_batch import accounting, watch
from hybrid_batch.config import AnswerConfig
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.progress import Observer
from hybrid_batch.core.records import ShardId
from hybrid_batch.core.routing import REJECTED
from hybrid_batch.engines.base import EndpointRecipe, Sampling
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.spark import jobs, tasks
from hybrid_batch.spark.session import local_slots, spark_session
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


def session(job: Job[Any]) -> AbstractContextManager[SparkSession]:
    """The Spark session of ``job``."""
    spark = job.config.spark
    return spark_session(
        app_name=f"{spark.app_name} {job.plan.run_id}",
        master=spark.master,
        conf=spark.conf,
        log_file=job.log_folder / "spark.log",
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
