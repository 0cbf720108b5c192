"""From labelled queries to a threshold, with a promise that holds beyond these queries.  Pure numpy.

The paper chooses the threshold by a grid search on 500 samples (section 4.5): the largest cost advantage whose drop on
the sample is allowed.  Chance picks what looks best, so the true drop is larger than allowed in about every second case
(four of nine in the paper's own table).  Here the threshold is tested, not searched:

- Quality is brought to right and wrong: one in between counts as right with its chance.  One number is drawn for each
  row and held against both models' qualities, which leaves all means as they are and lets equal qualities stay equal.
  Then each row that goes to small loses an answer, wins one, or does neither, and for a given threshold the test of
  "the drop is more than allowed" is exact (:mod:`hybrid_batch.core.exact_test`).
- Thresholds are tested in an order that does not depend on the answers, from few queries to many, and the first
  failure ends it, so that testing many of them costs nothing (fixed sequence testing: Angelopoulos et al. 2021, *Learn
  then Test*, arXiv 2110.01052).

It holds for any number of rows, without assuming a distribution; the rows must be drawn like the nights to come.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from hybrid_batch.core.exact_test import NUISANCE_ALPHA, lower_bound, p_value, upper_bound
from hybrid_batch.core.labels import Qualities
from hybrid_batch.core.routing import GRID, ScoreHistogram, SmallSharePolicy, decide, to_micros

START: Final = 0.20
"""Share at which the tests start.  At a few percent hardly any number of rows can prove a small drop."""
STEPS: Final = 100
"""Candidate thresholds: one for each of these steps of share."""
METHOD: Final = "learn-then-test"
_FINE_STEPS: Final = 1000
_MOST_ROWS: Final = 200_000


@dataclass(frozen=True)
class Promise:
    """At most ``max_drop_pct`` percent of the large model's quality lost, with probability ``confidence`` (0 to 1)."""

    max_drop_pct: float
    confidence: float

    def __post_init__(self) -> None:
        if not self.max_drop_pct >= 0:
            raise ValueError(f"max_drop_pct is {self.max_drop_pct}, allowed are percents of at least 0")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}, allowed are numbers above 0 and below 1")


@dataclass(frozen=True)
class Calibration:
    """A threshold on the score grid, and what it does on the ``rows`` it was found with.

    ``share`` (0 to 1) of them goes to small and loses ``drop_pct`` percent.  ``upper_drop_pct`` is the
    least drop that the test proves at this threshold taken by itself; what holds over the choice is the promise.
    ``kept`` is False where the promise cannot be kept with these rows: then everything goes to large, and
    ``rows_needed`` estimates how many rows like these would prove the first threshold tested (None: no number would).
    """

    threshold_micros: int
    share: float
    drop_pct: float
    rows: int
    method: str
    kept: bool = True
    upper_drop_pct: float | None = None
    rows_needed: int | None = None


def calibrate(
    scores: np.ndarray,
    q: Qualities,
    promise: Promise,
    quality_range: tuple[float, float] = (0.0, 1.0),
    *,
    estimate: bool = True,
) -> Calibration:
    """The threshold with the largest share to small of which ``promise`` can be proved from these rows.

    ``scores`` is float ``[n]`` (NaN: large).  They place the candidate thresholds, answers never do.  ``estimate`` says
    whether to work out ``rows_needed``, which takes a second or two.
    Raises ``ValueError`` if a quality lies outside ``quality_range``, or the range has both signs.
    """
    _check_range(q, quality_range)
    sample = _Sample(scores, q)
    chain = [tau for tau in candidate_thresholds(sample.micros) if sample.share(tau) >= START]
    tests = _Tests(sample, q, quality_range)
    proved = list(tests.proved(chain, promise))
    if not proved:
        needed = tests.rows_needed(chain, promise) if estimate else None
        return Calibration(GRID + 1, 0.0, 0.0, len(q), METHOD, kept=False, rows_needed=needed)
    tau = proved[-1]
    upper = tests.upper_drop_pct(tau, promise)
    return Calibration(tau, sample.share(tau), sample.drop_pct(tau), len(q), METHOD, upper_drop_pct=upper)


def grid_search(scores: np.ndarray, q: Qualities, max_drop_pct: float) -> Calibration:
    """The paper's choice (section 4.5): the largest share whose drop on these very rows is allowed.  No guarantee."""
    sample = _Sample(scores, q)
    allowed = [tau for tau in candidate_thresholds(sample.micros, _FINE_STEPS) if sample.drop_pct(tau) <= max_drop_pct]
    tau = min(allowed, default=GRID + 1)
    return Calibration(tau, sample.share(tau), sample.drop_pct(tau), len(q), "grid search")


def for_small_share(scores: np.ndarray, q: Qualities, share: float) -> Calibration:
    """The threshold that sends at most ``share`` (0 to 1) of these rows to small, as a job's policy would."""
    sample = _Sample(scores, q)
    values, rows = np.unique(sample.micros, return_counts=True)
    tau = decide(SmallSharePolicy(share), ScoreHistogram(values, rows.astype(np.int64))).threshold_micros
    return Calibration(tau, sample.share(tau), sample.drop_pct(tau), len(q), "share")


def for_max_cost(
    scores: np.ndarray, q: Qualities, cost_small: float, cost_large: float, max_cost: float
) -> Calibration:
    """The threshold that sends the fewest of these rows to small at which a query costs ``max_cost`` on average.

    All three costs have the same unit.  Raises ``ValueError`` if even the small model alone costs more.
    """
    if max_cost < cost_small or cost_small >= cost_large:
        raise ValueError(f"max_cost is {max_cost}; allowed is at least {cost_small}, below {cost_large} for large")
    sample = _Sample(scores, q)
    needed = (cost_large - max_cost) / (cost_large - cost_small)
    thresholds = (GRID + 1, *candidate_thresholds(sample.micros, _FINE_STEPS))
    tau = next((tau for tau in thresholds if sample.share(tau) >= needed - 1e-12), 0)
    return Calibration(tau, sample.share(tau), sample.drop_pct(tau), len(q), "cost")


def candidate_thresholds(micros: np.ndarray, steps: int = STEPS) -> list[int]:
    """Thresholds that send 1/steps, 2/steps, ... of the rows with ``micros`` (grid, ``[m]``) to small, descending.

    Rows of equal score go together, so neighbours may be the same; each is listed once.
    """
    known = np.sort(micros[micros >= 0])[::-1]
    if not len(known):
        return []
    places = np.ceil(np.arange(1, steps + 1) / steps * len(known)).astype(int) - 1
    return [int(tau) for tau in dict.fromkeys(known[places].tolist())]


def _check_range(q: Qualities, quality_range: tuple[float, float]) -> None:
    low, high = quality_range
    if not (low < high and (low >= 0 or high <= 0)):
        raise ValueError(f"the range of quality is {low:g} to {high:g}; allowed is one below or above 0, not both")
    for model, values in (("small", q.small), ("large", q.large)):
        outside = (values < low) | (values > high)
        if outside.any():
            found = values[outside][0]
            raise ValueError(
                f"q_{model} holds {found:g}, outside the range of quality {low:g} to {high:g}; name its range"
            )


class _Sample:
    """Rows on the score grid with what each of them loses if it goes to small."""

    def __init__(self, scores: np.ndarray, q: Qualities) -> None:
        self.micros = to_micros(scores)
        self._loss, self._large = -q.gap, q.mean_large

    def share(self, tau: int) -> float:
        return float((self.micros >= tau).mean()) if len(self.micros) else 0.0

    def drop_pct(self, tau: int) -> float:
        whole = abs(self._large.sum())
        return float(100.0 * self._loss[self.micros >= tau].sum() / whole) if whole else 0.0


class _Tests:
    """The same rows with every answer brought to right or wrong, for the exact test."""

    def __init__(self, sample: _Sample, q: Qualities, quality_range: tuple[float, float]) -> None:
        low, high = quality_range
        small, large = ((mean - low) / (high - low) for mean in (q.mean_small, q.mean_large))
        # Drawn in an order of the rows' own, so that the order they come in changes nothing; and seeded by the rows, so
        # that other rows of the same number are rounded otherwise.
        order = np.lexsort((large, small, sample.micros))
        self._micros, small, large = sample.micros[order], small[order], large[order]
        drawn = np.random.default_rng(_seed(self._micros, small, large)).random(len(q))
        right_small, right_large = drawn < small, drawn < large
        self._lost, self._won = right_large & ~right_small, right_small & ~right_large
        self._right, self._range = int(right_large.sum()), quality_range

    def proved(self, chain: Sequence[int], promise: Promise) -> Iterator[int]:
        """Thresholds of ``chain`` until the first that cannot be proved."""
        for tau in chain:
            if self._p_value(tau, promise.max_drop_pct) > 1.0 - promise.confidence:
                return
            yield tau

    def upper_drop_pct(self, tau: int, promise: Promise) -> float:
        """The least drop that the same test still proves at ``tau`` by itself, within a hundredth of a percent."""
        low, high = -100.0, promise.max_drop_pct
        while high - low > 0.01:
            middle = (low + high) / 2
            low, high = (low, middle) if self._p_value(tau, middle) <= 1.0 - promise.confidence else (middle, high)
        return high

    def rows_needed(self, chain: Sequence[int], promise: Promise) -> int | None:
        """Rows with which the start of ``chain`` would be proved, if they were like these.

        None where no number would do, or more than :data:`_MOST_ROWS`.
        """
        rows = len(self._micros)
        low, high = 1.0, _MOST_ROWS / max(rows, 1)
        if not chain or not self._proved_with(high, chain[0], promise):
            return None
        while high / low > 1.02:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self._proved_with(middle, chain[0], promise) else (middle, high)
        return math.ceil(rows * high)

    def _proved_with(self, factor: float, tau: int, promise: Promise) -> bool:
        """Whether ``factor`` times as many rows, in the same proportions, would prove ``tau``."""
        small = self._micros >= tau
        counts = ((self._lost & small).sum(), (self._won & small).sum(), self._right, len(small))
        lost, won, right, rows = (round(factor * int(count)) for count in counts)
        allowed = _allowed(promise.max_drop_pct, right, rows, self._range)
        return p_value(lost, won, rows, allowed) + NUISANCE_ALPHA <= 1.0 - promise.confidence

    def _p_value(self, tau: int, max_drop_pct: float) -> float:
        small = self._micros >= tau
        lost, won = int((self._lost & small).sum()), int((self._won & small).sum())
        allowed = _allowed(max_drop_pct, self._right, len(small), self._range)
        return p_value(lost, won, len(small), allowed) + NUISANCE_ALPHA


def _allowed(max_drop_pct: float, right: int, rows: int, quality_range: tuple[float, float]) -> float:
    """The mean loss of a row that a drop of ``max_drop_pct`` is at least, in widths of the range.

    A drop is in percent of the large model's mean |quality|, of which only a bound is known: the lower one is the safe
    side of a loss, the upper one that of a gain.
    """
    low, high = quality_range
    counted, nearest = (right, low) if low >= 0 else (rows - right, -high)
    bound = lower_bound if max_drop_pct >= 0 else upper_bound
    return max_drop_pct / 100.0 * (nearest / (high - low) + bound(counted, rows, NUISANCE_ALPHA))


def _seed(*columns: np.ndarray) -> int:
    """A number that these values decide, in every process the same."""
    digest = hashlib.blake2b(digest_size=8)
    for column in columns:
        digest.update(np.ascontiguousarray(column).tobytes())
    return int.from_bytes(digest.digest(), "big")
