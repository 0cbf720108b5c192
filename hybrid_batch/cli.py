"""The command line.  Rooms are imported inside the commands, so that help comes at once."""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer

from hybrid_batch import __version__
from hybrid_batch.core.errors import HybridBatchError

if TYPE_CHECKING:
    from rich.console import Console

    from hybrid_batch.config import JobConfig
    from hybrid_batch.preflight import Finding

DEBUG_VARIABLE: Final = "HYBRID_BATCH_DEBUG"
NOT_READY: Final = 2
INTERRUPTED: Final = 130
TERMINATED: Final = 143

app = typer.Typer(
    help="Batch inference on two language models at the least cost for a promised quality.",
    epilog=f"Set {DEBUG_VARIABLE}=1 to see where an error came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration file (YAML).", show_default=False)]
Date = Annotated[
    str | None, typer.Option("--date", metavar="D", help="run.date, as in 2026-11-23.", show_default=False)
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="Only the first N queries.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a value, as in sampling.max_tokens=64; repeatable."),
]


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
) -> None:
    """Answer all queries.  The same command resumes an interrupted run."""
    with _errors_told():
        from hybrid_batch import pipeline
        from hybrid_batch.reports.console import outcome_view, status_view
        from hybrid_batch.reports.progress import watching

        job = _load(config, date, limit, overrides)
        with watching(_console(stderr=True)) as observer:
            if dry_run:
                pipeline.dry_run(job, observer)
                return
            if shards is not None:
                part = pipeline.run_part(job, observer, shards)
                _console().print(status_view(part, _console().width), crop=False)
                return
            outcome = pipeline.run(job, observer)
        console = _console()
        console.print(outcome_view(outcome, console.width), crop=False)
        pipeline.check_error_rate(outcome, job.run.max_error_rate)


@app.command()
def check(config: ConfigFile, date: Date = None, limit: Limit = None, overrides: Overrides = None) -> None:
    """Explain a configuration and refuse what cannot work.  Nothing is started."""
    with _errors_told():
        from hybrid_batch.config.explain import explain
        from hybrid_batch.preflight import ERROR, preflight
        from hybrid_batch.reports.console import findings_view, pairs_view

        job = _load(config, date, limit, overrides)
        console = _console()
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
def status(
    run_url: Annotated[
        str, typer.Argument(metavar="RUN", help="Folder or s3:// URL of a run, or of an output: then its newest run.")
    ],
) -> None:
    """Show how far a run is, from any machine."""
    with _errors_told():
        from hybrid_batch import pipeline
        from hybrid_batch.reports.console import status_view

        console = _console()
        console.print(status_view(pipeline.status(run_url), console.width), crop=False)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"hybrid-batch {__version__}")


@app.command("spark-properties", hidden=True)
def spark_properties(
    config: ConfigFile,
    log_file: Path,
    date: Date = None,
    limit: Limit = None,
    overrides: Overrides = None,
    _dry_run: Annotated[bool, typer.Option("--dry-run")] = False,
    _shards: Annotated[int | None, typer.Option("--shards")] = None,
) -> None:
    """Print Spark's settings for a run, in the form of a properties file; submit.sh hands them to spark-submit."""
    with _errors_told():
        from hybrid_batch.spark.session import retrying, settings

        spark = _load(config, date, limit, overrides).spark
        lines = settings(spark.master, spark.conf, log_file) | (
            {"spark.master": retrying(spark.master)} if spark.master else {}
        )
        for key, value in sorted(lines.items()):
            typer.echo(f"{_property(key)}={_property(value)}")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; also the body of the spark-submit job."""
    app(args=None if arguments is None else list(arguments), prog_name="hybrid-batch")
    raise SystemExit(0)


def _load(config: Path, date: str | None, limit: int | None, overrides: Sequence[str] | None) -> JobConfig:
    from hybrid_batch.config import load_config

    given = list(overrides or ())
    given += [] if date is None else [f"run.date={date}"]
    given += [] if limit is None else [f"input.limit={limit}"]
    return load_config(config, given)


def _property(text: str) -> str:
    """``text`` as Java reads it back from a properties file."""
    return re.sub(r"[\\:=#!\s]", lambda found: {"\n": "\\n", "\t": "\\t"}.get(found[0], f"\\{found[0]}"), text)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def _verdict(findings: Sequence[Finding]) -> str:
    errors = sum(finding.level == "error" for finding in findings)
    if not errors:
        return "Ready to run."
    return f"Not ready: {errors} thing{'s' if errors > 1 else ''} to mend."


@contextmanager
def _errors_told() -> Iterator[None]:
    """Errors of ours become one sentence and their exit code; an interruption says how to go on."""
    interrupted_as = INTERRUPTED

    def terminate(_number: int, frame: FrameType | None) -> None:
        # What is installed for Ctrl-C also ends Spark's jobs; without that, leaving the job would wait for them.
        nonlocal interrupted_as
        interrupted_as = TERMINATED
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except (HybridBatchError, KeyboardInterrupt) as error:
        if os.environ.get(DEBUG_VARIABLE) == "1":
            traceback.print_exc(file=sys.stderr)
        if isinstance(error, HybridBatchError):
            _tell(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        _tell("interrupted; run the same command to resume")
        raise typer.Exit(interrupted_as) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell(message: str) -> None:
    """The first line in red where that is a terminal; the whole message as it is, never wrapped."""
    first, _, rest = message.partition("\n")
    typer.secho(first, fg=typer.colors.RED, bold=True, err=True)
    if rest:
        typer.echo(rest, err=True)
