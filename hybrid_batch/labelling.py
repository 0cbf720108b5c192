"""The story of one labelling: sample queries, have both models answer each several times, judge the answers.

The answers are a run like any other: same engines, shards, commits and resume, in a folder of its own.  How they are
judged is no part of its identity, so other labels can be made of the same answers without asking a model again.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from hybrid_batch.answering import Job, answer, models, prices, require_ready, session, tell_logs
from hybrid_batch.config.labelling import LabelConfig
from hybrid_batch.core.cost import TierCost, tier_costs
from hybrid_batch.core.errors import ConfigError, InputError, RowErrorRateError, StorageError
from hybrid_batch.core.inputs import InputSpec
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.manifest import build_manifest, tally
from hybrid_batch.core.plan import LABELLING, Plan
from hybrid_batch.core.progress import Observer
from hybrid_batch.core.records import Receipt, ShardId
from hybrid_batch.core.routing import LARGE, SMALL, RoutingDecision, ScoreHistogram
from hybrid_batch.identity import answers_identity, plan_of
from hybrid_batch.labelset import LabelSet, read_labels
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.parquet import from_parquet, to_parquet
from hybrid_batch.quality import check_recipe, needs_reference
from hybrid_batch.spark import label_jobs
from hybrid_batch.spark.label_tasks import JudgeTask, SampleTask, judged_part
from hybrid_batch.spark.listed import Listed
from hybrid_batch.spark.source import InputPlan, plan_input
from hybrid_batch.stages import sample
from hybrid_batch.stages.label import with_both_judged
from hybrid_batch.stages.route import ShardRanges
from hybrid_batch.storage import normalise, open_store
from hybrid_batch.tables import LABELS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_WRITERS = 8


@dataclass(frozen=True)
class Labelled:
    """What a labelling comes back with: ``labels`` at ``url``, and what the answers cost.

    ``queries`` were asked; those that are not among the labels have no judged answer of one of the models.
    ``already_there`` tells that nothing was done.
    """

    layout: RunLayout
    url: str
    labels: LabelSet
    queries: int
    answers: int
    costs: tuple[TierCost, ...]
    manifest: dict[str, Any]
    already_there: bool = False


def label(config: LabelConfig, observer: Observer) -> Labelled:
    """Start, resume or find finished the labelling that ``config`` describes.

    Raises ``InputError``, ``ConfigError`` or ``RunConflictError`` before any model is loaded, ``InfrastructureError``
    when something outside failed: then the same call goes on where this one stopped.
    """
    source = plan_input(_spec(config))
    ledger, plan = _draft(config, source)
    if (manifest := ledger.manifest()) is not None and open_store(ledger.layout.root).stat(_place(config, ledger)):
        ledger.mark_success()
        return _labelled(config, ledger, manifest, already_there=True)
    _require_ready(config, source, observer)
    job = Job(config, source, ledger.commit_plan(plan), ledger, observer)
    observer.note(f"labelling {plan.run_id}: {len(source.files):,} input files, {source.bytes / 1e6:,.1f} MB")
    tell_logs(job)
    with session(job) as spark:
        routing = _route(job, _sample(spark, job))
        for tier in (SMALL, LARGE):
            answer(spark, job, routing, tier, config.answers_sampling())
        manifest = _finish(job, routing)
        _judge(spark, job, routing)
        ledger.mark_success()
    return _labelled(config, ledger, manifest)


def dry_run(config: LabelConfig, observer: Observer) -> None:
    """Say what :func:`label` would do; nothing is written or started."""
    source = plan_input(_spec(config))
    _require_ready(config, source, observer)
    ledger, _ = _draft(config, source)
    wanted = config.labels
    observer.note(f"would take {wanted.sample:,} queries of {len(source.files):,} files, {wanted.answers} answers each")
    if ledger.manifest() is not None:
        observer.note(f"all answers are in {ledger.layout.root}: they would be judged, no model would be asked")
    elif ledger.plan() is not None:
        observer.note(f"would resume {ledger.layout.run_id}: {len(ledger.committed()):,} shards are committed")
    else:
        observer.note(f"would start {ledger.layout.run_id} in {ledger.layout.root}")


def check_label_rate(done: Labelled, max_error_rate: float) -> None:
    """Raises ``RowErrorRateError`` if a larger share of the queries got no label; the labels are there all the same."""
    lost = done.queries - len(done.labels)
    if done.queries and lost / done.queries > max_error_rate:
        raise RowErrorRateError(
            f"{lost:,} of {done.queries:,} queries have no label ({lost / done.queries:.1%}), allowed by "
            f"run.max_error_rate are {max_error_rate:.1%}; errors of the answers: {done.manifest['errors'] or 'none'}"
        )


def _require_ready(config: LabelConfig, source: InputPlan, observer: Observer) -> None:
    """Look at everything that can fail before a model is loaded, the scorer included."""
    recipe = config.labels.scorer.to_recipe()
    try:
        check_recipe(recipe)
    except ConfigError as error:
        raise ConfigError(f"labels.scorer: {error}") from None
    if needs_reference(recipe) and config.labels.reference is None:
        raise ConfigError(
            f"labels.reference: the scorer {recipe.kind} compares with reference answers; name the column of them"
        )
    require_ready(config, source, observer)


def _spec(config: LabelConfig) -> InputSpec:
    """The input with the columns that labels need carried through."""
    spec = config.input.to_spec()
    return InputSpec(**{**asdict(spec), "keep": tuple(dict.fromkeys([*spec.keep, *config.columns().names()]))})


def _draft(config: LabelConfig, source: InputPlan) -> tuple[Ledger, Plan]:
    """The records of the labelling, and the plan that a first start would commit."""
    wanted = config.labels
    identity = {
        "kind": LABELLING,
        "sample": wanted.sample,
        "answers": wanted.answers,
        **answers_identity(config, source, config.answers_sampling()),
        "kept": [field.name for field in source.kept],
    }
    plan = plan_of(config, source, identity)
    return Ledger(RunLayout.of(normalise(config.run.output), plan.run_id)), plan


def _sample(spark: SparkSession, job: Job[LabelConfig]) -> pa.Table:
    """Commit the sampled rows of each split that are not committed yet -> all of them, in the order of requests."""
    splits, spec = job.plan.splits, _spec(job.config)
    missing = sorted({split.number for split in splits} - job.ledger.scored_parts())
    if missing:
        listed = Listed.of(job.source.files, splits)
        located = label_jobs.check_ids(spark, splits, spec, listed)
        rows = sum(split.rows or 0 for split in located)
        job.observer.note(f"sampling {job.config.labels.sample:,} of {rows:,} queries")
        limit = label_jobs.sample_limit(spark, located, spec, job.config.labels.sample, listed)
        if limit is None:
            raise InputError(f"{spec.path}: holds no query that a model could answer")
        task = SampleTask(job.layout, located, spec, job.source.kept, limit, listed)
        label_jobs.commit_sample(spark, task, missing)
    store = open_store(job.layout.root)
    parts = [from_parquet(store.read(job.layout.scored(split.number))) for split in splits]
    return sample.in_request_order(pa.concat_tables(parts).combine_chunks())


def _route(job: Job[LabelConfig], rows: pa.Table) -> Routing:
    """Cut the sample into shards, the same for both tiers, and write those that are not there."""
    answers = job.config.labels.answers
    step = sample.queries_per_shard(job.plan.shard_rows, answers)
    starts = range(0, rows.num_rows, step)
    first_keys = [rows["query_id"][start].as_py() for start in starts]
    asked = rows.num_rows * answers
    drafted = Routing(
        RoutingDecision(0, small=asked, large=asked, rejected=0),
        ShardRanges({SMALL: first_keys, LARGE: first_keys}),
        ScoreHistogram(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)),
    )
    routing = job.ledger.routing() or job.ledger.commit_routing(drafted)
    job.observer.note(f"{rows.num_rows:,} queries, {answers} answers of each model")
    written = job.ledger.routed()

    def write(number: int, start: int) -> None:
        data = to_parquet(sample.asked_rows(rows.slice(start, step), answers))
        for tier in (SMALL, LARGE):
            open_store(job.layout.root).put_if_absent(job.layout.routed(ShardId(tier, number)), data)

    absent = [place for place in enumerate(starts) if {ShardId(tier, place[0]) for tier in (SMALL, LARGE)} - written]
    with ThreadPoolExecutor(_WRITERS) as pool:
        list(pool.map(lambda place: write(*place), absent))
    return routing


def _finish(job: Job[LabelConfig], routing: Routing) -> dict[str, Any]:
    """Prove that every answer that was asked for is committed, and commit the manifest."""
    ledger, layout = job.ledger, job.layout
    receipts = ledger.receipts(ledger.committed())
    rows = tally(sum(routing.rows().values()), routing.shards, receipts)
    if not rows.complete:
        raise StorageError(
            f"{layout.results_folder}: {rows.rows_out:,} answers for {rows.rows_in:,} asked, {len(rows.missing):,} "
            "shards are missing; run the same command again"
        )
    # Whoever waits for the mark waits for labels, which are still to be made.
    return ledger.commit_manifest(_manifest(job, routing, receipts), marks=False)


def _manifest(job: Job[LabelConfig], routing: Routing, receipts: list[Receipt]) -> dict[str, Any]:
    costs = tier_costs(receipts, models(job.config), prices(job.config))
    answers = job.config.labels.answers
    figures = {
        "kind": LABELLING,
        "queries": routing.rows()[SMALL] // answers,
        "answers": answers,
        "tiers": [cost.to_dict() for cost in costs],
        "versions": dict(job.plan.versions),
    }
    layout = job.layout
    places = {
        "plan": layout.plan,
        "routing": layout.routing,
        "results": layout.results_folder,
        "receipts": layout.receipts_folder,
        "labels": layout.labels_folder,
    }
    return build_manifest(
        run_id=job.plan.run_id,
        fingerprint=job.plan.fingerprint,
        receipts=receipts,
        figures=figures,
        objects={role: url.removeprefix(f"{layout.root}/") for role, url in places.items()},
    )


def _judge(spark: SparkSession, job: Job[LabelConfig], routing: Routing) -> None:
    """Judge the shards that are not judged yet, then commit all labels as one object."""
    wanted, layout = job.config.labels, job.layout
    folder = layout.judged_folder(job.config.labels_key())
    store = open_store(layout.root)
    units = [shard.number for shard in routing.shards if shard.tier == SMALL]
    present = {item.url for item in store.list(folder)}
    missing = [unit for unit in units if judged_part(folder, unit) not in present]
    if missing:
        job.observer.note(f"judging the answers: {wanted.scorer.told()}")
        task = JudgeTask(layout, folder, wanted.answers, wanted.scorer.to_recipe(), job.config.columns())
        label_jobs.judge(spark, task, missing)
    parts = [from_parquet(store.read(judged_part(folder, unit))) for unit in units]
    labels = with_both_judged(pa.concat_tables(parts))
    if not labels.num_rows:
        raise InputError(
            f"{layout.results_folder}: no query has a judged answer of both models, so there are no labels"
        )
    store.put_if_absent(_place(job.config, job.ledger), to_parquet(labels.cast(LABELS)))


def _place(config: LabelConfig, ledger: Ledger) -> str:
    return ledger.layout.labels(config.labels_key())


def _labelled(
    config: LabelConfig, ledger: Ledger, manifest: dict[str, Any], *, already_there: bool = False
) -> Labelled:
    place = _place(config, ledger)
    return Labelled(
        layout=ledger.layout,
        url=place,
        labels=read_labels(place),
        queries=manifest["queries"],
        answers=manifest["answers"],
        costs=tuple(TierCost.from_dict(cost) for cost in manifest["tiers"]),
        manifest=manifest,
        already_there=already_there,
    )
