"""How an export's scores compare with torch's, as words and a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from hybrid_batch.engines.exports import Agreement, Export
from hybrid_batch.reports import words
from hybrid_batch.reports.console import pairs_view
from hybrid_batch.reports.evaluation import figures_table


def export_view(export: Export, agreement: Agreement) -> RenderableType:
    """Distances to torch's scores; of enough queries also the speed, and how many tiers change at which thresholds."""
    facts = pairs_view(_facts(export, agreement))
    if agreement.speed is None:
        hint = "With --labels the command says how many of your own queries change their tier, and how fast it is here."
        return Group(facts, Text(), Text(hint, style="dim"))
    table = figures_table("Tiers that change", "Threshold", "Queries", "Of them")
    for one in agreement.changed:
        table.add_row(one.what, f"{one.threshold:.6f}", words.count(one.rows), f"{one.share:.2%}")
    return Group(facts, Text(), table)


def _facts(export: Export, agreement: Agreement) -> Iterator[tuple[str, str]]:
    yield "scored", f"{words.count(agreement.rows)} texts, on torch in fp32 and on ONNX Runtime in {export.numbers}"
    yield (
        "scores differ by",
        f"{agreement.mean:.6f} on average, {agreement.largest:.6f} at most; allowed are {export.tolerance}",
    )
    if agreement.speed is not None:
        yield "speed", f"{agreement.speed:.1f} times that of torch, on this machine"
