"""How far a run is: values for a display, made by whoever counts."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol


@dataclass(frozen=True)
class Progress:
    """One look at one stage.

    ``stage`` is ``score``, ``generate rejected``, ``generate small`` or ``generate large``;
    ``total_rows`` is None while it is unknown; tokens and ``usd`` cover the whole run so far
    (``usd`` None without prices); ``rows_before`` were done before this process started (resume).
    """

    stage: str
    done_rows: int
    total_rows: int | None
    elapsed_seconds: float
    rows_before: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: Decimal | None = None

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
