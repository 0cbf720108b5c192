"""How near an export's scores are to torch's, and how many queries it sends to another tier."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from hybrid_batch.calibrations import SMALL_SHARE, Record, told
from hybrid_batch.core.routing import GRID, ScoreHistogram, SmallSharePolicy, assign_tiers, decide, to_micros
from hybrid_batch.engines.exports import Agreement, Changed

if TYPE_CHECKING:
    from hybrid_batch.engines.router import RouterScorer

SHARES: Final = (0.2, 0.4, 0.6)
"""Shares to small for whose thresholds the tiers are compared."""

TIMED_ROWS: Final = 100
"""Queries from which on a comparison of speed says something."""

_WARM_ROWS: Final = 8


@dataclass(frozen=True)
class _Both:
    """Scores of the same queries on the grid, int64 ``[n]``, from torch and from the export, and seconds of each."""

    torch: np.ndarray
    export: np.ndarray
    seconds: tuple[float, float]


def compare(
    torch: RouterScorer,
    export: RouterScorer,
    texts: Sequence[str],
    tasks: Sequence[str | None],
    calibrated: Sequence[Record] = (),
) -> Agreement:
    """Score ``texts`` with both -> how they differ.

    Tiers are compared at the thresholds that send :data:`SHARES` of the texts to small, and at those of ``calibrated``:
    told the ``tasks`` where the calibration was, and for each group on the texts of that task.
    """
    untold = _both(torch, export, texts, None)
    with_tasks = any(record.with_tasks for record in calibrated)
    known = _both(torch, export, texts, tasks) if with_tasks else untold
    changed = [*_at_calibrations(calibrated, untold, known, tasks), *_at_shares(untold)]
    distances = np.abs(np.concatenate([both.export - both.torch for both in (untold, known)])) / GRID
    speed = untold.seconds[0] / untold.seconds[1] if len(texts) >= TIMED_ROWS else None
    return Agreement(len(texts), float(distances.mean()), float(distances.max()), speed, tuple(changed))


def share_threshold(micros: np.ndarray, share: float) -> int:
    """The threshold on the grid that a job takes for these scores (int64 ``[n]``) to send ``share`` to small."""
    return decide(SmallSharePolicy(share), ScoreHistogram(*np.unique(micros, return_counts=True))).threshold_micros


def share_changed(one: np.ndarray, other: np.ndarray, threshold_micros: int) -> float:
    """Of queries with two scores each (int64 ``[n]``), the share whose tiers differ, in [0, 1]."""
    return float(np.mean(assign_tiers(one, threshold_micros) != assign_tiers(other, threshold_micros)))


def _both(torch: RouterScorer, export: RouterScorer, texts: Sequence[str], tasks: Sequence[str | None] | None) -> _Both:
    (first, first_seconds), (second, second_seconds) = (_timed(scorer, texts, tasks) for scorer in (torch, export))
    return _Both(first, second, (first_seconds, second_seconds))


def _timed(scorer: RouterScorer, texts: Sequence[str], tasks: Sequence[str | None] | None) -> tuple[np.ndarray, float]:
    scorer.score(texts[:_WARM_ROWS])
    began = time.perf_counter()
    scores = scorer.score(texts, tasks)
    return to_micros(scores), time.perf_counter() - began


def _at_calibrations(
    calibrated: Sequence[Record], untold: _Both, known: _Both, tasks: Sequence[str | None]
) -> Iterator[Changed]:
    for record in calibrated:
        both = known if record.with_tasks else untold
        goal = told(record.goal, record.by)
        if record.by is None:
            yield from _at(goal, record.overall.threshold_micros, both, np.ones(len(tasks), dtype=bool))
        for name, part in record.groups.items():
            yield from _at(f"{goal}: {name}", part.threshold_micros, both, np.array([task == name for task in tasks]))


def _at_shares(both: _Both) -> Iterator[Changed]:
    for share in SHARES:
        threshold = share_threshold(both.torch, share)
        yield from _at(told({SMALL_SHARE: share}), threshold, both, np.ones(len(both.torch), dtype=bool))


def _at(what: str, threshold_micros: int, both: _Both, rows: np.ndarray) -> Iterator[Changed]:
    """Nothing where there are no ``rows`` (bool ``[n]``)."""
    if rows.any():
        share = share_changed(both.torch[rows], both.export[rows], threshold_micros)
        yield Changed(what, threshold_micros / GRID, share, int(rows.sum()))
