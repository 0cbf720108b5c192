"""What one row that cannot be answered does to a program that answers many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from benchmarks.generating_engines import Turn
from benchmarks.generating_peer import PeerFailedError

_ERROR_CHARACTERS: Final = 240


def failing_row(run: Callable[[], Turn], rows: int) -> dict[str, Any]:
    """Of so many rows: how many ``run`` answers, how many come back with an error of their own, how many it loses."""
    try:
        turn = run()
    except PeerFailedError as failure:
        turn = Turn(0.0, {}, 0, errors={str(failure): 1})
    answered = sum(text is not None for text in turn.answers.values())
    error = next(iter(turn.errors), "")[:_ERROR_CHARACTERS]
    return {
        "answered": answered,
        "failed": len(turn.answers) - answered,
        "lost": rows - len(turn.answers),
        "error": error,
    }
