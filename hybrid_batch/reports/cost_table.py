"""The cost report as a table: one row per tier, every figure with its unit in the column's name."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa

from hybrid_batch.core.cost import EngineTimePrice, Price, TierCost, TokenPrice, quantize_usd, total_usd
from hybrid_batch.outcome import RunOutcome
from hybrid_batch.tables import COST

_US_PER_SECOND = 1_000_000


def cost_table(outcome: RunOutcome) -> pa.Table:
    """The tiers of ``outcome`` with schema ``tables.COST``.  Amounts are exact decimals, null without a price."""
    run = {
        "run_id": outcome.layout.run_id,
        "run_usd": _exact(total_usd(outcome.costs)),
        "all_large_usd": _exact(outcome.counterfactual.usd),
        "all_large_method": outcome.counterfactual.method,
    }
    return pa.Table.from_pylist([{**run, **_tier_row(cost)} for cost in outcome.costs], schema=COST)


def _tier_row(cost: TierCost) -> dict[str, Any]:
    return {
        "tier": cost.tier,
        "model": cost.model,
        "queries": cost.usage.rows,
        "failed_queries": cost.usage.failed_rows,
        "prompt_tokens": cost.usage.prompt_tokens,
        "completion_tokens": cost.usage.completion_tokens,
        "cached_prompt_tokens": cost.usage.cached_prompt_tokens,
        "shared_queries": cost.usage.shared_rows,
        "engines": cost.time.engines,
        "engine_seconds": cost.time.busy_us / _US_PER_SECOND,
        "load_seconds": cost.time.load_us / _US_PER_SECOND,
        **_price_columns(cost.price),
        "usd": _exact(cost.usd),
        "usd_per_1000_queries": _exact(cost.usd_per_1000_queries),
    }


def _price_columns(price: Price | None) -> dict[str, Decimal | None]:
    match price:
        case EngineTimePrice(per_hour):
            return {"usd_per_engine_hour": _exact(per_hour)}
        case TokenPrice(prompt, completion):
            return {
                "usd_per_million_prompt_tokens": _exact(prompt),
                "usd_per_million_completion_tokens": _exact(completion),
            }
        case None:
            return {}


def _exact(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else quantize_usd(amount)
