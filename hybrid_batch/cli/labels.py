"""Commands about labelled queries: have them answered and judged, or bring them in."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid_batch.cli.base import ConfigFile, Date, Limit, Overrides, app, errors_told, given, terminal


@app.command()
def label(
    config: ConfigFile,
    date: Date = None,
    limit: Limit = None,
    overrides: Overrides = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
) -> None:
    """Have both models answer a sample of queries, and judge the answers.  The same command resumes."""
    with errors_told():
        from hybrid_batch import labelling
        from hybrid_batch.config.labelling import load_label_config
        from hybrid_batch.reports.labelling import labelling_view
        from hybrid_batch.reports.progress import watching

        job = load_label_config(config, given(date, limit, overrides))
        with watching(terminal(stderr=True)) as observer:
            if dry_run:
                labelling.dry_run(job, observer)
                return
            done = labelling.label(job, observer)
        console = terminal()
        if done.already_there:
            typer.secho(f"These queries were labelled before in {done.layout.run_id}; nothing was done.\n", bold=True)
        console.print(labelling_view(done.labels, done.manifest, done.costs, console.width), crop=False)
        typer.echo(f"\nLabels       {done.url}")
        typer.echo("Next         hybrid-batch train CONFIG, with labels.path set to this table")
        labelling.check_label_rate(done, job.run.max_error_rate)


labels = typer.Typer(help="Labelled queries: bring them in from elsewhere.", no_args_is_help=True)
app.add_typer(labels, name="labels")


@labels.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Parquet, CSV, JSON lines, or a JSON list.", show_default=False)
    ],
    output: Annotated[
        str, typer.Argument(metavar="OUT", help="The labels table to write, a .parquet file.", show_default=False)
    ],
    prompt: Annotated[str, typer.Option(metavar="COLUMN", help="Column of the query.", show_default=False)],
    small: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of the small model's quality: a number or a list.")
    ],
    large: Annotated[
        str, typer.Option(metavar="COLUMN", help="Column of the large model's quality; a.b leads into an object.")
    ],
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="Column of ids [default: a hash of the query].")
    ] = None,
    task: Annotated[str | None, typer.Option(metavar="COLUMN", help="Column that names the task of a query.")] = None,
) -> None:
    """Make a labels table from any table that has a quality for each model."""
    with errors_told():
        from hybrid_batch.core.errors import ConfigError
        from hybrid_batch.label_import import Columns, import_labels
        from hybrid_batch.labelset import summary, write_labels
        from hybrid_batch.reports.console import pairs_view

        if not output.endswith(".parquet"):
            raise ConfigError(f"OUT is {output!r}; allowed is a name that ends with .parquet")
        done = import_labels(source, Columns(prompt, small, large, id_column, task))
        write_labels(output, done.labels)
        figures = summary(done.labels)
        rows = [
            ("Rows read", f"{done.rows:,}"),
            ("Labelled queries", f"{len(done.labels):,}, in {figures['tasks']:.0f} tasks"),
            ("Merged", f"{done.merged:,} rows with a prompt that stood there before"),
            ("Left out", f"{done.unanswered:,} rows without a quality of both models"),
            ("Mean quality", f"small {figures['mean_small']:.4g}, large {figures['mean_large']:.4g}"),
            ("Small is", f"as good in {figures['as_good']:.1%}, better in {figures['better']:.1%} of them"),
            ("Labels", output),
        ]
        terminal().print(pairs_view(rows), crop=False)
