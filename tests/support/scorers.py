"""A scorer as a user would write one."""

from __future__ import annotations

from hybrid_batch.quality import Case


def length(answer: str, case: Case) -> float:
    """Longer is better; not a good scorer."""
    assert case.prompt
    return len(answer) / 1000


def speechless(answer: str, case: Case) -> None:
    """Judges nothing."""
