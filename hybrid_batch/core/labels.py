"""What a router learns: from the quality of both models' answers to one number per query.

The quality gap of a query is H = q(S) - q(L), random where answers are sampled (Ding et al. 2024, section 2).
Three labels are the paper's, the fourth is ours:

- ``det`` (section 3.1): 1 if the small model's first answer is at least as good as the large one's.
- ``prob`` (section 3.2): Pr[H >= 0] over all pairs of answers.
- ``trans`` (section 3.3): Pr[H >= -t*] with the t* that spreads the labels most.
- ``gain``: (1 + E[H]) / 2, for qualities in [0, 1].  It tells a query that the small model wins from one where both are
  as good, and much lost from little, so that the most is gained first and the most is lost last.

An answer without a quality (NaN) is left out of all of them, here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

DET: Final = "det"
PROB: Final = "prob"
TRANS: Final = "trans"
GAIN: Final = "gain"
LABEL_KINDS: Final = (DET, PROB, TRANS, GAIN)

_ROWS_AT_ONCE: Final = 4096


@dataclass(frozen=True)
class Qualities:
    """Quality of the answers to n queries: ``small`` float64 ``[n, k]``, ``large`` ``[n, m]``, NaN where missing.

    Every row has at least one answer of each model; :func:`qualities` sees to that.
    """

    small: np.ndarray
    large: np.ndarray

    def __len__(self) -> int:
        return len(self.small)

    @property
    def mean_small(self) -> np.ndarray:
        """Mean over the answers that exist, ``[n]``."""
        return _row_means(self.small)

    @property
    def mean_large(self) -> np.ndarray:
        """Mean over the answers that exist, ``[n]``."""
        return _row_means(self.large)

    @property
    def gap(self) -> np.ndarray:
        """Mean H of each query, ``[n]``: the mean over all pairs is the difference of the means."""
        return self.mean_small - self.mean_large

    def take(self, index: np.ndarray) -> Qualities:
        """The rows at ``index`` (int or bool ``[m]``)."""
        return Qualities(self.small[index], self.large[index])


@dataclass(frozen=True)
class TStar:
    """The relaxation t* of trans labels, and what it was chosen from.

    ``spread`` ``[c]`` is the mean absolute difference of two queries' labels at each of ``candidates`` ``[c]``.
    """

    t: float
    candidates: np.ndarray
    spread: np.ndarray


def qualities(
    small: Sequence[Sequence[float | None]], large: Sequence[Sequence[float | None]], names: Sequence[str] | None = None
) -> Qualities:
    """Lists of answers' qualities, of any length, as one value; None and NaN are missing answers.

    Raises ``ValueError`` naming the row (by ``names`` where given) that has no answer of one model or an infinite one.
    """
    if len(small) != len(large):
        raise ValueError(f"{len(small)} rows of small, {len(large)} rows of large")
    found = Qualities(_padded(small), _padded(large))
    for model, values in (("small", found.small), ("large", found.large)):
        for problem, rows in (
            ("has no answer with a quality", np.isnan(values).all(axis=1)),
            ("is infinite", np.isinf(values).any(axis=1)),
        ):
            if rows.any():
                row = int(np.flatnonzero(rows)[0])
                raise ValueError(f"row {names[row] if names else row}: q_{model} {problem}")
    return found


def make_labels(kind: str, q: Qualities) -> tuple[np.ndarray, TStar | None]:
    """Labels of ``kind``, float64 ``[n]`` in [0, 1], and for trans the t* they were made with.

    Raises ``ValueError`` for an unknown kind.
    """
    if kind == TRANS:
        t_star = find_t_star(q)
        return trans_labels(q, t_star.t), t_star
    if kind not in _MAKERS:
        raise ValueError(f"label kind is {kind!r}, allowed are {', '.join(LABEL_KINDS)}")
    return _MAKERS[kind](q), None


def det_labels(q: Qualities) -> np.ndarray:
    """1[q(S) >= q(L)] of the first answer of each model that has a quality (paper, section 3.1), float64 ``[n]``."""
    return (_first(q.small) >= _first(q.large)).astype(np.float64)


def prob_labels(q: Qualities) -> np.ndarray:
    """Pr[H >= 0] over all pairs of answers (paper, section 3.2), float64 ``[n]``."""
    return trans_labels(q, 0.0)


def trans_labels(q: Qualities, t: float) -> np.ndarray:
    """Pr[H >= -t] over all pairs of answers (paper, section 3.3), float64 ``[n]``."""
    return _over_pairs(q, lambda gaps: (gaps >= -t).astype(np.float64))


def gain_labels(q: Qualities) -> np.ndarray:
    """(1 + E[H] / s) / 2, float64 ``[n]``: 0.5 where both models are as good.

    s is 1 for qualities in [0, 1]; others are brought to [-1, 1] by the largest gap between two answers to one query.
    """
    values = np.concatenate([q.small.ravel(), q.large.ravel()])
    inside = not ((values < 0) | (values > 1)).any()
    scale = 1.0 if inside or not len(q) else float(np.nanmax(np.abs(_pair_gaps(q))))
    return (1.0 + q.gap / (scale or 1.0)) / 2


def find_t_star(q: Qualities, candidates: int = 500) -> TStar:
    """t* = argmax over t >= 0 of the mean |y_i(t) - y_j(t)| over all pairs of queries (paper, equation 3).

    y(t) changes only where t is some -H, so these values are the candidates, with 0; more than ``candidates`` of them
    are thinned to their quantiles.  The first of equal maxima is taken: relax no more than it pays.
    """
    gaps = _pair_gaps(q)
    losses = np.unique(-gaps[gaps < 0])
    if len(losses) > candidates - 1:
        losses = np.unique(np.quantile(losses, np.linspace(0, 1, candidates - 1), method="nearest"))
    grid = np.concatenate([[0.0], losses])
    spread = np.array([mean_difference(trans_labels(q, float(t))) for t in grid])
    return TStar(float(grid[int(np.argmax(spread))]), grid, spread)


def mean_difference(labels: np.ndarray) -> float:
    """Mean |y_i - y_j| over all N * N ordered pairs of ``labels`` ``[N]``, by sorting (Gini's mean difference)."""
    count = len(labels)
    if count == 0:
        return 0.0
    weights = 2.0 * np.arange(count) - count + 1
    return float(2.0 * (weights * np.sort(labels)).sum() / count**2)


def _over_pairs(q: Qualities, value: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Mean of ``value`` (of a gap) over the pairs of each row that exist."""
    result = np.empty(len(q))
    for start in range(0, len(q), _ROWS_AT_ONCE):
        gaps = _pair_gaps(q.take(np.arange(start, min(start + _ROWS_AT_ONCE, len(q)))))
        known = ~np.isnan(gaps)
        values = np.where(known, value(np.where(known, gaps, 0.0)), 0.0)
        result[start : start + len(gaps)] = values.sum(axis=(1, 2)) / known.sum(axis=(1, 2))
    return result


def _pair_gaps(q: Qualities) -> np.ndarray:
    """H of every pair of answers, ``[n, k, m]``; NaN where one of the two is missing."""
    gaps: np.ndarray = q.small[:, :, None] - q.large[:, None, :]
    return gaps


def _row_means(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    means: np.ndarray = np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)
    return means


def _first(values: np.ndarray) -> np.ndarray:
    places = np.argmax(~np.isnan(values), axis=1)
    first: np.ndarray = values[np.arange(len(values)), places]
    return first


def _padded(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    width = max([1, *map(len, rows)])
    values = np.full((len(rows), width), math.nan)
    for row, answers in enumerate(rows):
        values[row, : len(answers)] = [math.nan if answer is None else float(answer) for answer in answers]
    return values


_MAKERS: Mapping[str, Callable[[Qualities], np.ndarray]] = {DET: det_labels, PROB: prob_labels, GAIN: gain_labels}
