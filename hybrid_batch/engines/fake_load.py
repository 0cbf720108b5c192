"""What the fake server's model bears: running and waiting requests, a speed, a prefix cache, limits per minute."""

from __future__ import annotations

import argparse
import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hybrid_batch.engines.fake_answers import Refusal, text_of

BLOCK_WORDS = 16


@dataclass
class Load:
    """What the gauges and counters show."""

    running: int = 0
    waiting: int = 0
    started: int = 0
    finished: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0


class PrefixCache:
    """The last ``blocks`` blocks of 16 words, each known by all the words up to its end, as vLLM's are."""

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._kept: OrderedDict[int, None] = OrderedDict()

    @property
    def usage(self) -> float:
        return len(self._kept) / self._blocks if self._blocks else 0.0

    def look_up(self, words: list[str]) -> int:
        """Words of the leading blocks that are there; all whole blocks are there afterwards.

        As in vLLM the last word is always computed.
        """
        chain = list(_chain(words))
        found = 0
        for block in chain[: max(0, len(words) - 1) // BLOCK_WORDS]:
            if block not in self._kept:
                break
            found += BLOCK_WORDS
        for block in reversed(chain):  # a beginning outlives what follows it
            self._kept[block] = None
            self._kept.move_to_end(block)
        while len(self._kept) > self._blocks:
            self._kept.popitem(last=False)
        return found


class MinuteLimit:
    """At most ``limit`` units within any ``minute_s`` seconds; 0 for no limit."""

    def __init__(self, limit: int, minute_s: float, what: str) -> None:
        self._limit, self._minute_s, self._what = limit, minute_s, what
        self._taken: deque[tuple[float, int]] = deque()
        self._total = 0

    def take(self, units: int) -> None:
        """Raises a 429 that says when there is room again."""
        now = time.monotonic()
        while self._taken and self._taken[0][0] <= now - self._minute_s:
            self._total -= self._taken.popleft()[1]
        if self._limit and self._taken and self._total + units > self._limit:
            wait = self._taken[0][0] + self._minute_s - now
            told = f"Rate limit reached: {self._limit} {self._what} per minute"
            raise Refusal(429, told, {"Retry-After": f"{math.ceil(wait * 1000) / 1000:g}"})
        self._taken.append((now, units))
        self._total += units


class Model:
    """Requests that run and wait, at a set speed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.load = Load()
        self.cache = PrefixCache(options.kv_blocks)
        self._slots = asyncio.Semaphore(options.max_num_seqs)
        self._requests = MinuteLimit(options.requests_per_minute, options.minute_seconds, "requests")
        self._tokens = MinuteLimit(options.tokens_per_minute, options.minute_seconds, "tokens")

    def admit(self, tokens: int) -> None:
        """Raises a refusal for a request that the limits or the queue have no room for."""
        options = self.options
        try:
            if options.queue_limit and self.load.waiting >= options.queue_limit:
                raise Refusal(options.queue_full_status, f"the queue is full: {self.load.waiting} requests wait")
            self._requests.take(1)
            self._tokens.take(tokens)
        except Refusal:
            self.load.refused += 1
            raise

    async def generate(self, messages: list[dict[str, Any]], prompt: int, words: list[str]) -> int:
        """Take the time that ``words`` take -> tokens of the prompt that were in the prefix cache.

        The speed is shared by all running requests.
        """
        self.load.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.load.waiting -= 1
        self.load.running += 1
        self._write_down(len(words))
        try:
            cached = self._look_up(messages, prompt)
            await self._spend(len(words))
        finally:
            self.load.running -= 1
            self._slots.release()
        self.load.finished += 1
        self.load.prompt_tokens += prompt
        self.load.generation_tokens += len(words)
        return cached

    def _write_down(self, tokens: int) -> None:
        """Before they are made and outside of this process, so that they count also where it is killed."""
        if self.options.token_log:
            with open(self.options.token_log, "ab", buffering=0) as log:  # noqa: PTH123 (one write, at the end)
                log.write(f"{tokens}\n".encode())

    def _look_up(self, messages: list[dict[str, Any]], prompt: int) -> int:
        text = " ".join(f"<|{message['role']}|> {text_of(message)}" for message in messages)
        cached = min(self.cache.look_up(text.split()), prompt)
        self.load.prefix_queries += prompt
        self.load.prefix_hits += cached
        return cached

    async def _spend(self, tokens: int) -> None:
        speed = self.options.tokens_per_second
        left = float(tokens) if speed > 0 else 0.0
        last = time.monotonic()
        while left > 0:
            await asyncio.sleep(min(0.02, left * self.load.running / speed))
            now = time.monotonic()
            left -= (now - last) * speed / self.load.running
            last = now


def metrics_text(model: Model, name: str) -> bytes:
    """Gauges and counters under vLLM's names, and the number of refused requests."""
    load = model.load
    series = {
        "vllm:num_requests_running": load.running,
        "vllm:num_requests_waiting": load.waiting,
        "vllm:kv_cache_usage_perc": model.cache.usage,
        "vllm:prefix_cache_queries_total": load.prefix_queries,
        "vllm:prefix_cache_hits_total": load.prefix_hits,
        "vllm:num_preemptions_total": 0,
        "vllm:prompt_tokens_total": load.prompt_tokens,
        "vllm:generation_tokens_total": load.generation_tokens,
        "vllm:request_success_total": load.finished,
        "fake:requests_refused_total": load.refused,
    }
    return "".join(f'{key}{{engine="0",model_name="{name}"}} {value}\n' for key, value in series.items()).encode()


def _chain(words: list[str]) -> Iterator[int]:
    known = 0
    for end in range(BLOCK_WORDS, len(words) + 1, BLOCK_WORDS):
        known = hash((known, *words[end - BLOCK_WORDS : end]))
        yield known
