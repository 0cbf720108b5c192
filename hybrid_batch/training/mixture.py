"""Fitting a head on vectors that stay as they are: convex pieces, L-BFGS, seconds on a CPU.

Two steps.  The gate is a multinomial logistic regression of the part (the task where tasks are known, else the cluster
of the vector).  The experts are one logistic regression for each part, all of them drawn towards a common one, on the
label of the router.  How strongly they are drawn is chosen by cross-validation inside the training rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hybrid_batch.engines.head import MixtureHead, sigmoid, softmax

STRENGTHS = ((10.0, 3.0), (30.0, 10.0), (30.0, 30.0), (100.0, 100.0), (300.0, 300.0), (1000.0, 1000.0))
"""Candidates of (own, shared) L2 strength: of what sets an expert apart, and of what all experts share."""

GATE_L2 = 0.3
FOLDS = 5
MIN_PART_ROWS = 20
"""Rows below which a task is no part of its own: a gate cannot learn it."""
_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Strength:
    """L2 strengths: of an expert's ``own`` deviation, of the ``shared`` weight vector."""

    own: float
    shared: float


def fit_mixture(vectors: np.ndarray, labels: np.ndarray, parts: np.ndarray, strength: Strength) -> MixtureHead:
    """A head for ``vectors`` [n, dim], ``labels`` [n] in [0, 1] and ``parts`` [n] (numbers from 0, none left out)."""
    count = int(parts.max()) + 1
    gate_weight, gate_bias = fit_gate(vectors, parts, count)
    weight, bias = fit_experts(vectors, labels, parts, count, strength)
    return MixtureHead(gate_weight, gate_bias, weight, bias)


def choose_strength(vectors: np.ndarray, labels: np.ndarray, parts: np.ndarray, folds: np.ndarray) -> Strength:
    """The candidate of :data:`STRENGTHS` with the least log loss in cross-validation over ``folds`` [n]."""
    losses = {}
    gates = {fold: _fold_gate(vectors, parts, folds != fold) for fold in np.unique(folds)}
    for own, shared in STRENGTHS:
        strength = Strength(own, shared)
        chance = np.empty(len(labels))
        for fold, (weight, bias) in gates.items():
            held = folds == fold
            experts = fit_experts(vectors[~held], labels[~held], parts[~held], len(bias), strength)
            chance[held] = MixtureHead(weight, bias, *experts).score(vectors[held])
        losses[strength] = log_loss(chance, labels)
    return min(losses, key=lambda strength: losses[strength])


def fit_gate(vectors: np.ndarray, parts: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression of the part: weight [count, dim], bias [count]; zeros for one part."""
    dim = vectors.shape[1]
    if count == 1:
        return np.zeros((1, dim)), np.zeros(1)
    target = np.eye(count)[parts]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = flat[:-count].reshape(count, dim), flat[-count:]
        chance = softmax(vectors @ weight.T + bias)
        value = -np.log(np.maximum(chance[target > 0], 1e-300)).sum() + GATE_L2 / 2 * (weight**2).sum()
        slope = chance - target
        return float(value), np.concatenate([(slope.T @ vectors + GATE_L2 * weight).ravel(), slope.sum(axis=0)])

    solution = _minimise(loss, np.zeros(count * (dim + 1)))
    return solution[:-count].reshape(count, dim), solution[-count:]


def fit_experts(
    vectors: np.ndarray, labels: np.ndarray, parts: np.ndarray, count: int, strength: Strength
) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regressions that share what they can: weight [count, dim], bias [count].

    Minimises the summed log loss plus ``own / 2`` times each expert's squared deviation from the shared weights and
    ``shared / 2`` times those squared; an expert's bias is drawn weakly to the shared one, which is free.
    """
    dim = vectors.shape[1]
    size = count * dim
    # Rows of a part side by side: then each part is one product of matrices.
    order = np.argsort(parts, kind="stable")
    vectors, labels, parts = vectors[order], labels[order], parts[order]
    ends = np.searchsorted(parts, np.arange(count + 1))
    blocks = [slice(start, end) for start, end in pairwise(ends)]

    def unpack(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        return flat[:size].reshape(count, dim), flat[size : size + dim], flat[size + dim : -1], flat[-1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        own, shared, bias, base = unpack(flat)
        deviations = [vectors[block] @ one for block, one in zip(blocks, own, strict=True)]
        logits = np.concatenate(deviations) + vectors @ shared + bias[parts] + base
        # log(1 + exp(z)) - y z, for soft labels too
        value = (np.logaddexp(0.0, logits) - labels * logits).sum()
        value += strength.own / 2 * (own**2).sum() + strength.shared / 2 * (shared**2).sum() + (bias**2).sum() / 2
        slope = sigmoid(logits) - labels
        own_slope = np.stack([slope[block] @ vectors[block] for block in blocks])
        slopes = (
            (own_slope + strength.own * own).ravel(),
            slope @ vectors + strength.shared * shared,
            np.bincount(parts, weights=slope, minlength=count) + bias,
            [slope.sum()],
        )
        return float(value), np.concatenate(slopes)

    own, shared, bias, base = unpack(_minimise(loss, np.zeros(size + dim + count + 1)))
    return own + shared, bias + base


def task_parts(tasks: Sequence[str | None]) -> tuple[np.ndarray, tuple[str, ...]] | None:
    """Part [n] of each row and the names of the parts, from tasks with at least :data:`MIN_PART_ROWS` rows.

    Rows of rarer tasks and of none share a last part without a name (""), if there are any.  None if fewer than two
    parts are left.
    """
    names, counts = np.unique([task or "" for task in tasks], return_counts=True)
    large = [str(name) for name, rows in zip(names, counts, strict=True) if name and rows >= MIN_PART_ROWS]
    place = {name: number for number, name in enumerate(large)}
    parts = np.array([place.get(task or "", len(large)) for task in tasks])
    found = (*large, "") if (parts == len(large)).any() else tuple(large)
    return (parts, found) if len(found) > 1 else None


def cluster_parts(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Part [n] of each row: its cluster among at most ``count`` by k-means, empty ones left out."""
    from scipy.cluster.vq import kmeans2

    count = max(1, min(count, len(vectors) // MIN_PART_ROWS))
    _, parts = kmeans2(vectors, count, iter=25, minit="++", rng=np.random.default_rng(seed))
    return np.unique(parts, return_inverse=True)[1]


def log_loss(chance: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy of ``chance`` [n] against ``labels`` [n] in [0, 1]."""
    safe = np.clip(chance, 1e-9, 1 - 1e-9)
    return float(-(labels * np.log(safe) + (1 - labels) * np.log(1 - safe)).mean())


def _fold_gate(vectors: np.ndarray, parts: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return fit_gate(vectors[chosen], parts[chosen], int(parts.max()) + 1)


def _minimise(loss: object, start: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": _TOLERANCE * 1e-3})
    solution: np.ndarray = found.x
    return solution
