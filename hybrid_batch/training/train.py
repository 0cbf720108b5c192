"""``train``: from a labels table to a router folder.

The members are fitted on the training rows and judged on validation rows that they never saw; then they are fitted
again, with the strengths that were chosen, on all rows.  The card's figures are those of the first fit: they are
honest, and may be a little too low.
"""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import numpy as np

from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.core.labels import TStar, make_labels
from hybrid_batch.core.metrics import Evaluation, cost_curve, drop_pct, evaluate
from hybrid_batch.core.progress import Observer, Progress
from hybrid_batch.core.routing import ScoreHistogram, to_micros
from hybrid_batch.labelset import LabelSet, read_labels
from hybrid_batch.training.artefact import check_encoder, check_free, write_router
from hybrid_batch.training.fit import Fitted, Recipe, fit_members, held_out

FEWEST = 50
"""Labelled queries below which nothing worth having can be learnt."""
_CHUNK = 256


@dataclass(frozen=True)
class TrainJob:
    """One training: ``labels`` and ``encoder`` are where they lie, ``output`` is the folder to make."""

    name: str
    output: str
    labels: str
    encoder: str
    kind: str = "gain"
    validation: float = 0.2
    use_tasks: bool = True
    max_length: int = 256
    recipe: Recipe = field(default_factory=Recipe)
    pair: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Trained:
    """What a training came to: the router's place and fingerprint, rows, and how it did on ``validation``."""

    output: str
    fingerprint: str
    rows: int
    fitted: Fitted
    validation: Evaluation
    t_star: TStar | None
    seconds: float


def train(job: TrainJob, observer: Observer, *, force: bool = False) -> Trained:
    """Train a router and write it.

    Raises ``ConfigError`` for an encoder or output that cannot be used, ``InputError`` for labels that cannot.
    """
    began = time.monotonic()
    folder = Path(job.encoder).expanduser()
    check_encoder(folder)
    check_free(job.output, force=force)
    labels = _labels(job)
    targets, t_star = make_labels(job.kind, labels.qualities)
    observer.note(f"{len(labels):,} labelled queries, {job.kind} labels of mean {targets.mean():.3f}")
    vectors = _embed(folder, job.max_length, labels.prompts, observer)
    held = held_out(labels.prompts, job.validation)
    _require_both(held, labels)
    first = _fit(job, labels, vectors, targets, ~held, None)
    scores = first.score(vectors[held])
    found = evaluate(scores, labels.qualities.take(held), targets[held])
    observer.note(f"judged on {found.rows:,} validation queries; now fitting on all of them")
    everything = np.ones(len(labels), dtype=bool)
    strengths = [member.strength for member in first.members]
    fitted = _fit(job, labels, vectors, targets, everything, strengths)
    seconds = time.monotonic() - began
    card = _card(job, labels, vectors, fitted, found, t_star, seconds)
    curve = cost_curve(scores, labels.qualities.take(held))
    card["curve"] = [[share, round(drop_pct(curve, share), 4)] for share in np.linspace(0, 1, 51).round(2).tolist()]
    fingerprint = write_router(job.output, folder, fitted, card)
    return Trained(job.output, fingerprint, len(labels), fitted, found, t_star, seconds)


def _labels(job: TrainJob) -> LabelSet:
    labels = read_labels(job.labels)
    if len(labels) < FEWEST:
        raise InputError(f"{labels.source}: {len(labels)} labelled queries; training needs at least {FEWEST}")
    return labels


def _require_both(held: np.ndarray, labels: LabelSet) -> None:
    if not 0 < held.sum() < len(held):
        raise InputError(f"{labels.source}: the validation share leaves no row on one side; give more labels")


def _fit(
    job: TrainJob, labels: LabelSet, vectors: np.ndarray, targets: np.ndarray, rows: np.ndarray, strengths: Any
) -> Fitted:
    places = np.flatnonzero(rows)
    tasks = [labels.tasks[place] if job.use_tasks else None for place in places]
    prompts = [labels.prompts[place] for place in places]
    return fit_members(vectors[rows], targets[rows], tasks, prompts, job.recipe, strengths)


def _embed(folder: Path, max_length: int, prompts: list[str], observer: Observer) -> np.ndarray:
    try:
        from hybrid_batch.engines.router import load_encoder

        encoder = load_encoder(folder, max_length)
    except ImportError as error:
        raise ConfigError(
            f"training needs torch and transformers: {error}; pip install 'hybrid-batch[router]'"
        ) from None
    began, pieces = time.monotonic(), []
    for start in range(0, len(prompts), _CHUNK):
        pieces.append(encoder.embed(prompts[start : start + _CHUNK]))
        done = min(start + _CHUNK, len(prompts))
        observer.progress(Progress("embed", done, len(prompts), time.monotonic() - began))
    return np.concatenate(pieces).astype(np.float64)


def _card(
    job: TrainJob,
    labels: LabelSet,
    vectors: np.ndarray,
    fitted: Fitted,
    found: Evaluation,
    t_star: TStar | None,
    seconds: float,
) -> dict[str, Any]:
    micros, rows = np.unique(to_micros(fitted.score(vectors)), return_counts=True)
    histogram = ScoreHistogram(micros, rows.astype(np.int64)).coarse()
    return {
        "name": job.name,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "label_kind": job.kind,
        "t_star": None if t_star is None else _t_star(t_star),
        "pair": dict(job.pair or {}),
        "encoder": {
            "source": Path(job.encoder).name,
            "pooling": "mean",
            "normalize": True,
            "max_length": job.max_length,
            "dim": int(vectors.shape[1]),
        },
        "training": {
            "rows": len(labels),
            "labels": {"fingerprint": labels.fingerprint},
            "validation": f"{found.rows} rows, chosen by a hash of the prompt",
            "recipe": asdict(job.recipe),
            "seconds": round(seconds, 1),
        },
        "metrics": {"split": "validation", **_plain(asdict(found))},
        "score_histogram": histogram.rows.tolist(),
        "versions": _versions(),
    }


def _t_star(found: TStar) -> dict[str, Any]:
    return {"t": found.t, "candidates": found.candidates.tolist(), "spread": found.spread.round(6).tolist()}


def _plain(value: Any) -> Any:
    """JSON values: keys as text, floats to six digits, NaN as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 6)
    return value


def _versions() -> dict[str, str]:
    shaping = {"numpy", "scipy", "safetensors", "torch", "transformers"}
    found = {name: version(name) for name in sorted(shaping & {one.name for one in distributions()})}
    return {"python": platform.python_version(), **found}
