"""What the end of a run says in sum: manifest and cost report, made again from receipts and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from hybrid_batch.accounting import finished_outcome
from hybrid_batch.core.cost import TierCost, all_large, tier_costs, total_usd
from hybrid_batch.core.manifest import build_manifest
from hybrid_batch.core.proof import Notebook
from hybrid_batch.core.records import Receipt
from hybrid_batch.ledger import Ledger
from hybrid_batch.parquet import from_parquet
from hybrid_batch.reports.cost_table import cost_table
from hybrid_batch.storage import reading
from hybrid_batch.tables import COST
from hybrid_batch.verification.evidence import DAMAGE, Evidence, told

MANIFEST: Final = "manifest"
COSTS: Final = "costs"


def compare_totals(ledger: Ledger, evidence: Evidence, receipts: Sequence[Receipt], notebook: Notebook) -> None:
    """Hold the manifest of a finished run, and its cost report, against ``receipts``, which are all of the run's."""
    manifest = evidence.manifest
    if manifest is None:
        return
    try:
        notebook.write(MANIFEST, _miscounted(evidence, manifest, receipts))
        notebook.write(COSTS, _mispriced(manifest, receipts))
        if not evidence.plan.is_labelling:
            notebook.write(COSTS, _misreported(ledger, evidence, manifest))
            if (url := evidence.layout.html_report) not in evidence.objects:
                notebook.write(COSTS, [f"{evidence.name(url)}: is missing"])
    except DAMAGE as error:
        notebook.write(MANIFEST, [f"manifest.json: is not a manifest that this version can read: {told(error)}"])


def _miscounted(evidence: Evidence, manifest: Mapping[str, Any], receipts: Sequence[Receipt]) -> Iterator[str]:
    made = build_manifest(
        run_id=evidence.plan.run_id,
        fingerprint=evidence.plan.fingerprint,
        receipts=receipts,
        figures={},
        objects=manifest["objects"],
    )
    if [list(shard) for shard in manifest["shards"]] != made.pop("shards"):
        yield "manifest.json: its shards with their rows are not those of the receipts"
    for name, value in made.items():
        if manifest.get(name) != value:
            yield f"manifest.json: {name} is {manifest.get(name)!r}, receipts come to {value!r}"


def _mispriced(manifest: Mapping[str, Any], receipts: Sequence[Receipt]) -> Iterator[str]:
    """What receipts cost at the manifest's own prices."""
    written = [TierCost.from_dict(cost) for cost in manifest["tiers"]]
    models = {cost.tier: cost.model for cost in written}
    made = tier_costs(receipts, models, {cost.tier: cost.price for cost in written})
    for mine, theirs in zip(made, written, strict=True):
        if mine != theirs:
            yield f"manifest.json: tier {mine.tier} is {theirs.to_dict()}, receipts come to {mine.to_dict()}"
    if "usd" in manifest:
        spent, alone = total_usd(made), all_large(made).usd
        for name, usd in (("usd", spent), ("all_large_usd", alone)):
            if manifest[name] != (None if usd is None else str(usd)):
                yield f"manifest.json: {name} is {manifest[name]}, receipts come to {usd}"


def _misreported(ledger: Ledger, evidence: Evidence, manifest: Mapping[str, Any]) -> Iterator[str]:
    url = evidence.layout.cost_report
    if url not in evidence.objects:
        yield f"{evidence.name(url)}: is missing"
        return
    try:
        with reading(url):
            table = from_parquet(evidence.store.read(url))
    except DAMAGE as error:
        yield f"{evidence.name(url)}: cannot be read: {told(error)}"
        return
    expected = cost_table(finished_outcome(ledger, manifest)).to_pylist()
    for mine, theirs in zip(expected, table.to_pylist(), strict=False):
        for name in COST.names:
            if theirs.get(name) != mine[name]:
                where = f"{evidence.name(url)}: tier {mine['tier']}"
                yield f"{where}: {name} is {theirs.get(name)}, the manifest comes to {mine[name]}"
    if table.num_rows != len(expected):
        yield f"{evidence.name(url)}: {table.num_rows} rows for {len(expected)} tiers"
