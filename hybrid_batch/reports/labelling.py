"""What a labelling found, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from hybrid_batch.core.cost import TierCost
from hybrid_batch.labelset import LabelSet, summary
from hybrid_batch.reports import words
from hybrid_batch.reports.console import cost_view, errors_view, pairs_view


def labelling_view(
    labels: LabelSet, manifest: Mapping[str, Any], costs: Sequence[TierCost], width: int = 80
) -> RenderableType:
    """What the answers cost, and how the labels turned out; ``manifest`` is that of the labelling."""
    parts: list[RenderableType] = [cost_view(costs, width), Text(), pairs_view(_figures(labels, manifest))]
    if errors := manifest.get("errors"):
        parts += [Text(), Text("Answers that failed:", style="red"), errors_view(errors)]
    if cut := manifest.get("finish_reasons", {}).get("length", 0):
        parts += [Text(f"{words.count(cut)} answers were cut at max_tokens.", style="yellow")]
    return Group(*parts)


def _figures(labels: LabelSet, manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = summary(labels)
    tasks = f", in {found['tasks']:.0f} tasks" if found["tasks"] else ""
    return [
        ("Queries", f"{len(labels):,} labelled of {manifest['queries']:,} asked{tasks}"),
        ("Answers", f"{manifest['answers']} of each model to each query"),
        ("Mean quality", f"small {found['mean_small']:.4g}, large {found['mean_large']:.4g}"),
        ("Small is", f"as good in {found['as_good']:.1%}, better in {found['better']:.1%} of the queries"),
    ]
