"""Fine-tuned encoders as methods of ``benchmarks.routing``: alone, and beside the members of the default recipe."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.routing_methods import Method, Rows, Scores
from hybrid_batch.core.labels import gain_labels
from hybrid_batch.core.progress import Progress
from hybrid_batch.engines.router import load_encoder
from hybrid_batch.engines.surface import surface_features
from hybrid_batch.training.finetune import Examples, FineTune, FineTuned, fine_tune
from hybrid_batch.training.fit import TASKS, Recipe, fit_members, held_out

MAX_LENGTH = 256
_STOP_SHARE, _STOP_SEED = 0.1, 101


class _Silent:
    """An observer that says nothing: minutes pass, and the table comes at their end."""

    def note(self, message: str) -> None: ...

    def progress(self, progress: Progress) -> None: ...


def tuned_methods(encoder: Path) -> dict[str, Method]:
    """Methods that fine-tune the encoder in the folder ``encoder``: minutes each; they come after the frozen ones."""
    return {"finetuned": partial(_by_tuning, encoder), "ensemble": _by_both}


def _by_tuning(encoder: Path, train: Rows, test: Rows, _: Scores) -> np.ndarray:
    """One epoch, the head beginning as fitted; some training rows say when to end."""
    with tempfile.TemporaryDirectory(prefix="hybrid-batch-bench-") as work:
        tuned = _tune(encoder, train, Path(work))
        vectors = load_encoder(tuned.encoder, MAX_LENGTH, device="cpu").embed(test.prompts)
    return tuned.head.score(vectors, surface=surface_features(test.prompts))


def _tune(encoder: Path, train: Rows, work: Path) -> FineTuned:
    rows = Examples(train.prompts, train.tasks, gain_labels(train.q), train.q)
    stop = held_out(train.prompts, _STOP_SHARE, _STOP_SEED)
    learn = rows.take(~stop)
    fitted = fit_members(train.vectors[~stop], learn.targets, learn.tasks, learn.prompts, Recipe((TASKS,)))
    begin = fitted.members[0].head
    return fine_tune(
        encoder, learn, rows.take(stop), FineTune(epochs=1), work, _Silent(), names=fitted.tasks, head=begin
    )  # fmt: skip


def _by_both(_: Rows, __: Rows, scores: Scores) -> np.ndarray:
    """The mean over all members: those of the default recipe, and the fine-tuned one."""
    frozen = len(Recipe().members)
    return (frozen * scores["ours"] + scores["finetuned"]) / (frozen + 1)
