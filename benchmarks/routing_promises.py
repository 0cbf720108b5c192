"""How often a promise is broken: calibrations on random rows of a set, judged on the rest of it.

Calibration rows are drawn without replacement from the test rows, and what a threshold loses on the others is known.
These are no independent draws: rows that look good in the sample are missing from the rest.  So the same is done with
rows drawn with replacement, judged on all rows: there the test rows stand for all queries there are, as in the promise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hybrid_batch.core.calibration import Promise, calibrate, grid_search
from hybrid_batch.core.labels import Qualities
from hybrid_batch.core.routing import to_micros

PROMISE = Promise(max_drop_pct=1.0, confidence=0.95)
CALIBRATION_ROWS = 500
_SEED = 0


@dataclass(frozen=True)
class Kept:
    """Of many calibrations: the ``violation`` share (0 to 1) that loses more than was promised on the rest of the rows,

    ``violation_drawn`` that with independent draws on all rows, and the mean ``share`` of queries at the small model;
    all of them for ours and for the grid search of the paper (section 4.5).
    """

    violation: float
    share: float
    violation_paper: float
    share_paper: float
    violation_drawn: float
    violation_drawn_paper: float


def resample(scores: np.ndarray, q: Qualities, times: int) -> Kept:
    """Calibrate ``times`` times in both ways on :data:`CALIBRATION_ROWS` rows; ``scores`` is float ``[n]``."""
    random = np.random.default_rng(_SEED)
    whole = _Rows(scores, q)
    rest, drawn = np.zeros((times, 2, 2)), np.zeros((times, 2, 2))
    for turn in range(times):
        order = random.permutation(len(scores))
        rows, others = order[:CALIBRATION_ROWS], order[CALIBRATION_ROWS:]
        found = _Rows(scores[others], q.take(others))
        rest[turn] = [found.broken_and_share(tau) for tau in _thresholds(scores, q, rows)]
        rows = random.integers(0, len(scores), CALIBRATION_ROWS)
        drawn[turn] = [whole.broken_and_share(tau) for tau in _thresholds(scores, q, rows)]
    (ours, paper), (ours_drawn, paper_drawn) = rest.mean(axis=0).tolist(), drawn.mean(axis=0).tolist()
    return Kept(ours[0], ours[1], paper[0], paper[1], ours_drawn[0], paper_drawn[0])


def _thresholds(scores: np.ndarray, q: Qualities, rows: np.ndarray) -> tuple[int, int]:
    """Ours and the paper's, from ``rows`` (int ``[m]``)."""
    known, answers = scores[rows], q.take(rows)
    ours = calibrate(known, answers, PROMISE, estimate=False)
    return ours.threshold_micros, grid_search(known, answers, PROMISE.max_drop_pct).threshold_micros


class _Rows:
    """Rows by falling score, with what sending the first of them to small loses."""

    def __init__(self, scores: np.ndarray, q: Qualities) -> None:
        micros = to_micros(scores)
        order = np.argsort(-micros, kind="stable")
        self._rising = -micros[order]
        lost = np.concatenate([[0.0], np.cumsum(-q.gap[order])])
        self._drop_pct = 100.0 * lost / abs(q.mean_large.sum())

    def broken_and_share(self, tau: int) -> tuple[float, float]:
        small = int(np.searchsorted(self._rising, -tau, side="right"))
        broken = self._drop_pct[small] > PROMISE.max_drop_pct + 1e-9
        return float(broken), small / len(self._rising)
