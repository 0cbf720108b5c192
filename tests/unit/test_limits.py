"""How fast a limiter lets requests go, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import heapq
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.engines.base import ChatRequest, EndpointRecipe, EngineHandle
from hybrid_batch.engines.chat_client import ChatClient
from hybrid_batch.engines.endpoint import open_endpoint
from hybrid_batch.engines.limits import Bucket, Limiter, estimated_tokens, limiter_of


def starts(bucket: Bucket, cost: float, number: int) -> list[float]:
    """When ``number`` requests that all ask at time 0 may go."""
    return [bucket.reserve(cost, 0.0) for _ in range(number)]


@given(per_minute=st.integers(1, 5000), number=st.integers(1, 400))
def test_no_minute_has_more_requests_than_allowed(per_minute, number):
    begun = starts(Bucket(per_minute, 0.0), 1.0, number)
    assert begun == sorted(begun)
    for first in begun:
        assert sum(first <= other < first + 60.0 - 1e-6 for other in begun) <= per_minute


@pytest.mark.parametrize(("per_minute", "cost"), [(60, 1.0), (600, 1.0), (6000, 10.0), (90_000, 400.0), (100, 250.0)])
def test_the_rate_is_that_of_the_limit(per_minute, cost):
    number = 1000
    seconds = starts(Bucket(per_minute, 0.0), cost, number + 1)[-1]
    assert number * cost * 60 / seconds == pytest.approx(per_minute, rel=0.02)


def test_what_was_not_spent_comes_back_and_what_was_spent_on_top_is_owed():
    frugal, plain, lavish = Bucket(600, 0.0), Bucket(600, 0.0), Bucket(600, 0.0)
    for bucket, back in ((frugal, 15.0), (plain, 0.0), (lavish, -15.0)):
        bucket.reserve(40.0, 0.0)
        bucket.give_back(back, 0.0)
    waits = [bucket.reserve(1.0, 0.0) for bucket in (frugal, plain, lavish)]
    assert waits == [pytest.approx(waits[1] - 15 / plain.rate), waits[1], pytest.approx(waits[1] + 15 / plain.rate)]


def test_an_idle_bucket_saves_no_more_than_it_holds():
    bucket = Bucket(600, 0.0)
    bucket.give_back(1e9, 0.0)
    assert [bucket.reserve(bucket.capacity, 3600.0) for _ in range(2)] == [0.0, bucket.capacity / bucket.rate]


def test_a_cancelled_wait_gives_its_tokens_back():
    async def run() -> None:
        limiter = Limiter(tokens_per_minute=6000)
        await limiter.admit(100)
        waiting = asyncio.create_task(limiter.admit(50_000))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await limiter.admit(1)

    asyncio.run(asyncio.wait_for(run(), 30.0))  # the 50,000 tokens would take 500 s


def test_a_pause_holds_back_everybody():
    async def run() -> list[float]:
        limiter = Limiter()
        limiter.pause(0.2)
        limiter.pause(0.01)  # the longer one stays
        began = time.monotonic()

        async def one() -> float:
            await limiter.admit(0)
            return time.monotonic() - began

        return await asyncio.gather(*(one() for _ in range(5)))

    assert min(asyncio.run(run())) >= 0.19


class OwnClock:
    """Seconds that pass only when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.seconds + seconds, id(woken), woken))
        await woken

    async def run_to(self, seconds: float) -> None:
        await asyncio.sleep(0)
        while self._sleepers and self._sleepers[0][0] <= seconds:
            self.seconds, _, woken = heapq.heappop(self._sleepers)
            woken.set_result(None)
            for _ in range(3):
                await asyncio.sleep(0)
        self.seconds = seconds


def departures(number: int, pauses: list[tuple[float, float]], **limits: float) -> list[float]:
    """When ``number`` requests of 10 tokens that all ask at time 0 leave; a pause is its begin and its length."""

    async def run() -> list[float]:
        clock = OwnClock()
        limiter = Limiter(**limits, clock=clock.now, sleep=clock.sleep)
        left: list[float] = []

        async def one() -> None:
            await limiter.admit(10)
            left.append(clock.seconds)

        waiting = [asyncio.create_task(one()) for _ in range(number)]
        for begin, length in pauses:
            await clock.run_to(begin)
            limiter.pause(length)
        await clock.run_to(100_000.0)
        await asyncio.gather(*waiting)
        return left

    return asyncio.run(run())


@pytest.mark.parametrize("limits", [{"requests_per_minute": 60}, {"tokens_per_minute": 600}])
@pytest.mark.parametrize(
    ("pauses", "paused"),
    [
        ([(5.5, 60.0)], 60.0),
        ([(5.5, 60.0), (30.5, 60.0), (31.0, 1.0)], 85.0),
        ([(2.5, 9.0), (20.5, 90.0)], 99.0),
    ],
)
def test_what_a_pause_held_back_leaves_at_the_rate_of_the_limit(limits, pauses, paused):
    left = departures(200, pauses, **limits)
    assert left == sorted(left)
    for begin, length in pauses:
        assert not any(begin < moment < begin + length for moment in left)
    for first in left:
        assert sum(first <= moment < first + 60.0 - 1e-6 for moment in left) <= 60
    undisturbed = departures(200, [], **limits)
    assert left[-1] == pytest.approx(undisturbed[-1] + paused)


def test_tasks_of_one_process_share_a_limiter_and_get_their_share():
    whole = EndpointRecipe("large", "m", "https://h/v1", requests_per_minute=100, tokens_per_minute=1000)
    one, again, quarter = (open_endpoint(recipe) for recipe in (whole, whole, replace(whole, shares=4)))
    assert (quarter.requests_per_minute, quarter.tokens_per_minute) == (25, 250)
    assert limiter_of(one) is limiter_of(again)
    assert limiter_of(one) is not limiter_of(quarter)
    assert limiter_of(one).counts_tokens
    assert not limiter_of(replace(one, tokens_per_minute=None)).counts_tokens
    client = ChatClient(one, concurrency=1, request_timeout_s=1.0)
    assert client.limiter is limiter_of(one)


def test_a_local_engine_has_no_limits_to_share():
    local = EngineHandle("x", "http://127.0.0.1:9/v1", "m")
    assert limiter_of(local) is not limiter_of(local)


@pytest.mark.parametrize(
    ("content", "payload", "tokens"),
    [
        ("x" * 40, {"max_tokens": 100}, 4 + 10 + 100),
        ("x" * 41, {"max_tokens": 100, "n": 3}, 4 + 11 + 300),
        ("é" * 20, {"max_completion_tokens": 7}, 4 + 10 + 7),
        ([{"type": "text", "text": "x" * 40}, {"type": "image_url", "image_url": {}}], {}, 4 + 10 + 1000),
        (None, {}, 4),
    ],
)
def test_the_estimate_counts_text_and_the_longest_answer(content, payload, tokens):
    assert estimated_tokens(ChatRequest([{"role": "user", "content": content}]), payload) == tokens
