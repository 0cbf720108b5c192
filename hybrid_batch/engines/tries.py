"""Why a request is sent once more, and how long to wait before."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

from hybrid_batch.engines.base import ChatAnswer, EngineHandle
from hybrid_batch.engines.chat_wire import failed
from hybrid_batch.engines.engine_metrics import Sampler

ROW_STATUS: Final = frozenset({400, 413, 422})
REFUSED_STATUS: Final = frozenset({401, 403, 404})
PASSING_STATUS: Final = frozenset({408, 409, 425})
BUSY_STATUS: Final = frozenset({429, 503})
GATEWAY_STATUS: Final = frozenset({502, 504, *range(520, 530)})
"""A gateway's words for a server behind it that is away."""

TRIES: Final = 3
"""Tries of one request whose answer is a 5xx, unreadable or cut off."""

SLOW_TRIES: Final = 2
"""Tries of a request that a living engine does not answer in time."""

BUSY_TRIES: Final = 5
"""Further tries of a request that gets 503 while nearly all others are answered."""

MOST: Final = 10
"""Answers for each refusal that count as nearly all."""

CUTS: Final = 2
"""Lost connections of one request after which a local server counts as dead."""

LOOK_S: Final = 2.0
"""How much longer a late request stays under way while we look whether its engine lives."""

BETWEEN_LOOKS_S: Final = 1.0

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
    """The engine takes no requests now; ``seconds`` is what it asked us to wait, ``for_all`` that it meant us all.

    ``doubtful``: it may as well be this one request that fails.
    """

    def __init__(
        self, reason: str, seconds: float | None = None, *, for_all: bool = False, doubtful: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason, self.seconds, self.for_all, self.doubtful = reason, seconds, for_all, doubtful


class Pulse:
    """What a client has seen of its engine: its signs of life, and the failures that may be a request's or its own."""

    def __init__(self, engine: EngineHandle) -> None:
        self._engine = engine
        self._look: asyncio.Task[bool] | None = None
        self.last_success = float("-inf")
        self.successes = self.failures = 0

    def beat(self) -> None:
        self.last_success = time.monotonic()
        self.successes += 1

    def beat_within(self, seconds: float) -> bool:
        return time.monotonic() - self.last_success <= seconds

    def look(self) -> None:
        """Begin to look whether a local engine generates; one look serves all requests that need one at a time."""
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(_generates(self._engine))

    async def generates(self) -> bool:
        """What the last look found."""
        return self._look is not None and await asyncio.shield(self._look)

    async def close(self) -> None:
        """End a look that is under way."""
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])


async def _generates(engine: EngineHandle) -> bool:
    async with Sampler(engine, BETWEEN_LOOKS_S) as sampler:
        await asyncio.sleep(BETWEEN_LOOKS_S)
    return sampler.load.generation_tokens > 0


class Doubt:
    """Whether an endpoint fails or one request alone: what the others met between its failures tells.

    Successes before the last failure do not count.  They may be those of the time before an outage.
    """

    def __init__(self, pulse: Pulse) -> None:
        self._pulse = pulse
        self._at_begin = pulse.successes
        self._at_first: int | None = None
        self._seen: tuple[int, int] | None = None
        self._own = 0

    def judge(self, reason: str, asked: float | None = None, *, busy: bool = False) -> Exception:
        """Note one more failure -> ``Again`` if others had success since the one before, else ``Wait``.

        ``asked`` is the wait in seconds that came with it.  One that is ``busy`` refuses some requests and answers
        others, so nearly all of them must have been answered.
        """
        if self._fails_alone(MOST if busy else 0):
            return Again(failed("server_error", reason), BUSY_TRIES if busy else TRIES)
        return Wait(reason, asked, for_all=asked is not None, doubtful=True)

    def _fails_alone(self, answers_for_each_failure: int) -> bool:
        pulse, before = self._pulse, self._seen
        self._at_first = pulse.failures if self._at_first is None else self._at_first
        pulse.failures += 1
        self._own += 1
        self._seen = pulse.successes, pulse.failures
        if before is None:
            return False
        answers, failures = pulse.successes - before[0], pulse.failures - before[1]
        return answers >= max(1, answers_for_each_failure * failures)

    def is_the_last(self) -> bool:
        """True if others had success since this request's first try, and none but itself failed since it did."""
        others = self._pulse.failures - (self._at_first or 0) - self._own
        return self._pulse.successes > self._at_begin and others == 0


class Backoff:
    """Pauses of one request, in seconds: drawn from a range that doubles each time (full jitter)."""

    def __init__(self) -> None:
        self._pauses = 0

    def next(self) -> float:
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**self._pauses)
        self._pauses += 1
        return random.uniform(0.0, longest)  # noqa: S311 (not for secrets)
