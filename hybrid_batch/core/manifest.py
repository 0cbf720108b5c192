"""What counts as finished."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hybrid_batch.core.records import Receipt, ShardId, merge_counts, total_usage

FORMAT = "hybrid-batch-run/1"


@dataclass(frozen=True)
class Tally:
    """Rows that entered a run and rows that its committed shards hold."""

    rows_in: int
    rows_out: int
    missing: tuple[ShardId, ...]

    @property
    def complete(self) -> bool:
        return not self.missing and self.rows_in == self.rows_out


def tally(rows_in: int, planned: Iterable[ShardId], receipts: Sequence[Receipt]) -> Tally:
    """Compare what was planned with what was committed.

    Raises ``ValueError`` if a shard has two receipts, or if one was never planned: that run is broken, not unfinished.
    """
    expected = set(planned)
    done = [receipt.shard for receipt in receipts]
    if len(set(done)) != len(done):
        raise ValueError("a shard has more than one receipt")
    if foreign := set(done) - expected:
        raise ValueError(f"receipts of shards that were never planned: {sorted(foreign)[:5]}")
    return Tally(rows_in, total_usage(r.usage for r in receipts).rows, tuple(sorted(expected - set(done))))


def build_manifest(
    *,
    run_id: str,
    fingerprint: str,
    receipts: Sequence[Receipt],
    figures: Mapping[str, Any],
    objects: Mapping[str, str],
) -> dict[str, Any]:
    """The record that makes a run finished: totals, the shards with their rows, and where everything lies.

    ``figures`` are money and routing figures as plain JSON values; ``objects`` maps a role to a path
    relative to the run's folder.
    """
    usage = total_usage(receipt.usage for receipt in receipts)
    ordered = sorted(receipts, key=lambda receipt: receipt.shard)
    return {
        "format": FORMAT,
        "run_id": run_id,
        "fingerprint": fingerprint,
        "rows": usage.rows,
        "failed_rows": usage.failed_rows,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "errors": merge_counts(receipt.errors for receipt in receipts),
        "finish_reasons": merge_counts(receipt.finish_reasons for receipt in receipts),
        **figures,
        "objects": dict(objects),
        "shards": [[receipt.tier, receipt.number, receipt.usage.rows] for receipt in ordered],
    }
