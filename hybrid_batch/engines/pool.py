"""Many requests, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


async def for_each(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], at_once: int) -> None:
    """``work`` on each of ``items``, begun in their order, on at most ``at_once`` of them at the same time.

    The first exception ends all of it and is raised; work that is under way then is cancelled.
    """
    queue = iter(items)
    workers = [asyncio.create_task(_worker(queue, work)) for _ in range(max(1, at_once))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _worker(queue: Iterator[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    for item in queue:
        await work(item)
