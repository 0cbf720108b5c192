"""How good a router is, from its scores and the qualities of both models' answers.  Pure numpy.

Cost advantage is the share of queries that the small model answers; the drop is the loss of mean quality against
answering all with the large model, in percent (Ding et al. 2024, sections 2 and 4).  PGR, APGR and CPT are those of
RouteLLM (Ong et al. 2024, arXiv 2406.18665, section 3).

Queries of equal score cannot be told apart, so a curve takes them all at the same rate: it is straight between the ends
of such a group, and nothing depends on the order of the rows.  A query without a score (NaN) is the last to go to the
small model, as in :mod:`hybrid_batch.core.routing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from hybrid_batch.core.labels import Qualities

COST_ADVANTAGES: Final = (0.1, 0.2, 0.4)
"""Shares at which the paper's tables give the drop."""


@dataclass(frozen=True)
class Curve:
    """Mean ``quality`` ``[n + 1]`` when ``share`` ``[n + 1]`` (0 to 1) of the queries goes to the small model."""

    share: np.ndarray
    quality: np.ndarray


@dataclass(frozen=True)
class Interval:
    """A figure and the ends of its bootstrap interval; NaN where a figure has no meaning."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """All figures of a router on ``rows`` queries.  ``drop`` is in percent, by cost advantage."""

    rows: int
    mean_small: float
    mean_large: float
    drop: Mapping[float, Interval]
    random_drop: Mapping[float, float]
    oracle_drop: Mapping[float, float]
    apgr: Interval
    cpt50: Interval
    cpt80: Interval
    auc: Interval
    brier: Interval
    ece: Interval


def cost_curve(scores: np.ndarray, q: Qualities) -> Curve:
    """The curve of sending queries to the small model in the order of ``scores`` ``[n]``, highest first."""
    return _curve(np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=-np.inf), q.mean_large, q.gap)


def random_curve(q: Qualities) -> Curve:
    """The expected curve of a random order: a straight line."""
    return cost_curve(np.zeros(len(q)), q)


def oracle_curve(q: Qualities) -> Curve:
    """The best curve there is: in the order of the mean gap."""
    return cost_curve(q.gap, q)


def drop_pct(curve: Curve, share: float) -> float:
    """Percent of the large model's mean quality (its absolute value) that is lost at cost advantage ``share``."""
    lost = curve.quality[0] - np.interp(share, curve.share, curve.quality)
    return float(100.0 * lost / abs(curve.quality[0])) if curve.quality[0] else float("nan")


def apgr(curve: Curve) -> float:
    """Mean over all shares of the performance gap recovered; 0.5 is random.  NaN if large is not better than small."""
    recovered = _recovered(curve)
    return float("nan") if recovered is None else float(np.trapezoid(recovered, curve.share))


def cpt(curve: Curve, recovered: float) -> float:
    """The least share of queries at the large model that recovers ``recovered`` (0 to 1) of the performance gap."""
    gained = _recovered(curve)
    if gained is None:
        return float("nan")
    enough = np.flatnonzero(gained >= recovered)
    last = int(enough[-1])
    if last == len(gained) - 1:
        return 0.0
    # Between this point and the next the curve is straight.
    step = (gained[last] - recovered) / (gained[last] - gained[last + 1])
    return float(1.0 - (curve.share[last] + step * (curve.share[last + 1] - curve.share[last])))


def auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a row of weight 1 in ``positive`` scores above one of weight 0; ties count half.

    ``positive`` ``[n]`` may be soft labels in [0, 1]: a row counts as positive by its label, as negative by the rest.
    NaN if there is only one kind.
    """
    order = np.argsort(scores, kind="stable")
    weights, sorted_scores = np.asarray(positive, dtype=np.float64)[order], np.asarray(scores)[order]
    starts = np.concatenate([[0], np.flatnonzero(np.diff(sorted_scores)) + 1]) if len(order) else np.array([], int)
    if not len(starts):
        return float("nan")
    above, below = np.add.reduceat(weights, starts), np.add.reduceat(1.0 - weights, starts)
    pairs = above.sum() * below.sum()
    lower = np.cumsum(below) - below
    return float((above * (lower + below / 2)).sum() / pairs) if pairs > 0 else float("nan")


def brier(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean squared difference of ``scores`` and ``labels``, both ``[n]`` in [0, 1]."""
    return float(np.mean((scores - labels) ** 2)) if len(labels) else float("nan")


def ece(scores: np.ndarray, labels: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over ``bins`` bins of equal mass; rows of equal score share a bin."""
    if not len(labels):
        return float("nan")
    order = np.argsort(scores, kind="stable")
    ordered = np.asarray(scores)[order]
    wanted = np.arange(len(order)) * bins // len(order)
    # A group of equal scores belongs to the bin of its first row.
    first = np.maximum.accumulate(np.where(np.r_[True, np.diff(ordered) != 0], np.arange(len(order)), 0))
    places = wanted[first]
    gaps = np.bincount(places, weights=ordered - np.asarray(labels)[order], minlength=bins)
    return float(np.abs(gaps).sum() / len(order))


def evaluate(
    scores: np.ndarray,
    q: Qualities,
    labels: np.ndarray,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """All figures, with percentile bootstrap intervals over ``resamples`` samples of the rows.

    ``labels`` ``[n]`` in [0, 1] is what the router was trained to predict; AUC, Brier and ECE are measured against it.
    """
    scores = np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=0.0)
    figures = _figures(scores, q.mean_large, q.gap, labels)
    random = np.random.default_rng(seed)
    samples = [
        _figures(scores[rows], q.mean_large[rows], q.gap[rows], labels[rows])
        for rows in (random.integers(0, len(q), len(q)) for _ in range(resamples))
    ]
    found = {
        name: _interval(value, [sample[name] for sample in samples], confidence) for name, value in figures.items()
    }
    best = oracle_curve(q)
    return Evaluation(
        rows=len(q),
        mean_small=float(q.mean_small.mean()),
        mean_large=float(q.mean_large.mean()),
        drop={share: found[f"drop{share}"] for share in COST_ADVANTAGES},
        random_drop={share: drop_pct(random_curve(q), share) for share in COST_ADVANTAGES},
        oracle_drop={share: drop_pct(best, share) for share in COST_ADVANTAGES},
        **{name: found[name] for name in ("apgr", "cpt50", "cpt80", "auc", "brier", "ece")},
    )


def _figures(scores: np.ndarray, large: np.ndarray, gap: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    curve = _curve(scores, large, gap)
    scalars: dict[str, Callable[[], float]] = {
        "apgr": lambda: apgr(curve),
        "cpt50": lambda: cpt(curve, 0.5),
        "cpt80": lambda: cpt(curve, 0.8),
        "auc": lambda: auc(scores, labels),
        "brier": lambda: brier(scores, labels),
        "ece": lambda: ece(scores, labels),
    }
    drops = {f"drop{share}": drop_pct(curve, share) for share in COST_ADVANTAGES}
    return drops | {name: figure() for name, figure in scalars.items()}


def _curve(scores: np.ndarray, large: np.ndarray, gap: np.ndarray) -> Curve:
    count = len(scores)
    if not count:
        return Curve(np.zeros(1), np.array([np.nan]))
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    ends = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, [count]])
    gained = np.concatenate([[0.0], np.cumsum(gap[order])])
    steps = np.arange(count + 1)
    return Curve(steps / count, large.mean() + np.interp(steps, ends, gained[ends]) / count)


def _recovered(curve: Curve) -> np.ndarray | None:
    """Share of the performance gap that each point recovers; None where large is not better than small."""
    large, small = curve.quality[0], curve.quality[-1]
    return (curve.quality - small) / (large - small) if large > small else None


def _interval(value: float, samples: list[float], confidence: float) -> Interval:
    known = [sample for sample in samples if not np.isnan(sample)]
    if not known or np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(known, [50 * (1 - confidence), 50 * (1 + confidence)])
    return Interval(value, float(low), float(high))
