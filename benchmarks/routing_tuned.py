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
from hybrid_batch.training.finetune import Examples, FineTune, fine_tune
from hybrid_batch.training.fit import held_out
from hybrid_batch.training.mixture import task_parts

MAX_LENGTH = 256
_OPTIONS = FineTune(epochs=2, frozen_layers=3)
_STOP_SHARE, _STOP_SEED = 0.1, 101


class _Silent:
    """An observer that says nothing: minutes pass, and the table comes at their end."""

    def note(self, message: str) -> None: ...

    def progress(self, progress: Progress) -> None: ...


def tuned_methods(encoder: Path) -> dict[str, Method]:
    """Methods that fine-tune the encoder in the folder ``encoder``: minutes each; they come after the frozen ones."""
    return {"finetuned": partial(_by_tuning, encoder), "ensemble": _by_both}


def _by_tuning(encoder: Path, train: Rows, test: Rows, _: Scores) -> np.ndarray:
    """The upper half of the encoder's layers, two epochs, a head from nothing; some training rows say when to end."""
    rows = Examples(train.prompts, train.tasks, gain_labels(train.q), train.q)
    stop = held_out(train.prompts, _STOP_SHARE, _STOP_SEED)
    with tempfile.TemporaryDirectory(prefix="hybrid-batch-bench-") as work:
        tuned = fine_tune(encoder, rows.take(~stop), rows.take(stop), _OPTIONS, Path(work), _Silent())
        vectors = load_encoder(tuned.encoder, MAX_LENGTH, device="cpu").embed(test.prompts)
    return tuned.head.score(vectors)


def _by_both(train: Rows, _: Rows, scores: Scores) -> np.ndarray:
    """The mean over all members: those of the default recipe, and the fine-tuned one."""
    frozen = 1 if task_parts(train.tasks) else 2
    return (frozen * scores["ours"] + scores["finetuned"]) / (frozen + 1)
