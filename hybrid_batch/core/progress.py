"""How far a run is: values for a display, made by whoever counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import median
from typing import Final, Protocol

from hybrid_batch.core.cost import union_length
from hybrid_batch.core.records import EngineLoad

FEW_PARTS: Final = 0.1
"""Share of the parts that are left when a stage is near its end; two parts are always few."""

LONG_GAPS: Final = 3.0
"""So many times the longest pause between two commits is long for the next one."""

LONG_SECONDS: Final = 30.0
"""No shorter wait is worth a word."""

SKEWED: Final = 3.0
"""So many times the median of the parts makes the slowest one a straggler."""

RECENT_US: Final = 30 * 60 * 1_000_000
"""How far back a rate looks from the last commit."""

STALLED_SECONDS: Final = 300.0
"""A shorter time without a commit says nothing about the driver."""


@dataclass(frozen=True)
class Parts:
    """The parts of a stage: how many are committed, and which are awaited at the end.

    ``awaited`` names them while they keep the stage waiting, and is empty otherwise; ``waited_seconds`` is how long the
    last commit was ago then.
    """

    done: int
    total: int
    awaited: tuple[str, ...] = ()
    waited_seconds: float = 0.0


def is_long_awaited(left: int, total: int, waited_seconds: float, longest_gap_seconds: float) -> bool:
    """Whether the ``left`` parts of ``total`` hold a stage up: few, and without a commit for unusually long.

    ``longest_gap_seconds`` is the longest time from one commit to the next so far, 0 before the first.
    """
    few = 0 < left <= max(2, FEW_PARTS * total)
    return few and longest_gap_seconds > 0 and waited_seconds >= max(LONG_SECONDS, LONG_GAPS * longest_gap_seconds)


@dataclass(frozen=True)
class PartTime:
    """What one part took in its task."""

    part: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class Skew:
    """A stage whose slowest part took far longer than half of the parts did at most."""

    slowest: PartTime
    median_seconds: float


def skew_of(times: Iterable[PartTime]) -> Skew | None:
    """The skew of a stage; None where parts took about the same, or too little to matter."""
    known = list(times)
    if not known:
        return None
    slowest, usual = max(known, key=lambda time: time.seconds), median(time.seconds for time in known)
    long = slowest.seconds - usual >= LONG_SECONDS and slowest.seconds >= SKEWED * usual
    return Skew(slowest, usual) if long else None


@dataclass(frozen=True)
class Work:
    """Rows that were committed together, and the time that they took, in microseconds since the epoch."""

    started_us: int
    finished_us: int
    rows: int


def recent_rate(work: Sequence[Work]) -> float | None:
    """Rows per second towards the last commit; None where that cannot be told.

    Counted are the rows that were finished after the first finish of the last half hour, over the time since in which
    something was under way: a pause between two starts of a run does not make it slow.
    """
    last = max((one.finished_us for one in work), default=0)
    recent = [one for one in work if one.finished_us > last - RECENT_US]
    first = min((one.finished_us for one in recent), default=0)
    later = [one for one in recent if one.finished_us > first]
    counted, begin = (later, first) if later else (recent, 0)
    busy_us = union_length([(max(one.started_us, begin), one.finished_us) for one in recent])
    return sum(one.rows for one in counted) * 1_000_000 / busy_us if busy_us else None


def is_stalled(waited_seconds: float, longest_seconds: float) -> bool:
    """Whether a wait for the next commit is so long that the driver may be gone; ``longest_seconds``: one shard's."""
    return waited_seconds >= max(STALLED_SECONDS, LONG_GAPS * longest_seconds)


@dataclass(frozen=True)
class Progress:
    """One look at one stage.

    ``stage`` is ``score``, ``generate rejected``, ``generate small`` or ``generate large``;
    ``total_rows`` is None while it is unknown; tokens and ``usd`` cover the whole run so far
    (``usd`` None without prices); ``rows_before`` were done before this process started (resume);
    ``parts`` is None where nobody counts them; ``load`` is what the tier's engines said of themselves so far.
    """

    stage: str
    done_rows: int
    total_rows: int | None
    elapsed_seconds: float
    rows_before: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: Decimal | None = None
    parts: Parts | None = None
    load: EngineLoad = field(default_factory=EngineLoad)

    @property
    def rows_per_second(self) -> float:
        fresh = self.done_rows - self.rows_before
        return fresh / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds to the end of the stage at the rate so far; None while that is unknown."""
        if self.total_rows is None or self.rows_per_second <= 0:
            return None
        return max(0, self.total_rows - self.done_rows) / self.rows_per_second


class Observer(Protocol):
    """Whoever watches a run.  Calls come from one thread at a time."""

    def note(self, message: str) -> None:
        """One line for the user: what starts, what was found, where something lies."""
        ...

    def progress(self, progress: Progress) -> None:
        """The state of the current stage; called about once a second."""
        ...
