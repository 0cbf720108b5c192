"""``calibrate``: from a promise, a share or a budget to a threshold that is kept beside the router."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from hybrid_batch.calibrations import (
    ALL_TO_LARGE,
    CONFIDENCE,
    MAX_DROP,
    MAX_USD,
    SMALL_SHARE,
    USD_LARGE,
    USD_SMALL,
    Goal,
    Record,
    Threshold,
)
from hybrid_batch.core import calibration
from hybrid_batch.core.calibration import Calibration, Promise
from hybrid_batch.core.errors import ConfigError, InputError
from hybrid_batch.study.subject import Subject

Range = tuple[float, float]
"""The lowest and the highest quality that an answer can have."""


@dataclass(frozen=True)
class Calibrated:
    """The record to store and, beside it, what the paper's grid search would choose for the same rows.

    ``paper`` has a threshold for each group (or for ``""`` without groups); it is empty where no drop was promised.
    ``without_group`` counts rows whose task is missing: they speak for no group.
    """

    record: Record
    paper: Mapping[str, Threshold]
    without_group: int = 0


def promise(max_drop_pct: float, confidence: float) -> Goal:
    """The goal "at most this drop, with this confidence".  Raises ``ConfigError``."""
    if not 0 < max_drop_pct < 100:
        raise ConfigError(f"--max-drop is {max_drop_pct:g}, allowed are percents above 0 and below 100")
    if not 0 < confidence < 1:
        raise ConfigError(f"--confidence is {confidence:g}, allowed are numbers above 0 and below 1, as in 0.95")
    return {MAX_DROP: float(max_drop_pct), CONFIDENCE: float(confidence)}


def share(small_share: float) -> Goal:
    """The goal "this share to the small model".  Raises ``ConfigError``."""
    if not 0 <= small_share <= 1:
        raise ConfigError(f"--small-share is {small_share:g}, allowed are numbers from 0 to 1, as in 0.4")
    return {SMALL_SHARE: float(small_share)}


def budget(usd: Decimal, small: Decimal, large: Decimal) -> Goal:
    """The goal "1,000 queries cost at most this", from what 1,000 queries cost with each model alone.

    Raises ``ConfigError`` where the small model is not the cheaper one, or even it is too dear.
    """
    if not 0 <= small < large:
        raise ConfigError(f"--usd-small is {small} and --usd-large {large}; the small model must be the cheaper one")
    if usd < small:
        raise ConfigError(f"--max-cost is {usd}, but the small model alone costs {small} USD per 1,000 queries")
    return {MAX_USD: str(usd), USD_SMALL: str(small), USD_LARGE: str(large)}


def calibrate(subject: Subject, goal: Goal, by: str | None = None, quality: Range = (0.0, 1.0)) -> Calibrated:
    """Find the threshold for ``goal`` on the rows of ``subject``, or one for each of its tasks if ``by`` is given.

    ``by`` is what the nightly job calls the column of the task.  Each group's promise is its own: it holds with the
    given confidence for that group, and a group whose rows cannot keep it goes to large as a whole.  The threshold
    over all groups is no help there: it promises a mean in which one group may lose what another wins.
    Raises ``InputError`` for rows that trained the router and for labels without tasks, ``ConfigError`` for groups
    without a promise.
    """
    if MAX_DROP in goal and subject.seen_in_training:
        raise InputError(
            f"{subject.labels.source}: these rows trained the router, so its scores are too good on them and a promise "
            "made from them would not hold; calibrate on rows that it has not seen"
        )
    if by is not None and MAX_DROP not in goal:
        raise ConfigError(f"--by {by} goes with --max-drop: a share or a budget is one for all queries")
    parts = {"": subject} if by is None else subject.by_task()
    if not parts:
        raise InputError(f"{subject.labels.source}: no row has a task, so there are no groups for --by {by}")
    found = {name: _calibration(part, goal, quality) for name, part in parts.items()}
    paper = {name: _paper(part, float(goal[MAX_DROP])) for name, part in parts.items()} if MAX_DROP in goal else {}
    without = len(subject) - sum(len(part) for part in parts.values())
    return Calibrated(_record(subject, goal, by, found), paper, without)


def _calibration(part: Subject, goal: Goal, quality: Range) -> Calibration:
    q = part.labels.qualities
    if MAX_DROP in goal:
        return _promised(part, Promise(float(goal[MAX_DROP]), float(goal[CONFIDENCE])), quality)
    if SMALL_SHARE in goal:
        return calibration.for_small_share(part.scores, q, float(goal[SMALL_SHARE]))
    small, large, usd = (float(goal[key]) for key in (USD_SMALL, USD_LARGE, MAX_USD))
    return calibration.for_max_cost(part.scores, q, small, large, usd)


def _promised(part: Subject, promised: Promise, quality: Range) -> Calibration:
    try:
        return calibration.calibrate(part.scores, part.labels.qualities, promised, quality)
    except ValueError as error:
        raise InputError(f"{part.labels.source}: {error}") from error


def _paper(part: Subject, max_drop_pct: float) -> Threshold:
    return _as_threshold(calibration.grid_search(part.scores, part.labels.qualities, max_drop_pct))


def _as_threshold(found: Calibration) -> Threshold:
    return Threshold(
        threshold_micros=found.threshold_micros,
        rows=found.rows,
        share=found.share,
        drop_pct=found.drop_pct,
        upper_drop_pct=found.upper_drop_pct,
        kept=found.kept,
        rows_needed=found.rows_needed,
    )


def _record(subject: Subject, goal: Goal, by: str | None, found: Mapping[str, Calibration]) -> Record:
    thresholds = {name: _as_threshold(part) for name, part in found.items()}
    nobody = Threshold(ALL_TO_LARGE, rows=0, share=0.0, drop_pct=0.0)
    return Record(
        goal=goal,
        router=subject.card.fingerprint,
        labels=subject.labels.fingerprint,
        labels_source=subject.labels.source,
        rows=len(subject),
        method=next(iter(found.values())).method,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        overall=nobody if by else thresholds[""],
        with_tasks=subject.with_tasks,
        by=by,
        groups=thresholds if by else {},
    )
