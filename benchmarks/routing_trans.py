"""What the relaxation t* of trans labels is worth where quality is a real number.

Two cases of the nine-model set.  In ``commongen`` quality is the share of concepts that an answer covers; it is the
only task with such a quality, and has 150 queries.  For all queries, the mean over several models of a size is one too:
what a tier is worth that any of them may serve.  Each side has one quality, so det labels are prob labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.routing_sets import load_models
from hybrid_batch.core.labels import DET, GAIN, PROB, TRANS, Qualities, TStar, find_t_star, make_labels
from hybrid_batch.core.metrics import COST_ADVANTAGES, cost_curve, drop_pct
from hybrid_batch.labelset import LabelSet
from hybrid_batch.training.fit import Recipe, fit_members, held_out

KINDS = (DET, PROB, TRANS, GAIN)
_TEST_SHARE = 0.3


@dataclass(frozen=True)
class TransCase:
    """Which models are each side (their mean quality counts), which task's rows (None: all), how many splits."""

    name: str
    small: tuple[str, ...]
    large: tuple[str, ...]
    task: str | None
    splits: int


CASES = (
    TransCase("mistral-7b->nemotron-51b, commongen", ("mistral-7b",), ("nemotron-51b",), "commongen", 20),
    TransCase(
        "six models of 7 to 9 B->two of 50 B",
        ("mistral-7b", "llama-3.1-8b", "chatqa-8b", "codegemma-7b", "gemma-2-9b", "qwen2.5-7b"),
        ("nemotron-51b", "nemotron-49b"),
        None,
        3,
    ),
)


@dataclass(frozen=True)
class TransStudy:
    """One case.  ``drops`` has for each kind of label the mean drop (percent) at each of :data:`COST_ADVANTAGES`.

    ``error`` is the standard deviation of that over the splits, by the root of their number; ``random`` the drop of a
    random order.
    """

    case: TransCase
    q: Qualities
    t_star: TStar
    drops: Mapping[str, np.ndarray]
    error: Mapping[str, np.ndarray]
    random: np.ndarray


def case_labels(case: TransCase, root: Path) -> LabelSet:
    """The rows of ``case`` in the data below ``root``."""
    labels = load_models(case.small, case.large, root)
    chosen = [case.task in (None, task) for task in labels.tasks]
    return labels.take(np.array(chosen))


def study(case: TransCase, labels: LabelSet, vectors: np.ndarray) -> TransStudy:
    """Linear heads on the same ``vectors`` ``[n, dim]``, one for each kind of label, on several splits."""
    q = labels.qualities
    found: dict[str, list[list[float]]] = {kind: [] for kind in (*KINDS, "random")}
    for seed in range(case.splits):
        test = held_out(labels.prompts, _TEST_SHARE, seed)
        train, judges = labels.take(~test), q.take(test)
        for kind in KINDS:
            found[kind].append(_drops(_score(kind, train, vectors[~test], vectors[test]), judges))
        found["random"].append(_drops(np.zeros(len(judges)), judges))
    means = {kind: np.mean(values, axis=0) for kind, values in found.items()}
    error = {kind: np.std(values, axis=0, ddof=1) / np.sqrt(case.splits) for kind, values in found.items()}
    drops, error = ({kind: values[kind] for kind in KINDS} for values in (means, error))
    return TransStudy(case, q, find_t_star(q), drops, error, means["random"])


def _score(kind: str, train: LabelSet, vectors: np.ndarray, others: np.ndarray) -> np.ndarray:
    targets, _ = make_labels(kind, train.qualities)
    return fit_members(vectors, targets, train.tasks, train.prompts, Recipe(("one",), surface=False)).score(others)


def _drops(scores: np.ndarray, q: Qualities) -> list[float]:
    curve = cost_curve(scores, q)
    return [drop_pct(curve, share) for share in COST_ADVANTAGES]
