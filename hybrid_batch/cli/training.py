"""The command that trains a router."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from hybrid_batch.cli.base import ConfigFile, Overrides, app, errors_told, terminal

if TYPE_CHECKING:
    from hybrid_batch.config.training import TrainConfig
    from hybrid_batch.training.artefact import RouterMember
    from hybrid_batch.training.train import Trained, TrainJob


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
        from hybrid_batch.reports.training import members_view, training_view
        from hybrid_batch.training.train import train as train_router

        asked = load_train_config(config, overrides or ())
        with watching(terminal(stderr=True)) as observer:
            done = train_router(_job(asked), observer, force=force)
        names = [_name(member) for member in done.members]
        t_star = None if done.t_star is None else done.t_star.t
        terminal().print(training_view(done.validation, done.rows, done.seconds), crop=False)
        if len(names) > 1:
            terminal().print(members_view(done.alone, names), crop=False)
        if t_star is not None:
            typer.echo(f"trans labels with t* = {t_star:.4g}")
        typer.echo(f"\nRouter       {done.output}")
        for picture in _pictures(done):
            typer.echo(f"Picture      {picture}")
        typer.echo(f"Next         hybrid-batch calibrate {done.output} OTHER_LABELS --max-drop 1.0")


def _job(asked: TrainConfig) -> TrainJob:
    from hybrid_batch.training.finetune import FineTune
    from hybrid_batch.training.fit import Recipe
    from hybrid_batch.training.members import Tuning
    from hybrid_batch.training.train import TrainJob

    given = asked.finetune.model_dump()
    ours = {name: given.pop(name) for name in ("members", "stop", "refit", "warm_start")}
    return TrainJob(
        name=asked.router.name,
        output=asked.router.output,
        labels=asked.labels.path,
        encoder=asked.encoder.model,
        kind=asked.labels.kind,
        validation=asked.labels.validation,
        use_tasks=asked.labels.use_tasks,
        max_length=asked.encoder.max_length,
        truncation=asked.encoder.truncation,
        models_per_gpu=asked.encoder.models_per_gpu,
        recipe=Recipe(asked.head.members, asked.head.clusters, asked.head.seed, asked.head.surface),
        pair=None if asked.pair is None else asked.pair.model_dump(),
        init_from=asked.init_from,
        tuning=Tuning(FineTune(truncation=asked.encoder.truncation, **given), **ours)
        if asked.finetune.epochs
        else None,
    )


def _name(member: RouterMember) -> str:
    tuned = "fine-tuned, " if "finetune" in member.told else ""
    return f"{tuned}{member.parts} ({member.head.parts})"


def _pictures(done: Trained) -> list[str]:
    """Draw what there is to see beside the router -> where it lies; nothing where matplotlib is not installed."""
    from hybrid_batch.reports.learning import History, learning_png, t_star_png
    from hybrid_batch.storage import join, normalise, open_store

    if find_spec("matplotlib") is None:
        return []
    folder, drawn = f"{normalise(done.output)}-report", {}
    if done.t_star is not None:
        drawn["t-star.png"] = t_star_png(done.t_star)
    if histories := [History.of(member.told["finetune"]) for member in done.members if "finetune" in member.told]:
        drawn["learning.png"] = learning_png(histories)
    for name, content in drawn.items():
        open_store(folder).put(join(folder, name), content)
    return [join(folder, name) for name in drawn]
