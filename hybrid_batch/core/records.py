"""Small values that travel between stages: usage, receipts, shards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True, order=True)
class ShardId:
    """One unit of work: a fixed list of rows of one tier.  ``number`` counts from 0 within the tier."""

    tier: str
    number: int


@dataclass(frozen=True)
class Usage:
    """What some rows used: a monoid under ``+`` with ``Usage()`` as zero.

    ``cached_prompt_tokens`` are those of ``prompt_tokens`` that the engine found in its prefix cache; ``shared_rows``
    have the answer of an identical request, and used no tokens of their own.
    """

    rows: int = 0
    failed_rows: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_prompt_tokens: int = 0
    shared_rows: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.rows + other.rows,
            self.failed_rows + other.failed_rows,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_prompt_tokens + other.cached_prompt_tokens,
            self.shared_rows + other.shared_rows,
        )


def total_usage(usages: Iterable[Usage]) -> Usage:
    """The sum of ``usages``."""
    return sum(usages, Usage())


@dataclass(frozen=True)
class EngineLoad:
    """What an engine said of itself while a shard was under way: a monoid under ``+`` with ``EngineLoad()`` as zero.

    ``running`` and ``waiting`` count requests and ``kv_cache`` is the used share of the KV cache, in [0, 1], each as
    mean and maximum over ``samples`` looks while requests were under way.  The counters are what the engine did in that
    time for all its callers, so shards that share an engine both count it; their quotients hold all the same.
    ``prefix_queries`` and ``prefix_hits`` are prompt tokens that were looked up in the prefix cache and found there.
    """

    samples: int = 0
    running_mean: float = 0.0
    running_max: float = 0.0
    waiting_mean: float = 0.0
    waiting_max: float = 0.0
    kv_cache_mean: float = 0.0
    kv_cache_max: float = 0.0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0

    @property
    def prefix_hit_rate(self) -> float | None:
        """Share of the looked-up prompt tokens that were found, None where none was looked up."""
        return self.prefix_hits / self.prefix_queries if self.prefix_queries else None

    def __add__(self, other: EngineLoad) -> EngineLoad:
        samples = self.samples + other.samples

        def mean(mine: float, others: float) -> float:
            return (mine * self.samples + others * other.samples) / samples if samples else 0.0

        return EngineLoad(
            samples,
            mean(self.running_mean, other.running_mean),
            max(self.running_max, other.running_max),
            mean(self.waiting_mean, other.waiting_mean),
            max(self.waiting_max, other.waiting_max),
            mean(self.kv_cache_mean, other.kv_cache_mean),
            max(self.kv_cache_max, other.kv_cache_max),
            self.prefix_queries + other.prefix_queries,
            self.prefix_hits + other.prefix_hits,
            self.preemptions + other.preemptions,
            self.prompt_tokens + other.prompt_tokens,
            self.generation_tokens + other.generation_tokens,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``EngineLoad(**values)`` is the inverse."""
        return asdict(self)


@dataclass(frozen=True)
class EngineSpan:
    """When a shard kept an engine busy, wall clock in microseconds since the epoch.

    ``load_us`` is what that engine took to become ready.
    """

    engine_id: str
    started_us: int
    finished_us: int
    load_us: int = 0


@dataclass(frozen=True)
class Receipt:
    """What one committed shard cost.  It is part of the result object, so the two cannot disagree.

    ``started_us`` and ``finished_us`` are wall clock in microseconds since the epoch: the time in which the
    shard kept the engine ``engine_id`` busy.  ``load_us`` is what that engine took to become ready.  ``earlier`` are
    the times before, of engines that died or that the shard had to itself; ``engine_deaths`` counts those that died.
    ``load`` is what a local engine said of itself meanwhile.
    ``errors`` and ``finish_reasons`` count rows by kind.
    """

    tier: str
    number: int
    usage: Usage
    engine_id: str
    started_us: int
    finished_us: int
    load_us: int = 0
    earlier: tuple[EngineSpan, ...] = ()
    engine_deaths: int = 0
    load: EngineLoad = field(default_factory=EngineLoad)
    errors: Mapping[str, int] = field(default_factory=dict)
    finish_reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def spans(self) -> tuple[EngineSpan, ...]:
        """All times in which the shard kept engines busy; none where no model saw it."""
        last = EngineSpan(self.engine_id, self.started_us, self.finished_us, self.load_us)
        return (*self.earlier, last) if self.engine_id else ()

    @property
    def shard(self) -> ShardId:
        return ShardId(self.tier, self.number)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Raises ``KeyError`` or ``TypeError`` when ``data`` is not a receipt."""
        parts = {
            "usage": Usage(**data["usage"]),
            "load": EngineLoad(**data.get("load", {})),
            "earlier": tuple(EngineSpan(**span) for span in data.get("earlier", ())),
        }
        return cls(**{**data, **parts})


def merge_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sum of counters, by falling count and then name."""
    merged: Counter[str] = Counter()
    for count in counts:
        merged.update(count)
    return dict(sorted(merged.items(), key=lambda item: (-item[1], item[0])))
