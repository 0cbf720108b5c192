"""Answering a shard on this executor's engine, and on the one after it if it dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from hybrid_batch.core.errors import EngineDiedError
from hybrid_batch.core.records import EngineLoad, EngineSpan
from hybrid_batch.engines.base import EngineHandle, EngineRecipe
from hybrid_batch.spark import executor
from hybrid_batch.stages.ask import Asking


@dataclass(frozen=True)
class Answered:
    """A shard whose rows all have an answer: the last ``engine``, and the time of each one that worked on it."""

    asking: Asking
    engine: EngineHandle
    spans: tuple[EngineSpan, ...]
    load: EngineLoad


def answered(make: Callable[[], Asking], recipe: EngineRecipe, log_folder: str | None) -> Answered:
    """Answer what ``make`` gives; it is called when an engine is there, so that tasks that wait hold no rows.

    Raises ``EngineDiedError`` when engines die too often for the rows to be the reason.
    """
    asking, spans, load = None, [], EngineLoad()
    while True:
        with executor.leased(recipe, log_folder, alone=asking is not None and asking.suspects) as engine:
            started = _now_us()
            asking = asking or make()
            try:
                load += asyncio.run(_drive(asking, recipe, engine))
            except EngineDiedError:
                executor.discard(engine)
                if asking.hopeless:
                    raise
            spans.append(EngineSpan(engine.engine_id, started, _now_us(), round(engine.load_seconds * 1e6)))
        if asking.finished:
            return Answered(asking, engine, tuple(spans), load)


async def _drive(asking: Asking, recipe: EngineRecipe, engine: EngineHandle) -> EngineLoad:
    client = executor.client(recipe, engine)
    try:
        async with executor.sampler(engine) as sampler:
            await asking.run(client)
        return sampler.load
    finally:
        await client.close()


def _now_us() -> int:
    return time.time_ns() // 1000
