"""``train``: from a labels table to a router folder.

Members are made from the training rows and judged on validation rows that they never saw; then they are made again from
all rows (:mod:`hybrid_batch.training.members`).  The card's figures are those of the first making: they are honest, and
may be a little too low.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.core.fingerprint import fingerprint
from hybrid_batch.core.labels import TStar, make_labels
from hybrid_batch.core.metrics import Evaluation, evaluate
from hybrid_batch.core.progress import Observer
from hybrid_batch.engines.tokens import Truncation
from hybrid_batch.labelset import LabelSet, read_labels
from hybrid_batch.storage import is_remote, normalise
from hybrid_batch.training import card
from hybrid_batch.training.artefact import RouterMember, check_free, write_router
from hybrid_batch.training.finetune import Examples, part_names
from hybrid_batch.training.fit import Recipe, held_out
from hybrid_batch.training.members import Judged, Task, Tuning, frozen_members, tuned_members
from hybrid_batch.training.start import Start, plain_start, router_start, scratch

FEWEST = 50
"""Labelled queries below which nothing worth having can be learnt."""


@dataclass(frozen=True)
class TrainJob:
    """One training: ``labels`` is where they lie, ``output`` the folder to make.

    It starts from the text encoder in the folder ``encoder``, or from the router ``init_from`` (local or ``s3://``).
    """

    name: str
    output: str
    labels: str
    encoder: str | None
    kind: str = "gain"
    validation: float = 0.2
    use_tasks: bool = True
    max_length: int = 256
    truncation: Truncation = "head"
    models_per_gpu: int = 1
    recipe: Recipe = field(default_factory=Recipe)
    pair: Mapping[str, str] | None = None
    init_from: str | None = None
    tuning: Tuning | None = None


@dataclass(frozen=True)
class Trained:
    """What a training came to: the router's place and fingerprint, rows, and how it did on ``validation``.

    ``alone`` has the figures of each of ``members`` by itself.
    """

    output: str
    fingerprint: str
    rows: int
    members: tuple[RouterMember, ...]
    validation: Evaluation
    alone: tuple[Mapping[str, Any], ...]
    t_star: TStar | None
    seconds: float


def train(job: TrainJob, observer: Observer, *, force: bool = False) -> Trained:
    """Train a router and write it.  A training that was interrupted goes on where it was.

    Raises ``ConfigError`` for an encoder, router or output that cannot be used, ``InputError`` for labels that cannot.
    """
    began = time.monotonic()
    start = _start(job)
    check_free(job.output, force=force)
    labels = _labels(job)
    targets, t_star = make_labels(job.kind, labels.qualities)
    observer.note(f"{len(labels):,} labelled queries, {job.kind} labels of mean {targets.mean():.3f}")
    held = held_out(labels.prompts, job.validation)
    _require_both(held, labels)
    tasks = labels.tasks if job.use_tasks else [None] * len(labels)
    rows = Examples(labels.prompts, tasks, targets, labels.qualities)
    with _workplace(job.output) as work:
        judged = _members(job, start, Task(rows, held, job.max_length, job.truncation, work, observer))
        scores = np.mean([one.held_scores for one in judged], axis=0)
        q = labels.qualities.take(held)
        found = evaluate(scores, q, targets[held])
        observer.note(f"judged on {found.rows:,} validation queries")
        alone = [card.alone(one.held_scores, q, targets[held]) for one in judged]
        members = [
            replace(one.member, told={**one.member.told, "validation": figures})
            for one, figures in zip(judged, alone, strict=True)
        ]
        seconds = time.monotonic() - began
        dim = members[0].head.dim
        document = {
            **card.base(job.name, job.kind, t_star, job.pair),
            "encoder": card.encoder_entry(start.source, job.max_length, job.truncation, job.models_per_gpu, dim),
            "training": _training(job, start, labels, found, seconds),
            "metrics": {"split": "validation", **card.plain(asdict(found))},
            "score_histogram": card.histogram_entry(np.mean([one.scores for one in judged], axis=0)),
            "versions": card.versions(),
            "curve": card.curve_entry(scores, q),
        }
        name = write_router(job.output, members, part_names(tasks), document)
        shutil.rmtree(work, ignore_errors=True)
    return Trained(job.output, name, len(labels), tuple(members), found, tuple(alone), t_star, seconds)


def _start(job: TrainJob) -> Start:
    if job.init_from is not None:
        return router_start(job.init_from)
    if job.encoder is None:
        raise ConfigError("encoder.model: is required where there is no init_from; allowed is a folder of an encoder")
    return plain_start(job.encoder)


def _members(job: TrainJob, start: Start, task: Task) -> list[Judged]:
    judged = frozen_members(task, start, job.recipe)
    if job.tuning is not None:
        judged += tuned_members(task, start, job.tuning, part_names(task.rows.tasks))
    return judged


@contextmanager
def _workplace(output: str) -> Iterator[Path]:
    """A folder beside the router (or of this machine, for a bucket) that holds what an interrupted training made."""
    place = normalise(output)
    work = scratch() / f"training-{fingerprint(place)}" if is_remote(place) else Path(f"{place}.partial")
    lock = FileLock(Path(tempfile.gettempdir()) / f"hybrid-batch-training-{fingerprint(place)}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ConfigError(f"router.output: another training writes to {place}; wait for it, or end it") from None
    try:
        yield work
    finally:
        lock.release()


def _labels(job: TrainJob) -> LabelSet:
    labels = read_labels(job.labels)
    if len(labels) < FEWEST:
        raise InputError(f"{labels.source}: {len(labels)} labelled queries; training needs at least {FEWEST}")
    return labels


def _require_both(held: np.ndarray, labels: LabelSet) -> None:
    if not 0 < held.sum() < len(held):
        raise InputError(f"{labels.source}: the validation share leaves no row on one side; give more labels")


def _training(job: TrainJob, start: Start, labels: LabelSet, found: Evaluation, seconds: float) -> dict[str, Any]:
    return {
        "rows": len(labels),
        "labels": {"fingerprint": labels.fingerprint},
        "parent": start.parent,
        "validation": f"{found.rows} rows, chosen by a hash of the prompt",
        "recipe": asdict(job.recipe),
        "finetune": None if job.tuning is None else asdict(job.tuning),
        "seconds": round(seconds, 1),
    }
