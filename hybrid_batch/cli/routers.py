"""Commands about a router and labelled queries: how good it is, which threshold, whether it serves another pair."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid_batch.cli.base import app, errors_told, terminal
from hybrid_batch.core.errors import ConfigError

if TYPE_CHECKING:
    from hybrid_batch.calibrations import Goal
    from hybrid_batch.labelset import LabelSet
    from hybrid_batch.study.subject import Subject

Router = Annotated[str, typer.Argument(metavar="ROUTER", help="Folder or s3:// URL of a router.", show_default=False)]
Labels = Annotated[
    str,
    typer.Argument(metavar="LABELS", help="Labels table: a file, a folder or an s3:// URL.", show_default=False),
]
Resamples = Annotated[int, typer.Option("--resamples", metavar="N", min=10, help="Bootstrap samples for intervals.")]
Tasks = Annotated[
    bool,
    typer.Option(
        "--tasks/--no-tasks", help="Tell the router the tasks of the labels, as a job with input.columns.task does."
    ),
]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the bootstrap.")]


@app.command()
def evaluate(
    router: Router,
    labels: Labels,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FOLDER", help="Where table and picture go [default: out/evaluations/ROUTER-LABELS]."
        ),
    ] = None,
    label_kind: Annotated[
        str | None,
        typer.Option(
            "--label-kind", metavar="K", help="det, prob, trans or gain [default: what the router was trained for]."
        ),
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    by_task: Annotated[bool, typer.Option("--by-task/--no-by-task", help="Figures for each task, too.")] = True,
    tasks: Tasks = False,
) -> None:
    """Say how good a router is on labelled queries, as a table, as Parquet and as a picture."""
    with errors_told():
        from hybrid_batch.reports.evaluation import evaluation_view
        from hybrid_batch.study import evaluate as study
        from hybrid_batch.study.subject import require

        require("matplotlib")  # before minutes of scoring, not after
        subject = _subject(router, labels, tasks)
        _warn_of_training_rows(subject)
        found = study.evaluate(subject, label_kind, resamples, seed, by_task)
        places = study.save(found, output or study.default_folder(found))
        console = terminal()
        console.print(evaluation_view(found.sections, found.label_kind, found.left_out), crop=False)
        console.print()
        for name, place in places.items():
            _place(name, place)


@app.command()
def calibrate(
    router: Router,
    labels: Labels,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop", metavar="PCT", help="Promise: lose at most PCT percent of the large model's quality."
        ),
    ] = None,
    confidence: Annotated[float, typer.Option("--confidence", metavar="C", help="How sure the promise is.")] = 0.95,
    small_share: Annotated[
        float | None, typer.Option("--small-share", metavar="S", help="Or: this share goes to small, as in 0.4.")
    ] = None,
    max_cost: Annotated[
        str | None, typer.Option("--max-cost", metavar="USD", help="Or: 1,000 queries cost at most USD.")
    ] = None,
    usd_small: Annotated[
        str | None, typer.Option("--usd-small", metavar="USD", help="What 1,000 queries cost with small alone.")
    ] = None,
    usd_large: Annotated[
        str | None, typer.Option("--usd-large", metavar="USD", help="What 1,000 queries cost with large alone.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", metavar="COLUMN", help="A promise for each task of the labels; COLUMN is policy.by of the job."
        ),
    ] = None,
    quality_range: Annotated[
        tuple[float, float],
        typer.Option("--quality-range", metavar="LO HI", help="The lowest and the highest quality that can occur."),
    ] = (0.0, 1.0),
    tasks: Tasks = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Store nothing.")] = False,
) -> None:
    """Find the threshold that keeps a promise, and keep it beside the router for jobs that make that promise."""
    with errors_told():
        from hybrid_batch.calibrations import store
        from hybrid_batch.reports.calibration import calibration_view, usage
        from hybrid_batch.study import calibrate as study

        goal = _goal(max_drop, confidence, small_share, (max_cost, usd_small, usd_large))
        found = study.calibrate(_subject(router, labels, tasks), goal, by, quality_range)
        place = None if dry_run else store(router, found.record)
        console = terminal()
        console.print(calibration_view(found.record, found.paper), crop=False)
        if found.without_group:
            typer.echo(f"\n{found.without_group:,} rows have no task and were left out.")
        console.print()
        if place is None:
            typer.echo("Nothing was stored (--dry-run).")
            return
        _place("Stored", place)
        _place("In a job", usage(found.record))


@app.command("transfer-check")
def transfer_check(
    router: Router,
    labels: Annotated[
        str,
        typer.Argument(metavar="LABELS", help="Labels of the new pair of models.", show_default=False),
    ],
    trained_on: Annotated[
        str | None,
        typer.Option("--trained-on", metavar="LABELS", help="Labels of the pair that the router was trained on."),
    ] = None,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    tasks: Tasks = False,
) -> None:
    """Say whether a router serves another pair of models: reuse it, calibrate it again, or train another."""
    with errors_told():
        from hybrid_batch.reports.progress import watching
        from hybrid_batch.reports.transfer import transfer_view
        from hybrid_batch.study import transfer as study

        subject, old = _subject(router, labels, tasks), _labels(trained_on)
        with watching(terminal(stderr=True)) as observer:
            found = study.transfer_check(subject, old, observer, resamples, seed)
        console = terminal()
        view = transfer_view(found.verdict, found.reason, found.found, found.evaluation, found.joined)
        console.print(view, crop=False)
        console.print()
        typer.echo(study.advice(found.verdict, router, labels))


def _subject(router: str, labels: str, tasks: bool) -> Subject:
    from hybrid_batch.reports.progress import watching
    from hybrid_batch.study.subject import prepare

    with watching(terminal(stderr=True)) as observer:
        return prepare(router, labels, observer, tasks)


def _labels(url: str | None) -> LabelSet | None:
    from hybrid_batch.labelset import read_labels

    return None if url is None else read_labels(url)


def _warn_of_training_rows(subject: Subject) -> None:
    if subject.seen_in_training:
        message = "warning: these rows trained the router; on others it will do worse than the figures say"
        typer.secho(message, fg=typer.colors.YELLOW, bold=True, err=True)


def _goal(
    max_drop: float | None,
    confidence: float,
    small_share: float | None,
    costs: tuple[str | None, str | None, str | None],
) -> Goal:
    from hybrid_batch.study import calibrate as study

    max_cost, *alone = costs
    given = [value for value in (max_drop, small_share, max_cost) if value is not None]
    if len(given) != 1:
        raise ConfigError("give exactly one of --max-drop, --small-share and --max-cost")
    if max_drop is not None:
        return study.promise(max_drop, confidence)
    if small_share is not None:
        return study.share(small_share)
    if None in alone:
        raise ConfigError(
            "--max-cost needs --usd-small and --usd-large, the cost of 1,000 queries with each model alone"
        )
    usd, small, large = (
        _usd(name, text) for name, text in zip(("max-cost", "usd-small", "usd-large"), costs, strict=True)
    )
    return study.budget(usd, small, large)


def _usd(name: str, text: str | None) -> Decimal:
    try:
        amount = Decimal(text or "")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount < 0:
        raise ConfigError(f"--{name} is {text!r}, allowed are amounts of USD, as in 0.80")
    return amount


def _place(name: str, place: str) -> None:
    """A line that can be copied: never wrapped, and short where it lies below the working folder."""
    typer.echo(f"{name:<10}{place.removeprefix(f'{Path.cwd()}/')}")
