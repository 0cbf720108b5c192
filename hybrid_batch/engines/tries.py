"""Why a request is sent once more, and how long to wait before."""

from __future__ import annotations

import random
from typing import Final

from hybrid_batch.engines.base import ChatAnswer

TRIES: Final = 3
"""Tries of one request whose answer is a 5xx, unreadable or cut off."""

SLOW_TRIES: Final = 2
"""Tries of a request that an endpoint does not answer in time."""

CUTS: Final = 2
"""Lost connections of one request after which a local server counts as dead."""

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 30.0


class Again(Exception):
    """Ask again: ``answer`` is what the row gets when ``tries`` of them failed."""

    def __init__(self, answer: ChatAnswer, tries: int = TRIES) -> None:
        super().__init__(answer.error_message)
        self.answer, self.tries = answer, tries


class Shorter(Exception):
    """Ask at once for a shorter answer: the full one has no room in the window."""


class Wait(Exception):
    """The engine takes no requests now; ``seconds`` is what it asked us to wait, ``for_all`` that it meant us all."""

    def __init__(self, reason: str, seconds: float | None = None, *, for_all: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.seconds, self.for_all = reason, seconds, for_all


class Backoff:
    """Pauses of one request, in seconds: drawn from a range that doubles each time (full jitter)."""

    def __init__(self) -> None:
        self._pauses = 0

    def next(self) -> float:
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._pauses)
        self._pauses += 1
        return random.uniform(0.0, longest)  # noqa: S311 (not for secrets)
