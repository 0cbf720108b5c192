"""The night's scores as bars, in the units of a drawing.  Pure; the page's template draws them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from hybrid_batch.core.routing import GRID, ScoreHistogram

WIDTH: Final = 640.0
HEIGHT: Final = 180.0
_STEPS: Final = 100
_GAP: Final = 0.5
"""A hair of background between two steps."""
_NARROW: Final = 0.4
"""Scores within this span are drawn in steps of 0.01, wider ones in steps of 0.02."""


@dataclass(frozen=True)
class Bar:
    """A rectangle from ``x``, ``y`` (top) with ``width`` and ``height``; ``tier`` decides its colour."""

    x: float
    y: float
    width: float
    height: float
    tier: str


@dataclass(frozen=True)
class Tick:
    """A label below the drawing at ``x``."""

    x: float
    label: str


@dataclass(frozen=True)
class Chart:
    """Bars, ticks and the place of the threshold (None where it lies outside the drawing)."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    threshold_x: float | None
    highest: int
    step: float


def chart(histogram: ScoreHistogram, threshold: float) -> Chart | None:
    """A drawing of all scored rows; None when there are none.

    With thresholds by group (``histogram.small``) there is no one threshold to draw: each bar is stacked by tier.
    """
    coarse = histogram.coarse(_STEPS)
    filled = np.flatnonzero(coarse.rows)
    if not filled.size:
        return None
    low, high = _span(int(filled[0]) / _STEPS, (int(filled[-1]) + 1) / _STEPS)
    group = 1 if high - low <= _NARROW else 2

    def heights(rows: np.ndarray) -> np.ndarray:
        return rows[round(low * _STEPS) : round(high * _STEPS)].reshape(-1, group).sum(axis=1)

    total, step = heights(coarse.rows), group / _STEPS
    scale, highest = WIDTH / (high - low), int(total.max())
    bars: list[Bar] = []
    if coarse.small is None:
        for index, count in enumerate(total):
            left = low + index * step
            bars += _bars(left, left + step, count / highest * HEIGHT, low, scale, threshold)
        inside = low <= threshold <= high
    else:
        for index, (count, small) in enumerate(zip(total, heights(coarse.small), strict=True)):
            bars += _stacked(index * step * scale, step * scale, count / highest * HEIGHT, small / highest * HEIGHT)
        inside = False
    return Chart(tuple(bars), _ticks(low, high, scale), (threshold - low) * scale if inside else None, highest, step)


def _stacked(x: float, width: float, height: float, small: float) -> list[Bar]:
    """One step as a bar of small with one of large on it."""
    pieces = [
        Bar(x, HEIGHT - small, width - _GAP, small, "small"),
        Bar(x, HEIGHT - height, width - _GAP, height - small, "large"),
    ]
    return [bar for bar in pieces if bar.height]


def _span(lowest: float, highest: float) -> tuple[float, float]:
    """Whole tenths around all scores, at least two of them."""
    low, high = math.floor(lowest * 10 + 1e-9), math.ceil(highest * 10 - 1e-9)
    if high - low < 2:
        low, high = (low - 1, high) if low else (low, high + 1)
    return low / 10, high / 10


def _bars(left: float, right: float, height: float, low: float, scale: float, threshold: float) -> list[Bar]:
    """One step as a bar, or as two where the threshold cuts through it."""
    if not height:
        return []
    cut = min(max(threshold, left), right)
    pieces = [(left, cut, "large"), (cut, right, "small")]
    return [
        Bar((start - low) * scale, HEIGHT - height, max((end - start) * scale - _GAP, 0.5), height, tier)
        for start, end, tier in pieces
        if end - start > 1 / GRID
    ]


def _ticks(low: float, high: float, scale: float) -> tuple[Tick, ...]:
    tenths = range(round(low * 10), round(high * 10) + 1)
    return tuple(Tick((tenth / 10 - low) * scale, f"{tenth / 10:.1f}") for tenth in tenths)
