"""How often a promise is broken: calibrations on random rows, judged where the truth is known.

The test rows of a set stand for all queries there are.  Calibration rows are drawn from them with replacement, so they
are independent draws from this population, as the promise assumes, and what a threshold loses in it is known exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    """Of many calibrations: the ``violation`` share (0 to 1) that loses more than was promised, and the mean ``share``

    of queries at the small model; both for ours and for the grid search of the paper (section 4.5).
    """

    violation: float
    share: float
    violation_paper: float
    share_paper: float


def resample(scores: np.ndarray, q: Qualities, times: int) -> Kept:
    """Calibrate ``times`` times on :data:`CALIBRATION_ROWS` drawn rows, each time judged on all rows.

    ``scores`` is float ``[n]``, without NaN.
    """
    random = np.random.default_rng(_SEED)
    population = _Population(scores, q)
    found = np.zeros((times, 2, 2))
    for turn in range(times):
        rows = random.integers(0, len(scores), CALIBRATION_ROWS)
        drawn, answers = scores[rows], q.take(rows)
        thresholds = (
            calibrate(drawn, answers, PROMISE, estimate=False).threshold_micros,
            grid_search(drawn, answers, PROMISE.max_drop_pct).threshold_micros,
        )
        found[turn] = [population.broken_and_share(tau) for tau in thresholds]
    (violation, share), (violation_paper, share_paper) = found.mean(axis=0).tolist()
    return Kept(violation, share, violation_paper, share_paper)


class _Population:
    """All rows by falling score, with what sending the first of them to small loses."""

    def __init__(self, scores: np.ndarray, q: Qualities) -> None:
        micros = to_micros(scores)
        order = np.argsort(-micros, kind="stable")
        self._rising = -micros[order]
        lost = np.concatenate([[0.0], np.cumsum(-q.gap[order])])
        self._drop_pct = 100.0 * lost / abs(q.mean_large.sum())

    def broken_and_share(self, tau: int) -> Sequence[float]:
        small = int(np.searchsorted(self._rising, -tau, side="right"))
        broken = self._drop_pct[small] > PROMISE.max_drop_pct + 1e-9
        return float(broken), small / len(self._rising)
