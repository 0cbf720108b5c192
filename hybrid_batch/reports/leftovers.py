"""What would be removed from storage, as a table."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from hybrid_batch.core.leftovers import Leftovers
from hybrid_batch.reports import words
from hybrid_batch.reports.console import plain_table


def leftovers_view(leftovers: Leftovers) -> RenderableType:
    """Kinds of leftovers by run with objects and size, then what stays and why."""
    lines: list[RenderableType] = [Text(f"Leftovers in {leftovers.place}", style="bold")]
    if leftovers.groups:
        table = plain_table()
        table.add_column("Kind", no_wrap=True)
        table.add_column("Run", overflow="fold")
        for head in ("Objects", "MB"):
            table.add_column(head, justify="right", no_wrap=True)
        for group in leftovers.groups:
            figures = words.count(len(group.urls)), f"{group.bytes / 1e6:,.1f}"
            table.add_row(group.kind, group.run_id or words.UNKNOWN, *figures)
        lines += [table]
    else:
        lines += [Text("None.")]
    lines += [Text(f"Kept: {sentence}.", style="dim") for sentence in leftovers.kept]
    return Group(*lines, Text())
