"""A run as storage tells it, from any machine: nothing is asked of Spark or of a driver."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from hybrid_batch.config import TiersSection
from hybrid_batch.core.cost import Price, TierCost, tier_costs
from hybrid_batch.core.errors import InputError, RunConflictError
from hybrid_batch.core.layout import RunLayout, runs_folder
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import Receipt, merge_counts
from hybrid_batch.core.routing import SMALL
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.outcome import RunStatus, StageStatus
from hybrid_batch.storage import join, normalise, open_store

_READERS: Final = 16


def status(url: str) -> RunStatus:
    """The run at ``url``, or the newest run of the output folder ``url``.

    Raises ``InputError`` if there is no run, ``RunConflictError`` if its plan cannot be read.
    """
    ledger, plan = find_run(url)
    manifest = ledger.manifest()
    routing = ledger.routing()
    receipts = ledger.receipts(ledger.committed()) if routing else []
    if manifest is not None:
        costs = tuple(TierCost.from_dict(cost) for cost in manifest["tiers"])
    else:
        costs = tuple(tier_costs(receipts, *_models_and_prices(plan)))
    return RunStatus(
        layout=ledger.layout,
        state="finished" if manifest is not None else "unfinished",
        stages=(_scoring(ledger, plan, routing), *_generating(routing, receipts)),
        costs=costs,
        errors=merge_counts(receipt.errors for receipt in receipts),
        labelling=plan.is_labelling,
    )


def find_run(url: str, wanted: Callable[[Plan], bool] = lambda _: True) -> tuple[Ledger, Plan]:
    """The run at ``url``, or the newest run of the output folder ``url`` whose plan is ``wanted``.

    Raises ``InputError`` if there is none, ``RunConflictError`` if a plan cannot be read.
    """
    ledger = Ledger(RunLayout(normalise(url)))
    if (plan := ledger.plan()) is not None:
        return ledger, plan
    folder = runs_folder(ledger.layout.root)
    ledgers = [Ledger(RunLayout(root)) for root in open_store(folder).folders(folder)]
    with ThreadPoolExecutor(_READERS) as pool:
        plans = list(pool.map(Ledger.plan, ledgers))
    found = [(ledger, plan) for ledger, plan in zip(ledgers, plans, strict=True) if plan is not None and wanted(plan)]
    if not found:
        raise InputError(f"{url}: no run here; give the folder of a run, {join(folder, 'RUN_ID')}, or a run.output")
    return max(found, key=lambda pair: pair[1].created_at)


def _scoring(ledger: Ledger, plan: Plan, routing: Routing | None) -> StageStatus:
    """The first stage: scoring in a run, in a retry the rows of another run, in a labelling the sample, which is less
    than what was read."""
    name, total = "score", sum(routing.rows().values()) if routing else None
    if plan.is_labelling:
        name, total = "sample", routing.rows()[SMALL] // int(plan.identity["answers"]) if routing else None
    if plan.is_retry:
        name = "collect"
    parts = ledger.scored_parts()
    sizes = [split.rows for split in plan.splits]
    if total is None and not any(size is None for size in sizes):
        total = sum(size or 0 for size in sizes)
    done = sum(split.rows or 0 for split in plan.splits if split.number in parts)
    complete = len(parts) == len(plan.splits)
    return StageStatus(name, len(parts), len(plan.splits), total or 0 if complete else done, total)


def _generating(routing: Routing | None, receipts: list[Receipt]) -> list[StageStatus]:
    if routing is None:
        return []
    stages = []
    for tier, rows in routing.rows().items():
        own = [receipt for receipt in receipts if receipt.tier == tier]
        planned = len(routing.ranges.first_keys.get(tier, ()))
        if planned:
            done_rows = sum(receipt.usage.rows for receipt in own)
            stages.append(StageStatus(f"generate {tier}", len(own), planned, done_rows, rows))
    return stages


def _models_and_prices(plan: Plan) -> tuple[dict[str, str], dict[str, Price | None]]:
    """Names and prices of the tiers as the first start was configured."""
    try:
        tiers = TiersSection.model_validate(plan.config["tiers"]).by_name()
    except (ValueError, KeyError) as error:
        raise RunConflictError(f"{plan.run_id}: another version planned this run; look at it with that one") from error
    return {name: tier.model_name() for name, tier in tiers.items()}, {
        name: tier.price() for name, tier in tiers.items()
    }
