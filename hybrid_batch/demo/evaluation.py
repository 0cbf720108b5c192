"""How good a router is on questions whose answers by both models are known.  Pure numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

COST_ADVANTAGES = (0.1, 0.2, 0.4)
THRESHOLD = 0.5


def evaluate(scores: np.ndarray, q_small: np.ndarray, q_large: np.ndarray) -> dict[str, Any]:
    """Drop, AUC and share, each array of shape [questions]; drops are percent of the mean of ``q_large``.

    ``random`` is the exact expectation of sending the same share at random; ``oracle`` sends first where the small
    model gains most.
    """
    gap = q_small - q_large
    to_small = scores >= THRESHOLD
    share = float(to_small.mean())
    return {
        "questions": len(scores),
        "mean_q_small": _rounded(q_small.mean()),
        "mean_q_large": _rounded(q_large.mean()),
        "share_label_1": _rounded((gap >= 0).mean()),
        "auc": _rounded(auc(scores, gap >= 0)),
        "drop_percent": {f"{share:.0%}": _drops(share, scores, gap, q_large) for share in COST_ADVANTAGES},
        "threshold_0.5": {"share_small": _rounded(share), **_at_threshold(to_small, gap, q_large)},
    }


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counting half; NaN if one kind is missing."""
    above, below = scores[positive][:, None], scores[~positive][None, :]
    if above.size == 0 or below.size == 0:
        return float("nan")
    return float((above > below).mean() + 0.5 * (above == below).mean())


def drop(order: np.ndarray, share: float, gap: np.ndarray, q_large: np.ndarray) -> float:
    """Percent of the mean of ``q_large`` lost when the first ``share`` of ``order`` goes to the small model."""
    first = order[: round(share * len(order))]
    return float(-100.0 * gap[first].sum() / q_large.sum())


def _drops(share: float, scores: np.ndarray, gap: np.ndarray, q_large: np.ndarray) -> dict[str, float]:
    sent = round(share * len(gap)) / len(gap)
    return {
        "router": _rounded(drop(np.argsort(-scores, kind="stable"), share, gap, q_large)),
        "random": _rounded(_random(sent, gap, q_large)),
        "oracle": _rounded(drop(np.argsort(-gap, kind="stable"), share, gap, q_large)),
    }


def _at_threshold(to_small: np.ndarray, gap: np.ndarray, q_large: np.ndarray) -> dict[str, float]:
    return {
        "drop_percent": _rounded(-100.0 * gap[to_small].sum() / q_large.sum()),
        "random_drop_percent": _rounded(_random(float(to_small.mean()), gap, q_large)),
    }


def _random(share: float, gap: np.ndarray, q_large: np.ndarray) -> float:
    return float(-100.0 * share * gap.sum() / q_large.sum())


def _rounded(value: float) -> float:
    return round(float(value), 4) + 0.0  # + 0.0 turns -0.0 into 0.0
