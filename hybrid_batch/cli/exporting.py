"""The command that gives a router a faster form."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid_batch.cli.base import app, errors_told, terminal
from hybrid_batch.cli.routers import Router


@app.command()
def export(
    router: Router,
    numbers: Annotated[
        str,
        typer.Option(
            "--numbers", metavar="N", help="int8, the fastest on a CPU, or fp32, which scores as torch does to 0.00002."
        ),
    ] = "int8",
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="LABELS",
            help="Compare scores, tiers and speed on the prompts of this labels table [default: on built-in texts].",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an export of these numbers that is there.")] = False,
) -> None:
    """Export a router to ONNX Runtime, beside it, so that jobs without a GPU score faster."""
    with errors_told():
        from hybrid_batch.reports.export import export_view
        from hybrid_batch.reports.progress import watching
        from hybrid_batch.study import export as study

        with watching(terminal(stderr=True)) as observer:
            done = study.export(router, numbers, observer, labels, force=force)
        console = terminal()
        console.print(export_view(done.export, done.agreement), crop=False)
        console.print()
        typer.echo(f"Exported  {done.place} ({done.bytes / 1e6:,.1f} MB, {done.seconds:.0f} s)")
        typer.echo("In a job  nothing to do: router.backend: auto takes it where there is no GPU")
