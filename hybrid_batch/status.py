"""A run as storage tells it, from any machine: nothing is asked of Spark or of a driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from hybrid_batch.config import TiersSection
from hybrid_batch.core.cost import Price, TierCost, tier_costs
from hybrid_batch.core.errors import InputError, RunConflictError
from hybrid_batch.core.layout import RunLayout, parse_part, runs_folder, shards_in
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.progress import Work, is_stalled, recent_rate
from hybrid_batch.core.records import Receipt, merge_counts
from hybrid_batch.core.routing import SMALL
from hybrid_batch.ledger import Ledger, Routing
from hybrid_batch.outcome import Pace, RunStatus, StageStatus
from hybrid_batch.storage import ObjectInfo, join, normalise, open_store

_READERS: Final = 16


def status(url: str) -> RunStatus:
    """The run at ``url``, or the newest run of the output folder ``url``.

    Raises ``InputError`` if there is no run, ``RunConflictError`` if its plan cannot be read.
    """
    return RunLook(*find_run(url)).look()


class RunLook:
    """Looks at one run, again and again: one listing each time, and what is new; nothing is written."""

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self._ledger, self._plan = ledger, plan
        self._store = open_store(ledger.layout.root)
        self._routing: Routing | None = None
        self._scored: list[ObjectInfo] = []

    def look(self) -> RunStatus:
        """The run as it is.  Raises as :func:`status` does."""
        ledger, plan = self._ledger, self._plan
        manifest = ledger.manifest()
        self._routing = routing = self._routing or ledger.routing()
        results = self._store.list(ledger.layout.results_folder) if routing else []
        receipts = ledger.receipts(shards_in(item.url for item in results))
        if manifest is not None:
            costs = tuple(TierCost.from_dict(cost) for cost in manifest["tiers"])
        else:
            costs = tuple(tier_costs(receipts, *_models_and_prices(plan)))
        scoring = _scoring(self._parts(), plan, routing)
        scoring = replace(scoring, removed=manifest is not None and not scoring.complete)
        stages = (scoring, *_generating(routing, receipts))
        return RunStatus(
            layout=ledger.layout,
            state="finished" if manifest is not None else "unfinished",
            stages=stages,
            costs=costs,
            errors=merge_counts(receipt.errors for receipt in receipts),
            labelling=plan.is_labelling,
            retry_of=str(plan.retry_of["run_id"]) if plan.retry_of else None,
            pace=None if manifest is not None else self._pace(stages, receipts, results),
        )

    def _parts(self) -> list[ObjectInfo]:
        """The committed parts of the scored table; once they are all there they are not listed again."""
        if len(self._scored) < len(self._plan.splits):
            objects = self._store.list(self._ledger.layout.scored_folder)
            self._scored = [item for item in objects if parse_part(item.url) is not None]
        return self._scored

    def _pace(self, stages: Sequence[StageStatus], receipts: Sequence[Receipt], results: list[ObjectInfo]) -> Pace:
        stage = next((stage for stage in stages if not stage.complete), stages[-1])
        own = [receipt for receipt in receipts if stage.name == f"generate {receipt.tier}"]
        work = [Work(receipt.started_us, receipt.finished_us, receipt.usage.rows) for receipt in own]
        rate = recent_rate(work if stage is not stages[0] else _scoring_work(self._scored, self._plan))
        left = None if stage.planned_rows is None else stage.planned_rows - stage.done_rows
        longest = max((one.finished_us - one.started_us for one in work), default=0) / 1_000_000
        waited = max(0.0, time.time() - self._last_commit_us(results) / 1_000_000)
        return Pace(stage.name, rate, left / rate if rate and left else None, waited, is_stalled(waited, longest))

    def _last_commit_us(self, results: list[ObjectInfo]) -> int:
        """When the last object was committed, by the store's clock."""
        layout = self._ledger.layout
        objects = [*results, *self._scored]
        if self._routing and not results:
            objects += self._store.list(layout.routed_folder)
        if not objects and (plan := self._store.stat(layout.plan)):
            objects = [plan]
        return max((item.modified_us for item in objects), default=0)


def _scoring_work(parts: Iterable[ObjectInfo], plan: Plan) -> list[Work]:
    """Parts in the order of their commits, each from the one before it on: nobody wrote down when it was begun."""
    rows = {split.number: split.rows or 0 for split in plan.splits}
    done = sorted((item.modified_us, rows.get(part, 0)) for item in parts if (part := parse_part(item.url)) is not None)
    begins = [done[0][0] if done else 0, *(moment for moment, _ in done)]
    return [Work(begin, moment, count) for begin, (moment, count) in zip(begins, done, strict=False)]


def find_run(url: str, wanted: Callable[[Plan], bool] = lambda _: True) -> tuple[Ledger, Plan]:
    """The run at ``url``, or the newest run of the output folder ``url`` whose plan is ``wanted``, for a look that
    writes nothing.

    Raises ``InputError`` if there is none, ``RunConflictError`` if a plan cannot be read.
    """
    ledger = Ledger(RunLayout(normalise(url)), mends=False)
    if (plan := ledger.plan()) is not None:
        return ledger, plan
    folder = runs_folder(ledger.layout.root)
    ledgers = [Ledger(RunLayout(root), mends=False) for root in open_store(folder).folders(folder)]
    with ThreadPoolExecutor(_READERS) as pool:
        plans = list(pool.map(Ledger.plan, ledgers))
    found = [(ledger, plan) for ledger, plan in zip(ledgers, plans, strict=True) if plan is not None and wanted(plan)]
    if not found and any(plans):
        others = sorted(plan.run_id for plan in plans if plan is not None)
        raise InputError(
            f"{url}: holds retries and labellings alone; give the folder of one, {join(folder, others[0])} for example"
        )
    if not found:
        raise InputError(f"{url}: no run here; give the folder of a run, {join(folder, 'RUN_ID')}, or a run.output")
    return max(found, key=lambda pair: pair[1].created_at)


def _scoring(objects: Iterable[ObjectInfo], plan: Plan, routing: Routing | None) -> StageStatus:
    """The first stage: scoring in a run, in a retry the rows of another run, in a labelling the sample, which is less
    than what was read."""
    name, total = "score", sum(routing.rows().values()) if routing else None
    if plan.is_labelling:
        name, total = "sample", routing.rows()[SMALL] // int(plan.identity["answers"]) if routing else None
    if plan.is_retry:
        name = "collect"
    parts = {parse_part(item.url) for item in objects}
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
