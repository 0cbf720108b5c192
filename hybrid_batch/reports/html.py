"""The report of a run as one page that needs nothing else: no scripts, no links, good on a phone and on paper."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from hybrid_batch.core.cost import TierCost, saving
from hybrid_batch.core.records import total_usage
from hybrid_batch.core.routing import ScoreHistogram
from hybrid_batch.outcome import RunOutcome
from hybrid_batch.reports import words
from hybrid_batch.reports.histogram import HEIGHT, WIDTH, chart

_TEMPLATE = "report.html"
_SHOWN_GROUPS: Final = 50


def render_report(outcome: RunOutcome, histogram: ScoreHistogram) -> str:
    """The page for ``outcome``; ``histogram`` holds the scores of the run's queries."""
    drawing = {"chart": chart(histogram, outcome.threshold), "chart_width": WIDTH, "chart_height": HEIGHT}
    return _template().render(**_facts(outcome), **drawing)


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("hybrid_batch.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE)


def _facts(outcome: RunOutcome) -> dict[str, Any]:
    manifest, usage = outcome.manifest, total_usage(cost.usage for cost in outcome.costs)
    return {
        "run_id": outcome.layout.run_id,
        "headline": _headline(outcome),
        "sentence": words.headline_saving(outcome.costs, outcome.counterfactual),
        "loading": words.loading(outcome.costs, outcome.counterfactual),
        "method": words.method(outcome.counterfactual),
        "tiers": [_tier(cost) for cost in outcome.costs],
        "total": {
            "queries": words.count(usage.rows),
            "prompt_tokens": words.count(usage.prompt_tokens),
            "completion_tokens": words.count(usage.completion_tokens),
            "seconds": words.seconds(sum(cost.time.total_us for cost in outcome.costs)),
            "usd": words.usd(words.spent(outcome.costs)),
            "per_thousand": words.usd(words.spent_per_1000(outcome.costs)),
        },
        "split": words.split(outcome.threshold, outcome.by, len(outcome.groups)),
        "ungrouped": words.ungrouped(outcome.by, outcome.ungrouped_rows),
        "spared": words.spared(usage),
        "groups": _groups(outcome),
        "all_to": "" if outcome.by else _one_sided(outcome.threshold),
        "refused": words.count(outcome.rejected_rows) if outcome.rejected_rows else "",
        "errors": [(kind, words.count(rows)) for kind, rows in manifest.get("errors", {}).items()],
        "cut": _positive(manifest.get("finish_reasons", {}).get("length", 0)),
        "versions": sorted(manifest.get("versions", {}).items()),
        "places": words.places(outcome.layout, outcome.manifest.get("objects", ())),
    }


def _tier(cost: TierCost) -> dict[str, str]:
    return {
        "tier": cost.tier,
        "model": words.short_model(cost.model),
        "price": words.price(cost.price),
        "queries": words.count(cost.usage.rows),
        "prompt_tokens": words.count(cost.usage.prompt_tokens),
        "completion_tokens": words.count(cost.usage.completion_tokens),
        "seconds": words.seconds(cost.time.total_us),
        "usd": words.usd(cost.usd),
        "per_thousand": words.usd(cost.usd_per_1000_queries),
    }


def _headline(outcome: RunOutcome) -> list[tuple[str, str, str]]:
    """``(label, figure, note)`` for the figures at the top."""
    usage = total_usage(cost.usage for cost in outcome.costs)
    spent = words.spent(outcome.costs)
    saved, alone = saving(outcome.costs, outcome.counterfactual), outcome.counterfactual.usd
    figures = [("spent", f"{words.usd(spent)} USD" if spent is not None else words.UNKNOWN, "all tiers together")]
    if saved is None or not alone:
        figures.append(("saved", words.UNKNOWN, "not known"))
    else:
        label = "saved" if saved >= 0 else "more than large alone"
        figures.append((label, words.percent(abs(saved) / alone), f"{words.usd(abs(saved))} USD"))
    figures.append(("to the small model", words.percent(outcome.cost_advantage), "of the queries"))
    figures.append(
        (
            "queries",
            words.count(usage.rows + outcome.rejected_rows),
            f"{words.count(usage.rows - usage.failed_rows)} answered",
        )
    )
    return figures


def _groups(outcome: RunOutcome) -> dict[str, Any]:
    """The thresholds by group, the lowest first; a page shows no more of them than a person reads."""
    ordered = sorted(outcome.groups.items(), key=lambda pair: (pair[1], pair[0]))
    closed = sum(threshold > 1 for threshold in outcome.groups.values())
    return {
        "column": outcome.by,
        "rows": [(name, f"{limit:.6f}" if limit <= 1 else "all to large") for name, limit in ordered[:_SHOWN_GROUPS]],
        "more": words.count(len(ordered) - _SHOWN_GROUPS) if len(ordered) > _SHOWN_GROUPS else "",
        "closed": words.count(closed) if closed else "",
    }


def _one_sided(threshold: float) -> str:
    if threshold > 1:
        return "large"
    return "small" if threshold <= 0 else ""


def _positive(number: int) -> str:
    return words.count(number) if number else ""
