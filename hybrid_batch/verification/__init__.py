"""Re-read everything of a run, and prove that nothing is lost, doubled, damaged or miscounted.

What each comparison is stands in ``docs/runs.md``.  Nothing is written and no Spark is started.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.core.progress import Observer, Progress
from hybrid_batch.core.proof import OK, WARN, Check, Notebook, Proof
from hybrid_batch.core.records import total_usage
from hybrid_batch.ledger import Ledger
from hybrid_batch.status import find_run
from hybrid_batch.verification.evidence import Evidence, readers
from hybrid_batch.verification.others import OTHERS, foreign_objects
from hybrid_batch.verification.shards import BATCH, DEAD_LETTERS, RECEIPTS, RESULTS, ROUTED
from hybrid_batch.verification.tables import (
    SCORED,
    Scored,
    Shards,
    Tell,
    compare_counts,
    compare_ids,
    look_at_scored,
    look_at_shards,
)
from hybrid_batch.verification.totals import COSTS, MANIFEST, compare_totals

__all__ = ["verify"]

_SHOWN_OTHERS: Final = 3
_RECORDS: Final = {"manifest.json": MANIFEST, "routed/routing.parquet": ROUTED}
"""The check of a record that cannot be read."""


def verify(url: str, observer: Observer) -> Proof:
    """Verify the run, retry or labelling at ``url``; of an output folder its newest run that is neither of these two.

    Of an unfinished run, what is committed is verified.  Raises ``InputError`` if there is no run, ``RunConflictError``
    if its plan cannot be read, ``StorageError`` if the store fails; what is wrong with the run is in the proof.
    """
    ledger, plan = find_run(url, lambda plan: plan.is_of_a_job)
    evidence, notebook = Evidence.of(ledger, plan), Notebook()
    observer.note(f"run {plan.run_id}: {len(evidence.objects):,} objects, {_bytes(evidence) / 1e6:,.1f} MB")
    with readers() as pool:
        scored = look_at_scored(evidence, notebook, pool)
        tell = _teller(evidence, observer)
        shards = look_at_shards(evidence, notebook, pool, tell, doubles=not scored.whole and not plan.is_labelling)
        compared = compare_ids(evidence, scored, shards, notebook, pool)
    compare_counts(evidence, scored, shards, notebook)
    return _conclude(ledger, Facts(evidence, scored, shards, compared), notebook)


@dataclass(frozen=True)
class Facts:
    """All that was read; ``compared`` says whether shards could be held against the scored table."""

    evidence: Evidence
    scored: Scored
    shards: Shards
    compared: bool

    @property
    def finished(self) -> bool:
        return self.evidence.finished

    @property
    def whole(self) -> bool:
        """Whether the receipts of all planned shards could be read."""
        planned = self.evidence.planned
        return bool(self.evidence.routing or planned) and len(self.shards.receipts) == len(planned)


def _bytes(evidence: Evidence) -> int:
    return sum(evidence.objects.values())


def _teller(evidence: Evidence, observer: Observer) -> Tell:
    total, begin = sum(evidence.routing.rows().values()) if evidence.routing else None, time.monotonic()
    return lambda rows: observer.progress(Progress("verify", rows, total, time.monotonic() - begin))


def _conclude(ledger: Ledger, facts: Facts, notebook: Notebook) -> Proof:
    evidence = facts.evidence
    if (
        evidence.plan.run_id != evidence.layout.run_id
        or fingerprint(evidence.plan.identity) != evidence.plan.fingerprint
    ):
        notebook.write("plan", [f"plan.json: its identity is not that of run {evidence.layout.run_id}"])
    for url, what in evidence.damaged.items():
        notebook.write(_RECORDS[evidence.name(url)], [f"{evidence.name(url)}: cannot be read: {what}"])
    if facts.finished:
        _tell_missing(evidence, notebook)
    elif evidence.layout.success in evidence.objects and not ledger.is_finished():
        notebook.write(MANIFEST, ["results/_SUCCESS: is there, and manifest.json is not"])
    taken, others = foreign_objects(evidence)
    notebook.write(
        RESULTS, [f"{name}: is no result of this run, and readers of the folder take it for one" for name in taken]
    )
    if facts.whole:
        compare_totals(ledger, evidence, facts.shards.receipts, notebook)
    checks = [
        notebook.check("plan", f"identity {evidence.plan.fingerprint[:12]} = the run's id"),
        *_table_checks(facts, notebook),
        *_total_checks(facts, notebook),
    ]
    return Proof(evidence.layout, facts.finished, (*checks, *notebook.left(checks), _others_check(others)))


def _tell_missing(evidence: Evidence, notebook: Notebook) -> None:
    """What a finished run must have and has not."""
    layout = evidence.layout
    wanted = ((ROUTED, [layout.routing]), (RESULTS, [layout.results(shard) for shard in evidence.planned]))
    for check, urls in wanted:
        gone = [evidence.name(url) for url in urls if url not in evidence.objects]
        notebook.write(check, [f"{name}: is missing" for name in gone])


def _table_checks(facts: Facts, notebook: Notebook) -> list[Check]:
    scored = notebook.check(SCORED, _scored_told(facts), complete=facts.scored.whole)
    if facts.evidence.routing is None and not facts.evidence.planned:
        return [scored]
    shards, planned = facts.shards, len(facts.evidence.planned)
    usage = total_usage(receipt.usage for receipt in shards.receipts)
    read = f"{usage.rows:,} rows in {len(shards.receipts):,} of {planned:,} shards, every page read"
    results = read + ("; ids = ids of the routed shards, in their order" if shards.routed else "")
    receipts = (
        f"{len(shards.receipts):,} in results = {shards.copies:,} copies = their rows: "
        f"{usage.prompt_tokens:,} prompt, {usage.completion_tokens:,} completion, "
        f"{usage.cached_prompt_tokens:,} cached tokens, {usage.failed_rows:,} rows failed"
    )
    return [
        scored,
        notebook.check(ROUTED, _routed_told(facts), complete=facts.compared and shards.routed == planned),
        notebook.check(RESULTS, results, complete=facts.whole and shards.routed == planned),
        notebook.check(RECEIPTS, receipts, complete=facts.whole and shards.copies == planned),
    ]


def _scored_told(facts: Facts) -> str:
    if facts.finished and not facts.scored.parts:
        return "was removed: nothing can be held against it"
    parts = f"{facts.scored.parts:,} of {len(facts.evidence.plan.splits):,} parts"
    return f"{facts.scored.digest.rows:,} ids in {parts}, none twice"


def _routed_told(facts: Facts) -> str:
    shards, rows = facts.shards, facts.shards.rows()
    by_tier = ", ".join(f"{tier} {count:,}" for tier, count in rows.items() if count)
    if facts.finished and not shards.routed:
        return f"were removed; {sum(rows.values()):,} ids of the results, none twice; {by_tier}"
    if facts.compared:
        against = " = ids of the scored table"
    elif facts.evidence.routing is None:
        against = " (not compared: there is no routing)"
    else:
        against = f" (not compared: {'shards are missing' if facts.scored.whole else 'the scored table is not whole'})"
    shown = f"{shards.routed:,} of {len(facts.evidence.planned):,} shards"
    return f"{sum(rows.values()):,} ids in {shown}{against}; {by_tier}"


def _total_checks(facts: Facts, notebook: Notebook) -> list[Check]:
    manifest = facts.evidence.manifest
    if manifest is None:
        return [
            notebook.check(
                MANIFEST, "not compared" if facts.finished else "none: the run is unfinished", complete=False
            )
        ]
    marked = facts.evidence.layout.success in facts.evidence.objects
    said = "rows, tokens, errors, finish reasons, shards = sums of the receipts" if facts.whole else "not compared"
    checks = [
        notebook.check(
            MANIFEST, said if marked else f"{said}; results/_SUCCESS is missing", complete=facts.whole and marked
        ),
        notebook.check(COSTS, _costs_told(manifest) if facts.whole else "not compared", complete=facts.whole),
    ]
    if facts.evidence.plan.is_labelling:
        return checks
    checks.append(notebook.check(DEAD_LETTERS, f"{facts.shards.letters:,} rows = failed rows of the results"))
    if "batch" in manifest.get("objects", {}):
        checks.append(notebook.check(BATCH, "ids of answers and errors = ids of the results"))
    return checks


def _costs_told(manifest: object) -> str:
    usd = manifest.get("usd") if isinstance(manifest, dict) else None
    return f"{'no price' if usd is None else f'{usd} USD'} in manifest and cost report = receipts at their prices"


def _others_check(others: list[str]) -> Check:
    if not others:
        return Check(OTHERS, OK, "none")
    more = f" and {len(others) - _SHOWN_OTHERS:,} more" if len(others) > _SHOWN_OTHERS else ""
    return Check(OTHERS, WARN, f"{', '.join(others[:_SHOWN_OTHERS])}{more}: not of this run")
