"""From labelled vectors to the members of a router, in memory.

::

    fitted = fit_members(vectors, labels, tasks, prompts, Recipe())
    scores = fitted.score(vectors_of_others, surface=surface_features(others))

The members sit on one frozen encoder: its vectors are made once, and an ensemble scores at the price of one router.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import xxhash

from hybrid_batch.engines.head import MixtureHead
from hybrid_batch.engines.surface import SurfaceScale, fit_scale, surface_features
from hybrid_batch.training.mixture import FOLDS, Strength, choose_strength, cluster_parts, fit_mixture, task_parts

TASKS: Final = "tasks"
CLUSTERS: Final = "clusters"
ONE: Final = "one"
AUTO: Final = "auto"


@dataclass(frozen=True)
class Recipe:
    """What the members are.  ``members`` names the parts of each head: ``tasks``, ``clusters``, ``one`` or ``auto``.

    ``auto`` is one head of the tasks where the labels name them, else two of clusters: a cluster is a guess at a task.
    A member of tasks is left out where the labels have none.  ``clusters`` is how many the first member of clusters
    has; each further one has half as many again.  ``seed`` decides clusters and folds.  With ``surface`` they read what
    a query looks like beside its vector (:mod:`hybrid_batch.engines.surface`).
    """

    members: tuple[str, ...] = (AUTO,)
    clusters: int = 24
    seed: int = 0
    surface: bool = True


@dataclass(frozen=True)
class FittedMember:
    """One head, what its parts are, and how strongly it was regularised."""

    parts: str
    head: MixtureHead
    strength: Strength


@dataclass(frozen=True)
class Fitted:
    """The members of a router, and the names of its tasks in the order of the parts of members of tasks."""

    members: tuple[FittedMember, ...]
    tasks: tuple[str, ...]

    def score(
        self, vectors: np.ndarray, tasks: Sequence[str | None] | None = None, surface: np.ndarray | None = None
    ) -> np.ndarray:
        """Mean score of the members, float64 ``[n]`` in [0, 1]; known ``tasks`` choose their expert.

        ``surface`` ``[n, WIDTH]`` are the numbers of the same queries, needed by members that read them.
        """
        places = {name: place for place, name in enumerate(self.tasks)}
        known = None if tasks is None else [places.get(task) if task else None for task in tasks]
        scores = [
            member.head.score(vectors, known if member.parts == TASKS else None, surface) for member in self.members
        ]
        mean: np.ndarray = np.mean(scores, axis=0)
        return mean


def fit_members(
    vectors: np.ndarray,
    labels: np.ndarray,
    tasks: Sequence[str | None],
    prompts: Sequence[str],
    recipe: Recipe,
    strengths: Sequence[Strength] | None = None,
) -> Fitted:
    """Fit on ``vectors`` float ``[n, dim]``, ``labels`` ``[n]`` in [0, 1], ``tasks`` and ``prompts`` of n queries.

    ``strengths`` (one for each member, as an earlier fit chose them) save the cross-validation.
    """
    vectors = np.asarray(vectors, dtype=np.float64)
    parts, names = _parts(vectors, tasks, recipe)
    folds = fold_of(prompts, recipe.seed)
    inputs, scale = _inputs(vectors, prompts) if recipe.surface else (vectors, None)
    chosen = strengths or [choose_strength(inputs, labels, numbers, folds) for _, numbers in parts]
    members = [
        FittedMember(kind, replace(fit_mixture(inputs, labels, numbers, strength), scale=scale), strength)
        for (kind, numbers), strength in zip(parts, chosen, strict=True)
    ]
    return Fitted(tuple(members), names)


def _inputs(vectors: np.ndarray, prompts: Sequence[str]) -> tuple[np.ndarray, SurfaceScale]:
    """What a head reads that reads the surface too: ``[n, dim + WIDTH]``, and the scale of its last numbers."""
    surface = surface_features(prompts)
    scale = fit_scale(surface)
    return np.concatenate([vectors, scale.apply(surface)], axis=1), scale


def fold_of(prompts: Sequence[str], seed: int) -> np.ndarray:
    """Fold of each row, int ``[n]``: a hash of the prompt decides, so equal prompts share one."""
    return np.array([xxhash.xxh3_64_intdigest(_bytes(prompt), seed=seed + 1) % FOLDS for prompt in prompts])


def held_out(prompts: Sequence[str], share: float, seed: int = 0) -> np.ndarray:
    """Which rows are held out, bool ``[n]``, about ``share`` (0 to 1) of them: a hash of the prompt decides."""
    return np.array([xxhash.xxh3_64_intdigest(_bytes(prompt), seed=seed) < share * 2**64 for prompt in prompts])


def _parts(
    vectors: np.ndarray, tasks: Sequence[str | None], recipe: Recipe
) -> tuple[list[tuple[str, np.ndarray]], tuple[str, ...]]:
    found: list[tuple[str, np.ndarray]] = []
    named = task_parts(tasks)
    count = recipe.clusters
    auto = (TASKS,) if named is not None else (CLUSTERS, CLUSTERS)
    kinds = [kind for member in recipe.members for kind in (auto if member == AUTO else (member,))]
    for number, kind in enumerate(kinds):
        if kind == TASKS and named is not None:
            found.append((TASKS, named[0]))
        elif kind == CLUSTERS:
            found.append((CLUSTERS, cluster_parts(vectors, count, recipe.seed + number)))
            count += recipe.clusters // 2
        elif kind == ONE:
            found.append((ONE, np.zeros(len(vectors), dtype=np.int64)))
    if not found:
        found.append((ONE, np.zeros(len(vectors), dtype=np.int64)))
    has_tasks = named is not None and any(kind == TASKS for kind, _ in found)
    return found, named[1] if named is not None and has_tasks else ()


def _bytes(prompt: str) -> bytes:
    return prompt.encode("utf-8", "surrogatepass")
