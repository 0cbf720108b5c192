"""What a running engine says of itself: vLLM's ``/metrics``, looked at while a shard is under way.

The names are those of vLLM 0.32 (``vllm/v1/metrics/loggers.py``).  A look that fails is left out; it never disturbs the
requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from yarl import URL

from hybrid_batch.core.records import EngineLoad
from hybrid_batch.engines.base import EngineHandle
from hybrid_batch.engines.transport import CutOffError, Transport, UnreachableError

EVERY_S: Final = 5.0
"""A look costs the server some milliseconds, in which it serves nobody."""

SOON_S: Final = 1.0
LOOK_TIMEOUT_S: Final = 2.0

_LINE: Final = re.compile(r"vllm:([a-z_]+)(?:\{[^}]*\})? (\S+)")
_SUMS: Final = {
    "num_requests_running": "running",
    "num_requests_waiting": "waiting",
    "prefix_cache_queries_total": "prefix_queries",
    "prefix_cache_hits_total": "prefix_hits",
    "num_preemptions_total": "preemptions",
    "prompt_tokens_total": "prompt_tokens",
    "generation_tokens_total": "generation_tokens",
}
_SHARES: Final = {"kv_cache_usage_perc": "kv_cache"}


@dataclass(frozen=True)
class EngineMetrics:
    """One look at an engine: two gauges in requests, the used share of the KV cache, and counters since its start."""

    running: float = 0.0
    waiting: float = 0.0
    kv_cache: float = 0.0
    prefix_queries: float = 0.0
    prefix_hits: float = 0.0
    preemptions: float = 0.0
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0


def parse_metrics(text: str) -> EngineMetrics:
    """Read Prometheus' text form.  Of several engines behind one server the requests are summed, and the fullest KV
    cache counts.  A series that is not there stays 0."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if (match := _LINE.match(line)) is None:
            continue
        name, value = match.groups()
        if name in _SUMS:
            found[_SUMS[name]] = found.get(_SUMS[name], 0.0) + float(value)
        elif name in _SHARES:
            found[_SHARES[name]] = max(found.get(_SHARES[name], 0.0), float(value))
    return EngineMetrics(**found)


def load_of(looks: Sequence[EngineMetrics]) -> EngineLoad:
    """The load between the first look and the last, in this order.

    The gauges are those of the looks between: at both ends nothing is under way yet, or nothing any more.
    """
    if not looks:
        return EngineLoad()
    first, *between, last = (*looks, looks[-1]) if len(looks) == 1 else looks

    def grown(name: str) -> int:
        return round(max(0.0, getattr(last, name) - getattr(first, name)))

    return EngineLoad(
        samples=len(between),
        running_mean=_mean(look.running for look in between),
        running_max=max((look.running for look in between), default=0.0),
        waiting_mean=_mean(look.waiting for look in between),
        waiting_max=max((look.waiting for look in between), default=0.0),
        kv_cache_mean=_mean(look.kv_cache for look in between),
        kv_cache_max=max((look.kv_cache for look in between), default=0.0),
        prefix_queries=grown("prefix_queries"),
        prefix_hits=grown("prefix_hits"),
        preemptions=grown("preemptions"),
        prompt_tokens=grown("prompt_tokens"),
        generation_tokens=grown("generation_tokens"),
    )


class Sampler:
    """Looks at a local engine every ``every_s`` seconds for the length of an ``async with`` block, and at both ends.

    Of an endpoint it sees nothing: its ``/metrics`` is not ours to ask for.
    """

    def __init__(self, engine: EngineHandle, every_s: float = EVERY_S) -> None:
        self._engine, self._every_s = engine, every_s
        self._url = URL(engine.base_url.removesuffix("/v1") + "/metrics")
        self._http = Transport(engine.base_url, engine.api_key, 1, may_use_proxy=False)
        self._looks: list[EngineMetrics] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def load(self) -> EngineLoad:
        """What was seen so far; ``EngineLoad()`` when no look succeeded."""
        return load_of(self._looks)

    async def __aenter__(self) -> Self:
        if self._engine.is_local:
            await self._look()  # before the first request, or the counters would miss it
            self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._task is not None:
                self._task.cancel()
                await asyncio.wait([self._task])
                if kind is None:
                    await self._look()
        finally:
            await self._http.close()

    async def _watch(self) -> None:
        await asyncio.sleep(min(SOON_S, self._every_s))  # a short shard is seen at work too
        while True:
            await self._look()
            await asyncio.sleep(self._every_s)

    async def _look(self) -> None:
        with contextlib.suppress(TimeoutError, UnreachableError, CutOffError, ValueError):
            reply = await self._http.get(self._url, LOOK_TIMEOUT_S)
            if reply.status == 200:
                self._looks.append(parse_metrics(reply.body.decode()))


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
