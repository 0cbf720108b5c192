"""Numbers, money and methods as a person reads them: the same words on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

from hybrid_batch.core.cost import (
    ALL_LARGE_BY_PRICE,
    ALL_LARGE_BY_QUERIES,
    ALL_LARGE_BY_TOKENS,
    Counterfactual,
    EngineTimePrice,
    Price,
    TierCost,
    TokenPrice,
    loading_usd,
    saving,
    total_usd,
)
from hybrid_batch.core.layout import RunLayout
from hybrid_batch.core.records import Usage
from hybrid_batch.core.routing import LARGE, SMALL
from hybrid_batch.outcome import Pace

UNKNOWN: Final = "–"  # noqa: RUF001 - an en dash reads as "no figure" in a column of numbers

_MILLION: Final = 1_000_000
_LARGE_PART: Final = 10
"""Loading is worth a sentence from a tenth of the spending on."""
_UNAVAILABLE: Final = "unavailable: "
_METHODS: Final = {
    ALL_LARGE_BY_QUERIES: (
        "Estimate: the large engine's time for each query that it answered in this run, at its price, for the queries "
        "of the small model too. (By the tokens that the small model wrote it would be more; the lower one counts.)"
    ),
    ALL_LARGE_BY_TOKENS: (
        "Estimate: the large engine's time for each token that it wrote in this run, at its price, for the tokens that "
        "the small model wrote. (By the number of queries it would be more; the lower one counts.)"
    ),
    ALL_LARGE_BY_PRICE: (
        "Estimate: the large tier's token prices for all tokens of both tiers. "
        "The large model's own answers may be longer or shorter."
    ),
}


def count(number: int) -> str:
    """``1319`` -> ``1,319``; from ten million on ``12.3 M``."""
    return f"{number:,}" if number < 10 * _MILLION else f"{number / _MILLION:,.1f} M"


def seconds(microseconds: int) -> str:
    """Engine time as seconds: one decimal below 1,000, as :func:`count` above."""
    value = microseconds / _MILLION
    return f"{value:.1f}" if value < 1000 else count(round(value))


def usd(amount: Decimal | None) -> str:
    """Two decimals from ten dollars on, four from one dollar on, six below; a dash where nothing is known."""
    if amount is None:
        return UNKNOWN
    size = abs(amount)
    digits = 2 if size >= 10 or not size else 4 if size >= 1 else 6
    return f"{amount:,.{digits}f}"


def percent(share: float | Decimal) -> str:
    """``0.4`` -> ``40.0 %``."""
    return f"{float(share) * 100:.1f} %"


def duration(total_seconds: float) -> str:
    """``75.2`` -> ``1:15``; ``3700`` -> ``1:01:40``."""
    minutes, rest = divmod(round(total_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def retried(manifest: Mapping[str, Any]) -> str | None:
    """What a retry came to; None for any other run."""
    if (of := manifest.get("retry_of")) is None:
        return None
    rows = manifest["rows"]
    answered = rows - manifest["failed_rows"]
    return f"{count(answered)} of {count(rows)} rows that had failed in run {of['run_id']} have an answer."


def short_model(model: str) -> str:
    """The last part of a path or hub name."""
    return model.rstrip("/").rpartition("/")[2] or model


def price(value: Price | None) -> str:
    """A price with its unit."""
    match value:
        case None:
            return "no price"
        case EngineTimePrice(amount):
            return f"{_plain(amount)} USD per engine hour"
        case TokenPrice(prompt, completion):
            return f"{_plain(prompt)} / {_plain(completion)} USD per million prompt / completion tokens"


def _plain(amount: Decimal) -> str:
    """At least two decimals, as many as the price has."""
    cents = amount.quantize(Decimal("0.01"))
    return f"{cents:,f}" if cents == amount else f"{amount.normalize():,f}"


def headline_saving(costs: Sequence[TierCost], counterfactual: Counterfactual) -> str:
    """One sentence: what routing saved against the large model alone, or why that is not known."""
    saved, alone = saving(costs, counterfactual), counterfactual.usd
    if saved is None or alone is None:
        return f"The saving against the large model alone is not known: {_why_unknown(costs, counterfactual)}."
    share = f" ({percent(abs(saved) / alone)})" if alone else ""
    if saved < 0:
        return f"Routing cost {usd(-saved)} USD{share} more than the large model alone ({usd(alone)} USD)."
    return f"Saved {usd(saved)} USD{share} against the large model alone ({usd(alone)} USD)."


def loading(costs: Sequence[TierCost], counterfactual: Counterfactual) -> str:
    """What loading the engines cost and what routing did apart from it; empty where loading is a small part.

    The large engine is loaded in either case, so loading weighs on routing by the small engine's alone.
    """
    saved, total = saving(costs, counterfactual), spent(costs)
    alone, loaded = counterfactual.usd, loading_usd(costs)
    if saved is None or not total or alone is None or loaded < total / _LARGE_PART:
        return ""
    apart = saved + loading_usd(cost for cost in costs if cost.tier == SMALL)
    rest = alone - loading_usd(cost for cost in costs if cost.tier == LARGE)
    share = f" ({percent(abs(apart) / rest)})" if rest else ""
    did = "saved" if apart >= 0 else "cost"
    return (
        f"Loading the models is {usd(loaded)} USD of what was spent; a longer run pays it once too. "
        f"Apart from loading, routing {did} {usd(abs(apart))} USD{share}."
    )


def method(counterfactual: Counterfactual) -> str:
    """How the cost of all-large was estimated; empty where it was not."""
    if counterfactual.usd is None:
        return ""
    return _METHODS.get(counterfactual.method, f"Method: {counterfactual.method}.")


def split(threshold: float, by: str | None, groups: int) -> str:
    """What split the queries: one threshold, or one for each of ``groups`` values of the column ``by``."""
    if by is None:
        return f"threshold {threshold:.6f}"
    return f"{count(groups)} threshold{'' if groups == 1 else 's'} by {by}"


def ungrouped(by: str | None, rows: int) -> str:
    """Which queries had no threshold of their own, without a full stop; empty where there are none."""
    if by is None or not rows:
        return ""
    return f"{count(rows)} queries of no calibrated {by} went to the large model"


def spared(usage: Usage) -> tuple[str, ...]:
    """What was not computed twice, a sentence without a full stop for each; empty where there is nothing to say."""
    shared, cached = usage.shared_rows, usage.cached_prompt_tokens
    told = []
    if shared:
        told.append(f"{count(shared)} queries have the answer of an identical request")
    if cached:
        told.append(f"{percent(cached / usage.prompt_tokens)} of the prompt tokens came from the prefix cache")
    return tuple(told)


def waited(pace: Pace) -> str:
    """How long ago something was committed, without a full stop."""
    ago = duration(pace.waited_seconds)
    if pace.stalled:
        return f"nothing was committed for {ago}; is its driver still there?"
    return f"last commit {ago} ago"


def spent(costs: Sequence[TierCost]) -> Decimal | None:
    """USD of all tiers; None where a tier that was used, or every tier, has no price."""
    return total_usd(costs) if any(cost.price for cost in costs) else None


def spent_per_1000(costs: Sequence[TierCost]) -> Decimal | None:
    """USD per 1,000 queries over all tiers; None where nothing is known or nothing was answered."""
    amount, rows = spent(costs), sum(cost.usage.rows for cost in costs)
    return None if amount is None or not rows else amount * 1000 / rows


def places(layout: RunLayout, objects: Container[str] = ()) -> tuple[tuple[str, str], ...]:
    """What a run leaves behind, and where; batch files if they are among the manifest's ``objects``."""
    return (
        ("Results", layout.results_folder),
        *([("Batch", layout.batch_folder)] if "batch" in objects else []),
        ("Report", layout.html_report),
        ("Costs", layout.cost_report),
        ("Manifest", layout.manifest),
    )


def label_places(layout: RunLayout) -> tuple[tuple[str, str], ...]:
    """What a labelling leaves behind, and where."""
    return (("Answers", layout.results_folder), ("Labels", layout.labels_folder), ("Manifest", layout.manifest))


def _why_unknown(costs: Sequence[TierCost], counterfactual: Counterfactual) -> str:
    if counterfactual.usd is None:
        return counterfactual.method.removeprefix(_UNAVAILABLE)
    unpriced = [cost.tier for cost in costs if cost.usd is None and cost.usage.rows]
    return f"the {' and '.join(unpriced)} tier has no price"
