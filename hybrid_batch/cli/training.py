"""The command that trains a router."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid_batch.cli.base import ConfigFile, Overrides, app, errors_told, terminal


@app.command()
def train(
    config: ConfigFile,
    overrides: Overrides = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a router that lies there already.")] = False,
) -> None:
    """Train a router on labelled queries."""
    with errors_told():
        from hybrid_batch.config.training import load_train_config
        from hybrid_batch.reports.progress import watching
        from hybrid_batch.reports.training import training_view
        from hybrid_batch.training.fit import Recipe
        from hybrid_batch.training.train import TrainJob
        from hybrid_batch.training.train import train as train_router

        asked = load_train_config(config, overrides or ())
        job = TrainJob(
            name=asked.router.name,
            output=asked.router.output,
            labels=asked.labels.path,
            encoder=asked.encoder.model,
            kind=asked.labels.kind,
            validation=asked.labels.validation,
            use_tasks=asked.labels.use_tasks,
            max_length=asked.encoder.max_length,
            recipe=Recipe(asked.head.members, asked.head.clusters, asked.head.seed),
            pair=None if asked.pair is None else asked.pair.model_dump(),
        )
        with watching(terminal(stderr=True)) as observer:
            done = train_router(job, observer, force=force)
        t_star = None if done.t_star is None else done.t_star.t
        members = [f"{member.parts} ({member.head.parts})" for member in done.fitted.members]
        terminal().print(training_view(done.validation, done.rows, members, t_star, done.seconds), crop=False)
        typer.echo(f"\nRouter       {done.output}")
        typer.echo(f"Next         hybrid-batch calibrate {done.output} OTHER_LABELS --max-drop 1.0")
