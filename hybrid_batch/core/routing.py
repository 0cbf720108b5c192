"""Which tier answers a query: the one home of the routing rule.

The rule (Ding et al. 2024, section 3): a query goes to the small model when its score is at least the
threshold.  Scores live on a grid of one millionth, so "at least" is decided on integers, the night's
distribution has at most 1,000,001 distinct values, and every quantile of it is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import numpy as np

SMALL: Final = "small"
LARGE: Final = "large"
REJECTED: Final = "rejected"
TIERS: Final = (SMALL, LARGE, REJECTED)
"""Small and large answer; ``rejected`` holds rows that no model could have answered (null prompt, ...)."""

GRID: Final = 1_000_000
"""Steps between score 0 and score 1."""

REJECTED_MICROS: Final = -2
"""Histogram key of rows that were refused before scoring."""
UNSCORED_MICROS: Final = -1
"""Histogram key of rows whose score is NaN."""


@dataclass(frozen=True)
class ThresholdPolicy:
    """Scores of at least ``threshold`` (in [0, 1]; above 1 sends everything to large) go to small."""

    threshold: float


@dataclass(frozen=True)
class SmallSharePolicy:
    """The ``small_share`` (in [0, 1]) of the night's answerable queries with the highest scores goes to small.

    Queries with equal scores stay together: the share reached is the largest that does not exceed the one asked for.
    """

    small_share: float


@dataclass(frozen=True)
class Thresholds:
    """What scores are held against, on the grid: ``micros``, or the threshold of the query's group.

    ``by`` names the column whose values, as text, are the groups; without it there are none.  ``micros`` then holds
    for queries of any other value, or of none.
    """

    micros: int
    by: str | None = None
    groups: Mapping[str, int] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The column of the groups, if there is one."""
        return () if self.by is None else (self.by,)

    def at(self, places: np.ndarray) -> np.ndarray:
        """The threshold of each row, int64 ``[n]``.

        ``places`` (int ``[n]``) are those of the rows' groups in the order of ``groups``; -1 is any other, or none.
        """
        return np.array([*self.groups.values(), self.micros], dtype=np.int64)[places]


Policy = ThresholdPolicy | SmallSharePolicy | Thresholds
"""How a night is split; thresholds by group are given as they are."""


@dataclass(frozen=True)
class ScoreHistogram:
    """The night's scores: distinct ``micros`` (ascending; negative keys as above) and ``rows`` of each.

    With thresholds by group the score alone does not decide: ``small`` counts those of ``rows`` that go to small,
    and ``ungrouped`` the answerable rows of all scores whose group has no threshold.  Arrays are int64 ``[n]``.
    """

    micros: np.ndarray
    rows: np.ndarray
    small: np.ndarray | None = None
    ungrouped: int = 0

    @property
    def total(self) -> int:
        return int(self.rows.sum())

    def coarse(self, bins: int = 100) -> ScoreHistogram:
        """The same rows in ``bins`` equal steps of score, each at its lower edge; rows without a score are left out."""
        width = GRID // bins
        scored = self.micros >= 0
        edges = np.minimum(self.micros[scored] // width, bins - 1)

        def summed(rows: np.ndarray) -> np.ndarray:
            return np.bincount(edges, weights=rows[scored], minlength=bins).astype(np.int64)

        small = None if self.small is None else summed(self.small)
        return ScoreHistogram(np.arange(bins, dtype=np.int64) * width, summed(self.rows), small, self.ungrouped)


@dataclass(frozen=True)
class RoutingDecision:
    """The thresholds of a night, on the grid, and the rows that each tier gets.

    With thresholds by group (``by``, ``groups``) ``threshold_micros`` is that of all other queries, and ``ungrouped``
    counts the answerable ones of these.
    """

    threshold_micros: int
    small: int
    large: int
    rejected: int
    by: str | None = None
    groups: Mapping[str, int] = field(default_factory=dict)
    ungrouped: int = 0

    @property
    def thresholds(self) -> Thresholds:
        return Thresholds(self.threshold_micros, self.by, self.groups)

    @property
    def threshold(self) -> float:
        return self.threshold_micros / GRID

    @property
    def cost_advantage(self) -> float:
        """Share of answered queries that the small model answers (paper, section 2)."""
        answered = self.small + self.large
        return self.small / answered if answered else 0.0


def to_micros(scores: np.ndarray) -> np.ndarray:
    """Scores (float ``[n]``, NaN allowed) -> int64 ``[n]`` on the grid; NaN becomes ``UNSCORED_MICROS``."""
    scores = np.asarray(scores, dtype=np.float64)
    known = ~np.isnan(scores)
    micros = np.full(scores.shape, UNSCORED_MICROS, dtype=np.int64)
    micros[known] = np.clip(np.rint(scores[known] * GRID), 0, GRID).astype(np.int64)
    return micros


def histogram_keys(scores: np.ndarray, refused: np.ndarray) -> np.ndarray:
    """Grid keys int64 ``[n]`` of ``scores``; rows marked in ``refused`` (bool ``[n]``) become ``REJECTED_MICROS``."""
    return np.where(refused, REJECTED_MICROS, to_micros(scores))


def assign_tiers(keys: np.ndarray, threshold_micros: int | np.ndarray) -> np.ndarray:
    """Grid keys -> index into :data:`TIERS`, int8 ``[n]``.  An equal score is small; no score is large.

    ``threshold_micros`` is one for all keys, or int64 ``[n]`` with one for each.
    """
    tiers = np.where(keys >= threshold_micros, TIERS.index(SMALL), TIERS.index(LARGE))
    tiers = np.where(keys == UNSCORED_MICROS, TIERS.index(LARGE), tiers)
    return np.where(keys == REJECTED_MICROS, TIERS.index(REJECTED), tiers).astype(np.int8)


def decide(policy: Policy, histogram: ScoreHistogram) -> RoutingDecision:
    """Turn a policy and all scores of the night into thresholds and counts.

    Raises ``ValueError`` for thresholds by group where ``histogram`` was not counted with them.
    """
    match policy:
        case ThresholdPolicy(threshold):
            chosen = Thresholds(round(threshold * GRID))
        case SmallSharePolicy(share):
            chosen = Thresholds(_threshold_for_share(histogram, share))
        case Thresholds():
            chosen = policy
    tiers = assign_tiers(histogram.micros, chosen.micros)
    small, _, rejected = (int(histogram.rows[tiers == index].sum()) for index in range(len(TIERS)))
    if chosen.by is not None:
        if histogram.small is None:
            raise ValueError(f"the scores were not counted by {chosen.by!r}")
        small = int(histogram.small.sum())
    large = histogram.total - small - rejected
    return RoutingDecision(chosen.micros, small, large, rejected, chosen.by, chosen.groups, histogram.ungrouped)


def _threshold_for_share(histogram: ScoreHistogram, share: float) -> int:
    """The lowest threshold that sends at most ``share`` of the answerable rows to small."""
    answerable = int(histogram.rows[histogram.micros != REJECTED_MICROS].sum())
    scored = histogram.micros >= 0
    micros, rows = histogram.micros[scored][::-1], histogram.rows[scored][::-1]
    # As decimals, so that 0.40 of 10 rows is 4 and 0.333333 of 3 is none, whatever their binary forms.
    allowed = int(Decimal(repr(float(share))) * answerable)
    fitting = int(np.searchsorted(np.cumsum(rows), allowed, side="right"))
    return int(micros[fitting - 1]) if fitting else GRID + 1
