"""The end of a run: count what was committed, write the reports, and last of all the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hybrid_batch.core.cost import Counterfactual, Price, TierCost, all_large, tier_costs, total_usd
from hybrid_batch.core.errors import StorageError
from hybrid_batch.core.inputs import OPENAI_BATCH
from hybrid_batch.core.manifest import build_manifest, tally
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import Receipt
from hybrid_batch.core.routing import GRID
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.outcome import RunOutcome
from hybrid_batch.parquet import to_parquet
from hybrid_batch.reports.cost_table import cost_table
from hybrid_batch.reports.html import render_report
from hybrid_batch.spark import jobs
from hybrid_batch.spark.batch_jobs import write_batch_files

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Prices = Mapping[str, Price | None]


def account(
    spark: SparkSession, ledger: Ledger, plan: Plan, routing: Routing, models: Mapping[str, str], prices: Prices
) -> RunOutcome:
    """Prove that every row has its result, write dead letters, batch files and reports, commit the manifest.

    Raises ``StorageError`` if a planned shard is missing or rows in and rows out differ.
    """
    receipts = ledger.receipts(ledger.committed())
    try:
        rows = tally(sum(routing.rows().values()), routing.shards, receipts)
    except ValueError as error:
        raise StorageError(f"{ledger.layout.results_folder}: {error}") from error
    if not rows.complete:
        raise StorageError(
            f"{ledger.layout.results_folder}: {rows.rows_out:,} result rows for {rows.rows_in:,} queries, "
            f"{len(rows.missing):,} shards are missing; run the same command again"
        )
    if failed := [receipt.shard for receipt in receipts if receipt.errors]:
        jobs.write_dead_letters(spark, ledger.layout, failed)
    if plan.input_format == OPENAI_BATCH:
        write_batch_files(spark, ledger.layout, routing.shards)
    return conclude(ledger, plan, routing, receipts, models, prices)


def conclude(
    ledger: Ledger,
    plan: Plan,
    routing: Routing,
    receipts: list[Receipt],
    models: Mapping[str, str],
    prices: Prices,
) -> RunOutcome:
    """Write the reports of a run whose rows all have results and dead letters, and commit its manifest."""
    ledger.keep_dead_letters(receipt.shard for receipt in receipts if receipt.errors)
    costs = tier_costs(receipts, models, prices)
    counterfactual = all_large(costs)
    manifest = _manifest(ledger, plan, routing, receipts, costs, counterfactual)
    _put_reports(ledger, routing, _outcome(ledger, manifest))
    outcome = _outcome(ledger, ledger.commit_manifest(manifest))
    if outcome.manifest != manifest:
        # Another driver was first, with other prices: its manifest holds, and the reports are to say the same.
        _put_reports(ledger, routing, outcome)
    return outcome


def _put_reports(ledger: Ledger, routing: Routing, outcome: RunOutcome) -> None:
    ledger.put_report(ledger.layout.cost_report, to_parquet(cost_table(outcome)))
    ledger.put_report(ledger.layout.html_report, render_report(outcome, routing.histogram).encode())


def finished_outcome(ledger: Ledger, manifest: Mapping[str, Any]) -> RunOutcome:
    """The outcome of a run that was finished before, from its manifest alone."""
    return _outcome(ledger, manifest, already_finished=True)


def _manifest(
    ledger: Ledger,
    plan: Plan,
    routing: Routing,
    receipts: list[Receipt],
    costs: list[TierCost],
    counterfactual: Counterfactual,
) -> dict[str, Any]:
    spent = total_usd(costs)
    decision = routing.decision
    figures = {
        "threshold": decision.threshold,
        "by": decision.by,
        "groups": {name: micros / GRID for name, micros in decision.groups.items()},
        "ungrouped_rows": decision.ungrouped,
        "cost_advantage": decision.cost_advantage,
        "rejected_rows": decision.rejected,
        "usd": None if spent is None else str(spent),
        "all_large_usd": None if counterfactual.usd is None else str(counterfactual.usd),
        "all_large_method": counterfactual.method,
        "tiers": [cost.to_dict() for cost in costs],
        "scored_by": ledger.scored_by(),
        "versions": dict(plan.versions),
        **({"retry_of": dict(plan.retry_of)} if plan.retry_of else {}),
    }
    layout = ledger.layout
    objects = {
        "plan": layout.plan,
        "routing": layout.routing,
        "results": layout.results_folder,
        "receipts": layout.receipts_folder,
        "dead_letters": layout.dead_letters_folder,
        "cost_report": layout.cost_report,
        "html_report": layout.html_report,
        **({"batch": layout.batch_folder} if plan.input_format == OPENAI_BATCH else {}),
    }
    relative = {role: url.removeprefix(f"{layout.root}/") for role, url in objects.items()}
    return build_manifest(
        run_id=plan.run_id, fingerprint=plan.fingerprint, receipts=receipts, figures=figures, objects=relative
    )


def _outcome(ledger: Ledger, manifest: Mapping[str, Any], *, already_finished: bool = False) -> RunOutcome:
    usd = manifest["all_large_usd"]
    return RunOutcome(
        layout=ledger.layout,
        costs=tuple(TierCost.from_dict(cost) for cost in manifest["tiers"]),
        counterfactual=Counterfactual(None if usd is None else Decimal(usd), manifest["all_large_method"]),
        threshold=manifest["threshold"],
        cost_advantage=manifest["cost_advantage"],
        rejected_rows=manifest["rejected_rows"],
        manifest=manifest,
        already_finished=already_finished,
        by=manifest.get("by"),
        groups=manifest.get("groups", {}),
        ungrouped_rows=manifest.get("ungrouped_rows", 0),
    )
