"""Commands about what lies in storage: look at a run, prove it, remove leftovers.  None of them starts Spark."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid_batch.cli.base import NOT_PROVED, Newest, Run, app, errors_told, terminal


@app.command()
def status(
    run_url: Newest,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again until the run is finished.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=1, help="With --watch: the pause between two looks.")
    ] = 10.0,
) -> None:
    """Show how far a run is, from any machine: rows, rate, tokens, money, errors, and when it last came on."""
    with errors_told():
        from hybrid_batch.reports.console import status_view
        from hybrid_batch.reports.follow import follow
        from hybrid_batch.status import RunLook, find_run

        look, console = RunLook(*find_run(run_url)), terminal()
        if watch:
            follow(look.look, console, every)
        else:
            console.print(status_view(look.look(), console.width), crop=False)


@app.command()
def verify(run_url: Run) -> None:
    """Read everything of a run again and prove it: no row lost or doubled, checksums, tokens, receipts, costs.

    Of an unfinished run, what is committed is verified.  Nothing is written.

    Exit code 0: proved.  2: there is no run, or no plan that this version
    can read.  3: the store failed.  5: something is wrong; the first ids or
    objects are named.
    """
    with errors_told():
        from hybrid_batch.reports.progress import watching
        from hybrid_batch.reports.proof import proof_view
        from hybrid_batch.verification import verify as prove

        with watching(terminal(stderr=True)) as observer:
            proof = prove(run_url, observer)
        console = terminal()
        console.print(proof_view(proof), crop=False)
        if not proof.proved:
            raise typer.Exit(NOT_PROVED)


@app.command()
def clean(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Folder or s3:// URL of a run or of an output.")],
    intermediate: Annotated[
        bool,
        typer.Option(
            "--intermediate",
            help="Also the scored and routed rows of finished runs. Then `verify` cannot hold their results against "
            "the scored table any more, and their failed rows cannot be retried.",
        ),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it. Without this, only say what would be removed.")
    ] = False,
) -> None:
    """Say what leftovers lie in a run or an output, and with --yes remove them.

    Leftovers are unfinished writes and write probes of killed processes,
    once they are an hour old.

    Results, receipts, manifests, dead letters, reports and everything of
    an unfinished run are never touched.
    """
    with errors_told():
        from hybrid_batch.cleaning import find_leftovers, remove
        from hybrid_batch.reports.leftovers import leftovers_view

        found = find_leftovers(target, intermediate=intermediate)
        console = terminal()
        console.print(leftovers_view(found), crop=False)
        if found.groups and yes:
            typer.echo(f"Removed {remove(found):,} objects.")
        elif found.groups:
            typer.echo("Nothing was removed. The same command with --yes removes it.")
