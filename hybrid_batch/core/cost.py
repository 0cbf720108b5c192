"""What a night cost, in exact decimals, and what it would have cost with the large model alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import chain
from typing import Any, Final

from hybrid_batch.core.records import Receipt, Usage, total_usage
from hybrid_batch.core.routing import LARGE, SMALL

USD_SCALE: Final = 9
"""Digits after the point in every amount that is written: a billionth of a dollar, about one token's worth."""

ALL_LARGE_BY_PRICE: Final = "large_token_price_x_tokens_of_both_tiers"
ALL_LARGE_BY_TOKENS: Final = "large_time_per_completion_token_x_small_completion_tokens"
ALL_LARGE_BY_QUERIES: Final = "large_time_per_query_x_small_queries"
"""Ways in which :func:`all_large` estimates; written into the report."""

_US_PER_HOUR: Final = Decimal(3_600_000_000)
_MILLION: Final = Decimal(1_000_000)


@dataclass(frozen=True)
class EngineTimePrice:
    """A self-hosted engine: USD for each hour that it is loading or busy (GPUs x USD per GPU hour)."""

    usd_per_engine_hour: Decimal


@dataclass(frozen=True)
class TokenPrice:
    """A remote endpoint: USD per million tokens."""

    usd_per_million_prompt_tokens: Decimal
    usd_per_million_completion_tokens: Decimal


Price = EngineTimePrice | TokenPrice


@dataclass(frozen=True)
class EngineTime:
    """Time that engines were up for a tier, in microseconds: ``busy_us`` answering, ``load_us`` becoming ready."""

    engines: int = 0
    busy_us: int = 0
    load_us: int = 0

    @property
    def total_us(self) -> int:
        return self.busy_us + self.load_us


@dataclass(frozen=True)
class TierCost:
    """One row of the cost report.  ``usd`` is None for a tier without a price."""

    tier: str
    model: str
    price: Price | None
    usage: Usage
    time: EngineTime
    usd: Decimal | None

    @property
    def usd_per_1000_queries(self) -> Decimal | None:
        if self.usd is None or not self.usage.rows:
            return None
        return quantize_usd(self.usd * 1000 / self.usage.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, amounts as decimal strings; :meth:`from_dict` is the inverse."""
        return {
            "tier": self.tier,
            "model": self.model,
            "price": None if self.price is None else {key: str(value) for key, value in asdict(self.price).items()},
            "usage": asdict(self.usage),
            "time": asdict(self.time),
            "usd": None if self.usd is None else str(self.usd),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TierCost:
        """Raises ``KeyError`` or ``TypeError`` when ``data`` is not a tier's cost."""
        return cls(
            tier=data["tier"],
            model=data["model"],
            price=None if data["price"] is None else _price_from_dict(data["price"]),
            usage=Usage(**data["usage"]),
            time=EngineTime(**data["time"]),
            usd=None if data["usd"] is None else Decimal(data["usd"]),
        )


def _price_from_dict(data: Mapping[str, str]) -> Price:
    amounts = {key: Decimal(value) for key, value in data.items()}
    return EngineTimePrice(**amounts) if "usd_per_engine_hour" in amounts else TokenPrice(**amounts)


@dataclass(frozen=True)
class Counterfactual:
    """What the same night would have cost with every answerable query on the large model.

    ``usd`` is None when nothing was measured to estimate it from; ``method`` says how it was made.
    """

    usd: Decimal | None
    method: str


def quantize_usd(amount: Decimal) -> Decimal:
    """``amount`` rounded half to even at :data:`USD_SCALE` digits."""
    return amount.quantize(Decimal(1).scaleb(-USD_SCALE), rounding=ROUND_HALF_EVEN)


def engine_time(receipts: Iterable[Receipt]) -> EngineTime:
    """Busy and load time of all engines in ``receipts``.

    Several tasks feed one engine at once, so its busy time is the union of their intervals, not the sum.
    """
    intervals: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    load: dict[str, int] = {}
    for span in chain.from_iterable(receipt.spans for receipt in receipts):
        intervals[span.engine_id].append((span.started_us, span.finished_us))
        load[span.engine_id] = span.load_us
    busy = sum(union_length(spans) for spans in intervals.values())
    return EngineTime(len(intervals), busy, sum(load.values()))


def union_length(intervals: Sequence[tuple[int, int]]) -> int:
    """Length of the union of closed ``(start, end)`` intervals; an end before its start counts as empty."""
    total, reach = 0, None
    for start, end in sorted(intervals):
        start = start if reach is None else max(start, reach)
        if end > start:
            total += end - start
            reach = end
    return total


def price_of(price: Price | None, usage: Usage, time: EngineTime) -> Decimal | None:
    """USD for ``usage`` and ``time`` at ``price``; None without a price."""
    match price:
        case None:
            return None
        case EngineTimePrice(usd_per_hour):
            return quantize_usd(usd_per_hour * time.total_us / _US_PER_HOUR)
        case TokenPrice(usd_prompt, usd_completion):
            tokens = usage.prompt_tokens * usd_prompt + usage.completion_tokens * usd_completion
            return quantize_usd(tokens / _MILLION)


def tier_costs(
    receipts: Sequence[Receipt], models: Mapping[str, str], prices: Mapping[str, Price | None]
) -> list[TierCost]:
    """One :class:`TierCost` for each tier in ``models`` (also for one that answered nothing)."""
    costs = []
    for tier, model in models.items():
        own = [receipt for receipt in receipts if receipt.tier == tier]
        usage, time = total_usage(receipt.usage for receipt in own), engine_time(own)
        costs.append(TierCost(tier, model, prices[tier], usage, time, price_of(prices[tier], usage, time)))
    return costs


def all_large(costs: Sequence[TierCost]) -> Counterfactual:
    """Estimate the night with the large model alone, from what was measured tonight.

    What the large model would have written for the small tier's queries is unknown.  An endpoint is charged with the
    tokens that the small model really used for them.  For an engine there are two estimates of the time that it would
    have been busy with them: its time for each token that it wrote, times the small model's tokens, and its time for
    each query that it answered, times the small tier's queries.  The lower one is taken, so that a saving is not
    made larger than what both support.  Load time is counted once.
    """
    by_tier = {cost.tier: cost for cost in costs}
    small, large = by_tier[SMALL], by_tier[LARGE]
    if isinstance(large.price, TokenPrice):
        usd = price_of(large.price, small.usage + large.usage, EngineTime())
        return Counterfactual(usd, ALL_LARGE_BY_PRICE)
    if large.price is None:
        return Counterfactual(None, "unavailable: the large tier has no price")
    if not large.usage.completion_tokens:
        return Counterfactual(None, "unavailable: the large tier answered nothing, its rate is unknown")
    by_tokens = large.time.busy_us * small.usage.completion_tokens // large.usage.completion_tokens
    by_queries = large.time.busy_us * small.usage.rows // large.usage.rows
    busy_us = large.time.busy_us + min(by_tokens, by_queries)
    time = EngineTime(large.time.engines, busy_us, large.time.load_us)
    method = ALL_LARGE_BY_TOKENS if by_tokens < by_queries else ALL_LARGE_BY_QUERIES
    return Counterfactual(price_of(large.price, small.usage, time), method)


def saving(costs: Sequence[TierCost], counterfactual: Counterfactual) -> Decimal | None:
    """USD saved against all-large (negative when routing cost more); None where either side is unknown."""
    spent = total_usd(costs)
    if spent is None or counterfactual.usd is None:
        return None
    return counterfactual.usd - spent


def loading_usd(costs: Iterable[TierCost]) -> Decimal:
    """What engines cost while they loaded; part of what their tiers cost.  Endpoints load nothing."""
    loading = (price_of(cost.price, Usage(), EngineTime(load_us=cost.time.load_us)) for cost in costs)
    return sum((usd or Decimal(0) for usd in loading), Decimal(0))


def total_usd(costs: Iterable[TierCost]) -> Decimal | None:
    """Sum over tiers; None when any tier that was used has no price."""
    total = Decimal(0)
    for cost in costs:
        if cost.usd is None and cost.usage.rows:
            return None
        total += cost.usd or Decimal(0)
    return total
