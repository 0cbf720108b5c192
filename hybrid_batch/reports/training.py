"""What a training came to, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table

from hybrid_batch.core.metrics import Evaluation, Interval


def training_view(found: Evaluation, rows: int, members: Sequence[str], t_star: float | None, seconds: float) -> Table:
    """The figures on the validation rows with their 95 % intervals, beside random order and the oracle."""
    caption = f"{rows:,} labelled queries, {found.rows:,} of them for validation; members: {', '.join(members)}"
    caption += "" if t_star is None else f"; t* = {t_star:.4g}"
    table = Table(box=box.SIMPLE_HEAD, title="Validation", title_justify="left", caption=f"{caption}; {seconds:.0f} s")
    for name in ("", "router", "95 % interval", "random", "oracle"):
        table.add_column(name, justify="left" if not name else "right")
    for share, drop in found.drop.items():
        others = (f"{found.random_drop[share]:.2f}", f"{found.oracle_drop[share]:.2f}")
        table.add_row(f"drop at {share:.0%} to small (%)", *_cells(drop, 2), *others)
    table.add_row("APGR", *_cells(found.apgr, 3), "0.500", "")
    table.add_row("AUC", *_cells(found.auc, 3), "0.500", "")
    return table


def _cells(figure: Interval, digits: int) -> tuple[str, str]:
    return f"{figure.value:.{digits}f}", f"{figure.low:.{digits}f} to {figure.high:.{digits}f}"
