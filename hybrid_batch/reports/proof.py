"""What a verification found, as a table."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from hybrid_batch.core.proof import Proof
from hybrid_batch.reports.console import findings_view


def proof_view(proof: Proof) -> RenderableType:
    """The checks with their figures, the first problems of each, and the verdict."""
    head = Text.assemble(
        "Run ", (proof.layout.run_id, "bold"), f" is {'finished' if proof.finished else 'unfinished'}."
    )
    table = findings_view((check.level, check.name, check.told) for check in proof.checks)
    return Group(head, Text(), table, Text(), *_problems(proof), _verdict(proof))


def _problems(proof: Proof) -> list[RenderableType]:
    lines: list[RenderableType] = []
    for check in proof.checks:
        lines += [Text(f"{check.name}: {problem}", style="red") for problem in check.problems]
        if check.count > len(check.problems):
            lines.append(Text(f"{check.name}: and {check.count - len(check.problems):,} more", style="red"))
    return [*lines, Text()] if lines else []


def _verdict(proof: Proof) -> Text:
    if not proof.proved:
        return Text(f"Not proved: {proof.problems:,} problem{'s' if proof.problems > 1 else ''}.", style="bold red")
    if not proof.finished:
        return Text("What is committed is proved. The run is unfinished: its command goes on with it.", style="bold")
    return Text("Proved.", style="bold green")
