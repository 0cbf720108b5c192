"""Fine-tuned encoders as methods of ``benchmarks.routing``: alone, and beside the members of the default recipe."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.routing_methods import Method, Rows, Scores
from hybrid_batch.core.labels import gain_labels
from hybrid_batch.core.progress import Progress
from hybrid_batch.demo.models import ensure_model
from hybrid_batch.engines.router import load_encoder
from hybrid_batch.training.finetune import Examples, FineTune, fine_tune
from hybrid_batch.training.fit import Recipe, held_out

MAX_LENGTH = 256
_STOP_SHARE, _STOP_SEED = 0.1, 101


class _Silent:
    """An observer that says nothing: minutes pass, and the table comes at their end."""

    def note(self, text: str) -> None: ...

    def progress(self, progress: Progress) -> None: ...


def by_tuning(train: Rows, test: Rows, _: Scores) -> np.ndarray:
    """One encoder, fine-tuned with the default settings; a tenth of the training rows says when to end."""
    rows = Examples(train.prompts, train.tasks, gain_labels(train.q), train.q)
    stop = held_out(train.prompts, _STOP_SHARE, _STOP_SEED)
    with tempfile.TemporaryDirectory(prefix="hybrid-batch-bench-") as work:
        tuned = fine_tune(
            ensure_model("all-minilm-l6-v2"), rows.take(~stop), rows.take(stop), FineTune(), Path(work), _Silent()
        )
        vectors = load_encoder(tuned.encoder, MAX_LENGTH, device="cpu").embed(test.prompts)
        return tuned.head.score(vectors)


def by_both(_: Rows, __: Rows, scores: Scores) -> np.ndarray:
    """The mean over all members: those of the default recipe, and the fine-tuned one."""
    frozen = len(Recipe().members)
    return (frozen * scores["ours"] + scores["finetuned"]) / (frozen + 1)


TUNED: dict[str, Method] = {"finetuned": by_tuning, "ensemble": by_both}
"""Minutes for each set; they come after the frozen methods."""
