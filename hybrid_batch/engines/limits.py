"""Requests and tokens per minute: when one task may send its next request."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from hybrid_batch.engines.base import ChatRequest, EngineHandle

MINUTE_S: Final = 60.0

BURSTS: Final = 60
"""A bucket holds a sixtieth of a minute's budget: some endpoints count by the second."""

BYTES_PER_TOKEN: Final = 4
TOKENS_PER_MESSAGE: Final = 4
TOKENS_PER_IMAGE: Final = 1000
"""A guess, for the time until the answer tells."""

LONGEST_SPREAD_S: Final = 1.0

INSTANT_S: Final = 1e-9
"""Less than this is no wait."""


class Bucket:
    """``per_minute`` units of something, handed out at an even rate.  Times are seconds of any monotonic clock.

    A cost that is larger than what the bucket holds makes a debt that later requests wait for.  The rate leaves room
    for a full bucket, so that single units never exceed ``per_minute`` in any minute.
    """

    def __init__(self, per_minute: float, now: float, minute_s: float = MINUTE_S) -> None:
        self.capacity = per_minute / BURSTS
        self.rate = (per_minute - self.capacity) / minute_s
        self._level, self._seen = self.capacity, now

    def reserve(self, cost: float, now: float) -> float:
        """Take ``cost`` -> seconds until it may be spent."""
        self._fill(now)
        wait = max(0.0, min(cost, self.capacity) - self._level) / self.rate
        self._level -= cost
        return wait

    def give_back(self, units: float, now: float) -> None:
        """Return what was reserved and not spent; a negative number takes what was spent on top."""
        self._fill(now)
        self._level = min(self.capacity, self._level + units)

    def _fill(self, now: float) -> None:
        self._level = min(self.capacity, self._level + self.rate * (now - self._seen))
        self._seen = now


class PausableClock:
    """Seconds of the clock ``now`` that stand still during pauses.

    What falls due during a pause so falls due that much later, and in the same order and distances.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._paused_until = now()
        self._lost = 0.0

    def now(self) -> float:
        return self._now() - self._lost + self.paused_for()

    def paused_for(self) -> float:
        """Seconds until the pause ends, 0 without one."""
        return max(0.0, self._paused_until - self._now())

    def pause(self, seconds: float) -> None:
        """Stand still for ``seconds``; a longer pause that is under way stays."""
        further = max(0.0, seconds - self.paused_for())
        if further > 0:
            self._lost += further
            self._paused_until = self._now() + seconds


class Limiter:
    """What one client may send: two buckets, and a pause for all its requests when the endpoint asks for one.

    It belongs to no event loop, so it can outlive a client.  ``minute_s`` is the time that the limits are for;
    ``clock`` and ``sleep`` count and pass seconds.
    """

    def __init__(
        self,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        minute_s: float = MINUTE_S,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        # The buckets do not fill during a pause, or all that waits would leave at its end at once.
        self._clock, self._sleep = PausableClock(clock), sleep
        now = self._clock.now()
        self._requests = Bucket(requests_per_minute, now, minute_s) if requests_per_minute else None
        self._tokens = Bucket(tokens_per_minute, now, minute_s) if tokens_per_minute else None
        self._spread = 0.0

    @property
    def counts_tokens(self) -> bool:
        return self._tokens is not None

    async def admit(self, tokens: float) -> None:
        """Wait until a request that may cost ``tokens`` can be sent."""
        now = self._clock.now()
        due = now + max(self._requests.reserve(1.0, now) if self._requests else 0.0, self._reserved(tokens, now))
        try:
            while (left := self._left(due)) > INSTANT_S:
                await self._sleep(left)
        except asyncio.CancelledError:
            self.settle(tokens, 0.0)
            raise

    def settle(self, reserved: float, used: float) -> None:
        """Correct an estimate by what the request really cost, 0 for one that was not answered."""
        if self._tokens is not None:
            self._tokens.give_back(reserved - used, self._clock.now())

    def pause(self, seconds: float) -> None:
        """Send nothing for ``seconds``; a longer pause that is under way stays."""
        self._clock.pause(seconds)
        self._spread = min(LONGEST_SPREAD_S, seconds)

    def _left(self, due: float) -> float:
        """Seconds until ``due``.  Where no bucket spreads what a pause held back, chance does."""
        paused = self._clock.paused_for()
        spread = self._spread if paused > 0 and not (self._requests or self._tokens) else 0.0
        return paused + max(0.0, due - self._clock.now()) + random.uniform(0.0, spread)  # noqa: S311 (not for secrets)

    def _reserved(self, tokens: float, now: float) -> float:
        return self._tokens.reserve(tokens, now) if self._tokens else 0.0


def limiter_of(engine: EngineHandle) -> Limiter:
    """The limiter for ``engine``: of an endpoint the one of this process, kept from task to task, with its debts."""
    if engine.is_local:
        return Limiter()
    return _of_endpoint(engine.base_url, engine.model, engine.requests_per_minute, engine.tokens_per_minute)


@lru_cache(maxsize=8)
def _of_endpoint(_base_url: str, _model: str, requests: float | None, tokens: float | None) -> Limiter:
    return Limiter(requests, tokens)


def estimated_tokens(request: ChatRequest, payload: Mapping[str, Any]) -> int:
    """What an endpoint may count for a request before it is answered: its text, and all tokens it may generate."""
    prompt = sum(TOKENS_PER_MESSAGE + _content_tokens(message.get("content")) for message in request.messages)
    answer = payload.get("max_tokens") or payload.get("max_completion_tokens") or 0
    return prompt + int(answer) * int(payload.get("n") or 1)


def _content_tokens(content: object) -> int:
    if isinstance(content, str):
        return -(-len(content.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
    if not isinstance(content, list):
        return 0
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    return sum(TOKENS_PER_IMAGE if text is None else _content_tokens(text) for text in texts)
