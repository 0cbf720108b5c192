"""The members of a router: heads on frozen encoders, and encoders that are fine-tuned, each judged before it is final.

Every member is made twice: from the training rows, to be judged on rows that it never saw, and (heads always, encoders
where that is asked for) from all rows, to be used.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.core.progress import Observer, Progress
from hybrid_batch.engines.head import MixtureHead
from hybrid_batch.engines.router_card import ENCODER_FILES, file_record
from hybrid_batch.engines.surface import surface_features
from hybrid_batch.engines.tokens import Truncation
from hybrid_batch.training.artefact import RouterMember
from hybrid_batch.training.finetune import Examples, FineTune, FineTuned, fine_tune
from hybrid_batch.training.fit import ONE, TASKS, Fitted, Recipe, fit_members, held_out
from hybrid_batch.training.mixture import Strength
from hybrid_batch.training.start import Start, head_for_parts

_CHUNK = 256
_STOP_SEED = 101
"""Seed of the hash that chooses stop rows: another one than that of the validation rows."""
_WARM = Strength(100.0, 100.0)
"""How strongly a head to begin with is regularised: so much that it leaves something to learn."""


@dataclass(frozen=True)
class Tuning:
    """Which fine-tuned members join: ``members`` of them, with seeds from ``options.seed`` on.

    ``stop`` is the share of the training rows that decides when to end.  With ``refit`` an encoder is trained again on
    all rows, up to the same share of its schedule; without, the one that was judged is used.  With ``warm_start`` gate
    and experts begin as they are fitted on the encoder as it is; an earlier router's head goes before that.
    """

    options: FineTune
    members: int = 1
    stop: float = 0.1
    refit: bool = True
    warm_start: bool = False


@dataclass(frozen=True)
class Judged:
    """A final ``member`` and its ``scores`` ``[n]`` of all rows; ``held_scores`` ``[m]`` are those of the one that was

    made without the m validation rows.
    """

    member: RouterMember
    held_scores: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Task:
    """What members learn: ``rows``, those that only judge (``held``, bool ``[n]``), and which tokens are read."""

    rows: Examples
    held: np.ndarray
    max_length: int
    truncation: Truncation
    work: Path
    observer: Observer


def frozen_members(task: Task, start: Start, recipe: Recipe) -> list[Judged]:
    """Heads of ``recipe`` on each encoder of ``start`` as it is; none where the recipe has no members."""
    found: list[Judged] = []
    if not recipe.members:
        return found
    surface = surface_features(task.rows.prompts)
    for number, encoder in enumerate(start.encoders):
        vectors = embed(task, encoder, f"embed {number + 1}")
        first = _fit(vectors, task.rows, ~task.held, recipe, None)
        every = np.ones(len(task.rows), dtype=bool)
        final = _fit(vectors, task.rows, every, recipe, first)
        for judged, member in zip(first.members, final.members, strict=True):
            kept = RouterMember(member.parts, member.head, encoder, {"strength": asdict(member.strength)})
            held_scores = judged.head.score(vectors[task.held], surface=surface[task.held])
            found.append(Judged(kept, held_scores, member.head.score(vectors, surface=surface)))
    return found


def tuned_members(task: Task, start: Start, tuning: Tuning, names: Sequence[str]) -> list[Judged]:
    """Fine-tuned encoders, each with a head whose parts are the tasks ``names`` (or one part)."""
    return [_tuned(task, start, tuning, names, number) for number in range(tuning.members)]


def _tuned(task: Task, start: Start, tuning: Tuning, names: Sequence[str], number: int) -> Judged:
    options = replace(tuning.options, seed=tuning.options.seed + number)
    # The last encoder of a router is one that was fine-tuned, if any was.
    place = len(start.encoders) - 1 - number % len(start.encoders)
    encoder = start.encoders[place]
    learn = task.rows.take(~task.held)
    stop = held_out(learn.prompts, tuning.stop, _STOP_SEED)
    if not 0 < stop.sum() < len(stop):
        raise ConfigError(f"finetune.stop: {tuning.stop:g} of {len(stop):,} rows leaves none on one side")
    label = f"fine-tune {number + 1}"
    parent = start.head_for(place, names, surface=options.surface)
    every = np.arange(len(task.rows))
    seen = np.flatnonzero(~task.held)[~stop]
    first = fine_tune(
        encoder, learn.take(~stop), learn.take(stop), options, task.work / f"tuned-{number}", task.observer,
        names=names, head=parent or _warm(task, encoder, seen, names, tuning), stage=label,
    )  # fmt: skip
    task.observer.note(f"{label}: keeps step {first.best_step:,} of {first.steps:,}")
    final = first
    if tuning.refit:
        begin = parent or _warm(task, encoder, every, names, tuning)
        final = fine_tune(
            encoder, task.rows, None, options, task.work / f"refit-{number}", task.observer,
            names=names, head=begin, until=first.best_step / first.steps, stage=f"refit {number + 1}",
        )  # fmt: skip
    vectors = embed(task, final.encoder, f"embed tuned {number + 1}")
    held_vectors = (
        vectors[task.held] if final is first else embed(task, first.encoder, f"embed held {number + 1}", task.held)
    )
    member = RouterMember(TASKS if names else ONE, final.head, final.encoder, _told(first, final, options))
    surface = surface_features(task.rows.prompts)
    held_scores = first.head.score(held_vectors, surface=surface[task.held])
    return Judged(member, held_scores, final.head.score(vectors, surface=surface))


def _warm(task: Task, encoder: Path, rows: np.ndarray, names: Sequence[str], tuning: Tuning) -> MixtureHead | None:
    """A head for the parts ``names``, fitted on ``rows`` (int ``[m]``) of the encoder as it is."""
    if not tuning.warm_start:
        return None
    part, surface = task.rows.take(rows), tuning.options.surface
    recipe = Recipe((TASKS if names else ONE,), surface=surface)
    vectors = embed(task, encoder, "embed start")[rows]
    fitted = fit_members(vectors, part.targets, part.tasks, part.prompts, recipe, [_WARM])
    (member,) = fitted.members
    return member.head if not names else head_for_parts(member.head, fitted.tasks, names, surface=surface)


def _told(first: FineTuned, final: FineTuned, options: FineTune) -> dict[str, Any]:
    return {
        "finetune": {
            "seed": options.seed,
            "best_step": first.best_step,
            "steps": first.steps,
            "history": list(first.history),
            "refit": None if final is first else {"best_step": final.best_step, "history": list(final.history)},
        }
    }


def _fit(vectors: np.ndarray, rows: Examples, chosen: np.ndarray, recipe: Recipe, before: Fitted | None) -> Fitted:
    """Heads on the ``chosen`` rows, as strongly regularised as ``before`` where there is such."""
    part = rows.take(chosen)
    strengths = None if before is None else [member.strength for member in before.members]
    return fit_members(vectors[chosen], part.targets, part.tasks, part.prompts, recipe, strengths)


def embed(task: Task, folder: Path, stage: str, chosen: np.ndarray | None = None) -> np.ndarray:
    """Vectors float64 ``[n, dim]`` of the rows (or of the ``chosen`` ones), as the scorer makes them.

    They are kept in the work folder: an interrupted training does not read the queries again.
    """
    prompts = list(task.rows.prompts) if chosen is None else list(task.rows.take(chosen).prompts)
    weights = {name: file_record(folder / name).sha256 for name in ENCODER_FILES}
    kept = task.work / f"vectors-{fingerprint([weights, prompts, task.max_length, task.truncation])}.safetensors"
    if kept.is_file():
        return _load(kept)
    vectors = _embed(folder, task, prompts, stage)
    _save(kept, vectors)
    return vectors.astype(np.float64)


def _embed(folder: Path, task: Task, prompts: list[str], stage: str) -> np.ndarray:
    try:
        from hybrid_batch.engines.router import load_encoder

        encoder = load_encoder(folder, task.max_length, numbers="fp32", truncation=task.truncation)
    except ImportError as error:
        raise ConfigError(
            f"training needs torch and transformers: {error}; pip install 'hybrid-batch[router]'"
        ) from None
    began, done = time.monotonic(), 0
    vectors = np.zeros((len(prompts), encoder.dim), dtype=np.float32)
    # Long texts first: batches of like lengths waste less on padding.
    order = np.argsort([-len(prompt) for prompt in prompts], kind="stable")
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        vectors[rows] = encoder.embed([prompts[row] for row in rows])
        done += len(rows)
        task.observer.progress(Progress(stage, done, len(prompts), time.monotonic() - began))
    return vectors


def _save(path: Path, vectors: np.ndarray) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    save_file({"vectors": vectors}, temporary)
    temporary.replace(path)


def _load(path: Path) -> np.ndarray:
    from safetensors.numpy import load_file

    vectors: np.ndarray = load_file(path)["vectors"].astype(np.float64)
    return vectors
