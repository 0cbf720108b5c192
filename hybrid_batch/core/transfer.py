"""Does a router that was made for one pair of models serve another?  (Ding et al. 2024, section 4.7.)

The paper finds that it does where the quality gaps of the two pairs are strongly correlated, and that it is no better
than chance where they are not.  Here labels of the new pair are at hand, so what the router gains there is measured
too, and the measurement has the last word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

REUSE: Final = "reuse"
RECALIBRATE: Final = "recalibrate"
RETRAIN: Final = "retrain"

STRONG: Final = 0.7
"""From here on a correlation is called strong: one pair's gaps explain half (.7 x .7) of the other's variance."""
WEAK: Final = 0.3
"""Below it is called weak: less than a tenth of the variance is shared."""
FEW: Final = 30
"""With fewer rows in common a correlation decides nothing: its standard error is about .2."""
HALF: Final = 0.5
"""A router that keeps less than this part of what it gained for its own pair is worth training again."""
BIAS: Final = 0.05
"""How far the mean score may be from the mean of the labels that it predicts.  Beyond that, scores are shifted, and a
threshold does not mean what it meant."""

RESAMPLES: Final = 500


@dataclass(frozen=True)
class Correlation:
    """Pearson's and Spearman's coefficient over ``rows`` rows; NaN where a column is constant or has below two rows."""

    pearson: float
    spearman: float
    rows: int

    @property
    def strength(self) -> float | None:
        """The lower of the two; None where it decides nothing."""
        lower = min(self.pearson, self.spearman)
        return None if self.rows < FEW or np.isnan(self.pearson + self.spearman) else lower

    @property
    def word(self) -> str:
        """``strong``, ``moderate``, ``weak``, or ``not known``."""
        if self.strength is None:
            return "not known"
        return "strong" if self.strength >= STRONG else "moderate" if self.strength >= WEAK else "weak"


@dataclass(frozen=True)
class Gain:
    """Part of what an oracle gains over random routing that a router gains too, with a bootstrap interval.

    1 is an oracle, 0 random order, below 0 worse than random.  NaN where all gaps are equal.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Findings:
    """All that the verdict hangs on.

    ``gain`` is the router's on the new pair, ``gain_before`` its gain on the pair it was trained on and ``gaps`` the
    correlation of the two pairs' quality gaps (both None without the old labels).  ``scores`` correlates the router's
    scores with the new gaps.  ``bias`` is the mean score less the mean of the new pair's labels.
    """

    gain: Gain
    scores: Correlation
    bias: float
    gaps: Correlation | None = None
    gain_before: float | None = None


def correlation(left: np.ndarray, right: np.ndarray) -> Correlation:
    """Both coefficients of two columns ``[n]``; equal values share the mean of their ranks."""
    return Correlation(_pearson(left, right), _pearson(ranks(left), ranks(right)), len(left))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1 of ``values`` ``[n]``, float64; equal values get the mean of the ranks that they cover."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place], dtype=np.float64)


def gain(scores: np.ndarray, gap: np.ndarray) -> float:
    """Area between a router's curve and the random one, as a part of the oracle's.

    Both areas are covariances of the gap with a rank, so their ratio is Gini's correlation of gap and score: it needs
    no curve, and unlike APGR it is defined where the small model is the better one on average.
    """
    if not np.ptp(gap):
        return float("nan")
    centred = gap - gap.mean()
    return float(centred @ ranks(scores)) / float(centred @ ranks(gap))


def gain_interval(scores: np.ndarray, gap: np.ndarray, confidence: float = 0.95, seed: int = 0) -> Gain:
    """:func:`gain` with a percentile bootstrap over rows."""
    random = np.random.default_rng(seed)
    draws = (random.integers(0, len(gap), len(gap)) for _ in range(RESAMPLES))
    values = np.array([gain(scores[rows], gap[rows]) for rows in draws])
    values = values[~np.isnan(values)]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(values, [tail, 100 - tail]) if len(values) else (np.nan, np.nan)
    return Gain(gain(scores, gap), float(low), float(high))


def verdict(found: Findings) -> tuple[str, str]:
    """One of ``reuse``, ``recalibrate``, ``retrain``, and the reason in one sentence.

    Retrain: the order of the queries is of no use (the gain is 0 or less; or its interval holds 0, and no strong
    correlation of the gaps speaks for it), or more than half of the former gain is lost.  Recalibrate: the order is of
    use and the scores are shifted.  Reuse: neither.
    """
    strong = found.gaps is not None and (found.gaps.strength or 0) >= STRONG
    if not found.gain.value > 0:
        return RETRAIN, "on the new pair the router's order of the queries gains nothing over a random one"
    if not found.gain.low > 0 and not strong:
        return RETRAIN, "on the new pair the router's order of the queries is not surely better than a random one"
    if found.gain_before is not None and found.gain.value < HALF * found.gain_before:
        return RETRAIN, "the router keeps less than half of what it gains for the pair it was trained on"
    if abs(found.bias) > BIAS:
        side = "high" if found.bias > 0 else "low"
        return RECALIBRATE, f"the router's order serves the new pair, but its scores are too {side} for it"
    return REUSE, "the router's order serves the new pair, and its scores mean the same there"


def _pearson(left: np.ndarray, right: np.ndarray) -> float:
    if len(left) < 2:
        return float("nan")
    a, b = left - left.mean(), right - right.mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(np.clip(a @ b / size, -1, 1)) if size > 0 else float("nan")
