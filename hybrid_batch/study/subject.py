"""The thing under study: a router, labelled queries, and the scores that the one gives the others."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from hybrid_batch.core.errors import ConfigError
from hybrid_batch.core.progress import Observer, Progress
from hybrid_batch.engines.base import RouterRecipe
from hybrid_batch.engines.router_card import RouterCard
from hybrid_batch.labelset import LabelSet, read_labels
from hybrid_batch.routers import router_card
from hybrid_batch.storage import normalise

SCORING: Final = "score"
_CHUNK: Final = 256
"""Queries between two looks at the clock."""


@dataclass(frozen=True)
class Subject:
    """A router at ``url`` with its card, ``labels`` of n queries, and their ``scores``, float64 ``[n]`` in [0, 1].

    ``with_tasks`` says whether the router was told the task of each query, as a job with ``input.columns.task`` does.
    """

    url: str
    card: RouterCard
    labels: LabelSet
    scores: np.ndarray
    with_tasks: bool = False

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def seen_in_training(self) -> bool:
        """Whether these very labels trained the router: then whatever they say of it is too good."""
        return self.labels.fingerprint == trained_on(self.card)

    def take(self, index: np.ndarray) -> Subject:
        """The rows at ``index``, int or bool ``[m]``."""
        return replace(self, labels=self.labels.take(index), scores=self.scores[index])

    def by_task(self) -> dict[str, Subject]:
        """The rows of each task, tasks in the order of their names; rows without a task are in none."""
        tasks = np.array(self.labels.tasks, dtype=object)
        names = sorted({task for task in self.labels.tasks if task is not None})
        return {name: self.take(np.flatnonzero(tasks == name)) for name in names}


def prepare(router_url: str, labels_url: str, observer: Observer, tasks: bool = True) -> Subject:
    """Read the labels and score them with the router; both may be local or ``s3://``.

    A router that can use the task of a query is told it where the labels have one, unless ``tasks`` is False.
    Raises ``ConfigError`` for a folder that is no router, ``InputError`` for labels that cannot be used.
    """
    labels = read_labels(labels_url)
    card = router_card(router_url, "ROUTER")
    observer.note(f"router {card.name}, {len(labels):,} labelled queries")
    told = tasks and card.reads_tasks and any(task is not None for task in labels.tasks)
    return Subject(normalise(router_url), card, labels, scored(router_url, card, labels, observer, told), told)


def scored(router_url: str, card: RouterCard, labels: LabelSet, observer: Observer, tasks: bool) -> np.ndarray:
    """Scores of all queries of ``labels``, float64 ``[n]``; ``tasks`` says whether the router is told theirs.

    Raises ``ConfigError`` if there is no torch.
    """
    from hybrid_batch.spark.executor import router

    require("torch", "transformers")
    scorer = router(RouterRecipe(normalise(router_url), card.fingerprint, "torch-fp32"))
    scores, began, done = np.empty(len(labels)), time.monotonic(), 0
    # Long texts first: batches of like lengths waste less on padding, and the time that is left is not promised short.
    order = np.argsort([-len(prompt) for prompt in labels.prompts], kind="stable")
    for start in range(0, len(order), _CHUNK):
        rows = order[start : start + _CHUNK]
        known = [labels.tasks[row] for row in rows] if tasks else None
        scores[rows] = scorer.score([labels.prompts[row] for row in rows], known)
        done += len(rows)
        observer.progress(Progress(SCORING, done, len(labels), time.monotonic() - began))
    return scores


def trained_on(card: RouterCard) -> str | None:
    """Fingerprint of the label set that trained the router, None where the card does not say."""
    training = card.document.get("training")
    found = training.get("labels") if isinstance(training, Mapping) else None
    if isinstance(found, Mapping):
        found = found.get("fingerprint")
    return found if isinstance(found, str) else None


def require(*packages: str) -> None:
    """Raise ``ConfigError`` if one of the optional ``packages`` that a study uses is not installed."""
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise ConfigError(f"{missing[0]} is not installed; install hybrid-batch[router]")
