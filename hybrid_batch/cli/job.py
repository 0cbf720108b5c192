"""Commands about a job: run it, check it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from hybrid_batch import __version__
from hybrid_batch.cli.base import ConfigFile, Date, Limit, Overrides, app, errors_told, given, load, terminal

if TYPE_CHECKING:
    from hybrid_batch.config import AnswerConfig
    from hybrid_batch.preflight import Finding

NOT_READY: Final = 2


@app.command()
def run(
    config: ConfigFile,
    date: Date = None,
    limit: Limit = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    shards: Annotated[
        int | None,
        typer.Option(
            "--shards", metavar="N", min=0, help="Score and route all, answer N shards of each tier, and stop."
        ),
    ] = None,
    new_run: Annotated[
        bool,
        typer.Option(
            "--new-run",
            help="Start a new run also where one of the same name is unfinished and had other input; that one is left.",
        ),
    ] = False,
) -> None:
    """Answer all queries.  The same command resumes an interrupted run.

    If the input has changed since an unfinished run of the same name began, nothing is started; see --new-run.
    """
    with errors_told():
        from hybrid_batch import pipeline
        from hybrid_batch.reports.console import outcome_view, status_view
        from hybrid_batch.reports.progress import watching

        job = load(config, date, limit, overrides)
        with watching(terminal(stderr=True)) as observer:
            if dry_run:
                pipeline.dry_run(job, observer, new_run=new_run)
                return
            if shards is not None:
                part = pipeline.run_part(job, observer, shards, new_run=new_run)
                terminal().print(status_view(part, terminal().width), crop=False)
                return
            outcome = pipeline.run(job, observer, new_run=new_run)
        console = terminal()
        console.print(outcome_view(outcome, console.width), crop=False)
        pipeline.check_error_rate(outcome, job.run.max_error_rate)


@app.command()
def check(config: ConfigFile, date: Date = None, limit: Limit = None, overrides: Overrides = None) -> None:
    """Explain a configuration and refuse what cannot work.  Nothing is started."""
    with errors_told():
        from hybrid_batch.config.explain import explain
        from hybrid_batch.preflight import ERROR, preflight
        from hybrid_batch.reports.console import findings_view, pairs_view

        job = load(config, date, limit, overrides)
        console = terminal()
        console.print("What will happen", style="bold")
        console.print(pairs_view(explain(job)))
        console.print()
        console.print("What was found", style="bold")
        findings = preflight(job)
        console.print(findings_view((finding.level, finding.field, finding.message) for finding in findings))
        console.print()
        console.print(_verdict(findings), style="bold")
        if any(finding.level == ERROR for finding in findings):
            raise typer.Exit(NOT_READY)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"hybrid-batch {__version__}")


@app.command("spark-properties", hidden=True)
def spark_properties(
    config: str,
    log_file: Path,
    date: Date = None,
    limit: Limit = None,
    overrides: Overrides = None,
    _dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    _shards: Annotated[int | None, typer.Option("--shards")] = None,
    _new_run: Annotated[bool, typer.Option("--new-run")] = False,
    _errors: Annotated[list[str] | None, typer.Option("--errors")] = None,
    file: Annotated[Path | None, typer.Option("--config")] = None,
    label: Annotated[bool, typer.Option("--label")] = False,
    retry: Annotated[bool, typer.Option("--retry")] = False,
) -> None:
    """Print Spark's settings for a run, in the form of a properties file; submit.sh hands them to spark-submit."""
    with errors_told():
        from hybrid_batch.spark.session import retrying, settings

        if retry:
            spark = _retried(config, overrides, file).spark
        elif label:
            spark = _labelling(config, given(date, limit, overrides)).spark
        else:
            spark = load(Path(config), date, limit, overrides).spark
        lines = settings(spark.master, spark.conf, log_file) | (
            {"spark.master": retrying(spark.master)} if spark.master else {}
        )
        for key, value in sorted(lines.items()):
            typer.echo(f"{_property(key)}={_property(value)}")


def _retried(run_url: str, overrides: Sequence[str] | None, file: Path | None) -> AnswerConfig:
    from hybrid_batch.failed import finished_run
    from hybrid_batch.retrying import configured

    return configured(*finished_run(run_url), overrides or (), file)


def _labelling(config: str, overrides: Sequence[str]) -> AnswerConfig:
    from hybrid_batch.config.labelling import load_label_config

    return load_label_config(config, overrides)


def _property(text: str) -> str:
    """``text`` as Java reads it back from a properties file."""
    return re.sub(r"[\\:=#!\s]", lambda found: {"\n": "\\n", "\t": "\\t"}.get(found[0], f"\\{found[0]}"), text)


def _verdict(findings: Sequence[Finding]) -> str:
    errors = sum(finding.level == "error" for finding in findings)
    if not errors:
        return "Ready to run."
    return f"Not ready: {errors} thing{'s' if errors > 1 else ''} to mend."
