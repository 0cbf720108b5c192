"""What an evaluation found, as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hybrid_batch.core.metrics import Evaluation, Interval
from hybrid_batch.reports import words

FEW: Final = 100
"""Tasks with fewer rows than this are marked: their intervals are wide."""

_MARK: Final = "*"


def evaluation_view(sections: Mapping[str, Evaluation], label_kind: str, left_out: int) -> RenderableType:
    """The first section as the main table; the others, one line each, below it."""
    (_, whole), *tasks = sections.items()
    parts: list[RenderableType] = [main_view(whole, label_kind), Text(), models_view(whole)]
    if tasks:
        parts += [Text(), tasks_view(dict(tasks))]
    if any(found.rows < FEW for _, found in tasks):
        parts.append(Text(f"{_MARK} fewer than {FEW} rows: read the interval, not the figure", style="dim"))
    if left_out:
        noun = "task has" if left_out == 1 else "tasks have"
        parts.append(Text(f"{left_out} {noun} too few rows for figures of their own.", style="dim"))
    return Group(*parts)


def main_view(found: Evaluation, label_kind: str) -> Table:
    """One line for each figure: the router with its interval, a random order and an oracle beside it.

    Drops are percent of the large model's mean quality; CPT is the share of queries that large must answer.
    """
    table = figures_table("", "Router", "95 % interval", "Random", "Oracle")
    for share, drop in found.drop.items():
        others = number(found.random_drop[share]), number(found.oracle_drop[share])
        table.add_row(f"Drop at {100 * share:.0f} % to small, %", *_own(drop), *others, style="bold")
    table.add_section()
    table.add_row("APGR", *_own(found.apgr, 3), "0.500", "")
    table.add_row("CPT for 50 % of the gap, %", *_own(_percents(found.cpt50), 1), "50.0", "")
    table.add_row("CPT for 80 % of the gap, %", *_own(_percents(found.cpt80), 1), "80.0", "")
    table.add_section()
    table.add_row(f"AUC, {label_kind} labels", *_own(found.auc, 3), "0.500", "")
    table.add_row("Brier score", *_own(found.brier, 4), "", "")
    table.add_row("Calibration error (ECE)", *_own(found.ece, 4), "", "")
    return table


def models_view(found: Evaluation) -> RenderableType:
    """Both models alone."""
    lost = 100 * (found.mean_large - found.mean_small) / abs(found.mean_large) if found.mean_large else math.nan
    large = f"All large: mean quality {found.mean_large:.4f} over {words.count(found.rows)} queries."
    return Group(Text(large), Text(f"All small: mean quality {found.mean_small:.4f}, a drop of {number(lost)} %."))


def tasks_view(tasks: Mapping[str, Evaluation]) -> Table:
    """One line for each task; the interval is that of the drop at 40 %."""
    table = figures_table(
        "Task", "Rows", "Large", "Small", "Drop at\n20 %", "Drop at\n40 %", "95 %\ninterval", "APGR", "AUC"
    )
    for name, found in tasks.items():
        few = found.rows < FEW
        drop = found.drop[0.4]
        cells = [number(found.mean_large, 3), number(found.mean_small, 3), number(found.drop[0.2]), number(drop)]
        table.add_row(
            f"{name}{_MARK if few else ''}", words.count(found.rows), *cells, _bounds(drop.low, drop.high, 1),
            number(found.apgr, 2), number(found.auc, 2), style="dim" if few else "",
        )  # fmt: skip
    return table


def figures_table(first: str, *others: str) -> Table:
    """An empty table with one column of words and right-aligned columns of figures."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
        border_style="dim",
    )
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def interval(figure: Interval, digits: int = 2) -> Text:
    """The figure, and its interval below it."""
    return Text.assemble(number(figure, digits), "\n", (_bounds(figure.low, figure.high, digits), "dim"))


def number(figure: Interval | float, digits: int = 2) -> str:
    """Without a minus before zero; a dash where there is no figure."""
    value = figure.value if isinstance(figure, Interval) else figure
    return words.UNKNOWN if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def _bounds(low: float, high: float, digits: int) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"{number(low, digits)} to {number(high, digits)}"


def _own(figure: Interval, digits: int = 2) -> tuple[str, str]:
    return number(figure, digits), _bounds(figure.low, figure.high, digits)


def _percents(share: Interval) -> Interval:
    return Interval(100 * share.value, 100 * share.low, 100 * share.high)
