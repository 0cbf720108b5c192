"""Whether a router serves another pair of models, as words for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from hybrid_batch.core.metrics import Evaluation
from hybrid_batch.core.transfer import BIAS, RETRAIN, REUSE, STRONG, WEAK, Correlation, Findings
from hybrid_batch.reports.console import pairs_view
from hybrid_batch.reports.evaluation import figures_table, interval, number

_STYLE = {REUSE: "green", RETRAIN: "red"}


def transfer_view(
    verdict: str, reason: str, found: Findings, evaluation: Evaluation, joined: str | None
) -> RenderableType:
    """The verdict, what it hangs on, and the drop to expect on the new pair."""
    head = Text.assemble((f"{verdict}: ", f"bold {_STYLE.get(verdict, 'yellow')}"), f"{reason}.")
    return Group(head, Text(), pairs_view(_facts(found, joined)), Text(), expected_view(evaluation))


def expected_view(evaluation: Evaluation) -> RenderableType:
    """Percent lost against all-at-large on the new pair, router and random side by side."""
    table = figures_table("On the new pair", *(f"Drop at\n{100 * share:.0f} %" for share in evaluation.drop))
    table.add_row(Text("this router", style="bold"), *(interval(drop) for drop in evaluation.drop.values()))
    table.add_row("random", *(number(drop) for drop in evaluation.random_drop.values()))
    return table


def _facts(found: Findings, joined: str | None) -> Iterator[tuple[str, str]]:
    if found.gaps is not None:
        yield "gaps of both pairs", f"{_coefficients(found.gaps)}, joined by {joined}: {_read(found.gaps)}"
    yield "scores and new gaps", _coefficients(found.scores)
    gain = found.gain
    bounds = "" if math.isnan(gain.low) else f" (95 % interval {gain.low:.0%} to {gain.high:.0%})"
    yield "gain", f"{_percent(gain.value)} of what an oracle gains over random{bounds}{_before(found)}"
    side = "above" if found.bias > 0 else "below"
    yield "shift of scores", f"mean score {abs(found.bias):.3f} {side} the mean label; up to {BIAS} is let pass"


def _before(found: Findings) -> str:
    return "" if found.gain_before is None else f"; on the pair it was trained on {_percent(found.gain_before)}"


def _coefficients(both: Correlation) -> str:
    return f"Pearson {number(both.pearson)}, Spearman {number(both.spearman)} over {both.rows:,} queries"


def _read(gaps: Correlation) -> str:
    return f"{gaps.word} (strong from {STRONG}, weak below {WEAK})"


def _percent(value: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.0%}"
