"""A front before the S3 server that misbehaves now and then, as often as it is told."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence

from tests.s3.flaky_front import Behaviour, FlakyFront, Request

_BROKEN = b"<?xml version='1.0'?><Error><Code>InternalError</Code><Message>broken</Message></Error>"
SLOW_S, LOST_S = 0.2, 2.0


class ChaosFront(FlakyFront):
    """Passes requests on; while ``awake`` it does to a ``share`` of those with one of ``methods`` what ``does`` says.

    ``struck`` counts these.
    """

    def __init__(
        self, upstream: str, does: str | Behaviour, share: float = 1.0, methods: Sequence[str] = (), seed: int = 0
    ) -> None:
        super().__init__(upstream)
        self.awake = False
        self.struck = 0
        self._does, self._share, self._methods = does, share, methods
        self._draw = random.Random(seed)

    def next_behaviour(self, request: Request) -> str | Behaviour:
        with self._lock:
            self.requests += 1
            chosen = self.awake and self.concerns(request) and self._draw.random() < self._share
            self.struck += chosen
        return self._does if chosen else "pass"

    def concerns(self, request: Request) -> bool:
        """Whether it may be one of the requests that something happens to."""
        return not self._methods or request.command in self._methods


class OnceFront(ChaosFront):
    """Does it to the first request that ``concerned`` is true of, and passes all others on."""

    def __init__(self, upstream: str, does: Behaviour, concerned: Callable[[Request], bool]) -> None:
        super().__init__(upstream, does)
        self._concerned = concerned

    def concerns(self, request: Request) -> bool:
        return not self.struck and self._concerned(request)


def slow(request: Request, body: bytes) -> None:
    time.sleep(SLOW_S)
    pass_on(request, body)


def broken(request: Request, _body: bytes) -> None:
    """500, which S3 answers when something of its own failed."""
    request.answer(500, [], _BROKEN)


def vanish(request: Request, _body: bytes) -> None:
    """The request is lost: nobody answers, until the connection is given up."""
    time.sleep(LOST_S)
    request.break_off()


def pass_on(request: Request, body: bytes) -> None:
    request.answer(*request.front.forward(request, body), own_length=False)
