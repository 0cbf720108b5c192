"""The command that asks for failed rows of a finished run again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid_batch.cli.base import Overrides, Run, app, errors_told, terminal

if TYPE_CHECKING:
    from hybrid_batch.outcome import RunOutcome
    from hybrid_batch.retrying import Retry

Errors = Annotated[
    list[str] | None,
    typer.Option(
        "--errors",
        metavar="KIND",
        help="Kind of error whose rows are asked again; repeatable. passing: all kinds that may pass by themselves.",
    ),
]
Started = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The file that started the run, for what its record hides: secrets, the environment of engines.",
        show_default=False,
    ),
]


@app.command()
def retry(
    run_url: Run,
    errors: Errors = None,
    overrides: Overrides = None,
    config: Started = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
) -> None:
    """Answer failed rows of a finished run again, as a small run of their own.  The same command resumes.

    Without --errors the kinds of its failed rows are listed, and nothing is done.  The configuration is that of the
    run; --set changes it, as in --set tiers.large.request_timeout_s=1800.  The finished run is not touched.
    """
    with errors_told():
        from hybrid_batch import failed, pipeline, retrying
        from hybrid_batch.reports.console import failures_view, outcome_view

        console, found = terminal(), failed.failures_of(run_url)
        if not errors:
            console.print(failures_view(found.kinds, found.refused, failed.PASSING), crop=False)
            return
        kinds = failed.chosen(found, errors)
        settings = retrying.configured(found.ledger, found.plan, overrides or (), config)
        outcome = _done(retrying.Retry(found, kinds, settings), dry_run)
        if outcome is not None:
            console.print(outcome_view(outcome, console.width), crop=False)
            pipeline.check_error_rate(outcome, settings.run.max_error_rate)


def _done(asked: Retry, dry_run: bool) -> RunOutcome | None:
    """What the retry came to; None where there is nothing to do, or nothing is to be done."""
    from hybrid_batch import failed, retrying
    from hybrid_batch.reports.progress import watching

    with watching(terminal(stderr=True)) as observer:
        if not asked.rows:
            observer.note(f"nothing to do: no row failed with {', '.join(sorted(asked.kinds))}")
            observer.note(failed.told(asked.of))
            return None
        if dry_run:
            retrying.dry_run(asked, observer)
            return None
        return retrying.retry(asked, observer)
