"""What a training came to, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from hybrid_batch.core.metrics import Evaluation, Interval


def training_view(found: Evaluation, rows: int, seconds: float) -> Table:
    """The figures on the validation rows with their 95 % intervals, beside random order and the oracle."""
    caption = f"{rows:,} labelled queries, {found.rows:,} of them for validation; {seconds:,.0f} s"
    table = Table(box=box.SIMPLE_HEAD, title="Validation", title_justify="left", caption=caption)
    for name in ("", "router", "95 % interval", "random", "oracle"):
        table.add_column(name, justify="left" if not name else "right")
    for share, drop in found.drop.items():
        others = (f"{found.random_drop[share]:.2f}", f"{found.oracle_drop[share]:.2f}")
        table.add_row(f"drop at {share:.0%} to small (%)", *_cells(drop, 2), *others)
    table.add_row("APGR", *_cells(found.apgr, 3), "0.500", "")
    table.add_row("AUC", *_cells(found.auc, 3), "0.500", "")
    return table


def members_view(alone: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Table:
    """How each member does alone on the validation rows; ``names`` say what it is and, in brackets, its parts."""
    table = Table(box=box.SIMPLE_HEAD, title="Members alone", title_justify="left")
    table.add_column("")
    for name in ("drop at 20%", "drop at 40%", "APGR", "AUC"):
        table.add_column(name, justify="right")
    for name, figures in zip(names, alone, strict=True):
        drop = figures["drop"]
        cells = [_cell(drop["0.2"], 2), _cell(drop["0.4"], 2), _cell(figures["apgr"], 3), _cell(figures["auc"], 3)]
        table.add_row(name, *cells)
    return table


def _cell(value: float | None, digits: int) -> str:
    return "none" if value is None else f"{value:.{digits}f}"


def _cells(figure: Interval, digits: int) -> tuple[str, str]:
    return f"{figure.value:.{digits}f}", f"{figure.low:.{digits}f} to {figure.high:.{digits}f}"
