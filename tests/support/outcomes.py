"""Outcomes of runs that never were, made from receipts by the code that makes real ones."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import numpy as np

from hybrid_batch.core.cost import EngineTimePrice, Price, all_large, tier_costs
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.records import Receipt, Usage
from hybrid_batch.core.routing import ScoreHistogram, to_micros
from hybrid_batch.outcome import RunOutcome

HOURLY = EngineTimePrice(Decimal("0.10"))
MODELS = {"small": "smollm2-135m-instruct", "large": "org/qwen2.5-coder-0.5b-instruct"}
SECOND = 1_000_000


def an_outcome(
    scale: int = 1,
    *,
    small: Price | None = HOURLY,
    large: Price | None = HOURLY,
    errors: Mapping[str, int] | None = None,
    rejected: int = 0,
    finished: bool = False,
) -> RunOutcome:
    """120 small and 180 large queries, times ``scale`` (0: an empty run)."""
    receipts = [
        _receipt("small", Usage(120, 2, 9_312, 4_100), 25 * SECOND, 13 * SECOND, scale),
        _receipt("large", Usage(180, 0, 14_210, 8_012), 160 * SECOND, 31 * SECOND, scale),
    ]
    costs = tier_costs(receipts if scale else [], MODELS, {"small": small, "large": large})
    return RunOutcome(
        layout=RunLayout.of("s3://bucket/out", "night-3fa9c1d2e4b5"),
        costs=tuple(costs),
        counterfactual=all_large(costs),
        threshold=0.612345,
        cost_advantage=0.4 if scale else 0.0,
        rejected_rows=rejected,
        manifest={
            "errors": dict(errors or {}),
            "finish_reasons": {"stop": 250 * scale, "length": 48 * scale},
            "versions": {"hybrid-batch": "0.1.0"},
        },
        already_finished=finished,
    )


def a_histogram(rows: int = 1000, low: float = 0.05, high: float = 0.95) -> ScoreHistogram:
    """``rows`` scores between ``low`` and ``high``, the same on every machine."""
    scores = np.random.default_rng(0).beta(3, 2.4, rows) * (high - low) + low
    micros, counts = np.unique(to_micros(scores), return_counts=True)
    return ScoreHistogram(micros, counts)


def _receipt(tier: str, usage: Usage, busy_us: int, load_us: int, scale: int) -> Receipt:
    scaled = Usage(
        usage.rows * scale, usage.failed_rows * scale, usage.prompt_tokens * scale, usage.completion_tokens * scale
    )
    return Receipt(tier, 0, scaled, f"engine-{tier}", 0, busy_us * scale, load_us)
