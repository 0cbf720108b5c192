"""Scores that a worker remembers, so that a query that comes again is not read again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import xxhash

REMEMBERED: Final = 200_000
"""Queries a worker remembers; they take some 25 MB."""


class ScoreMemory:
    """The scores of between ``size`` / 2 and ``size`` texts, the latest ones.

    A text is known by a 128-bit hash of it and its task: two texts with one hash are not to be expected in any night.
    """

    def __init__(self, size: int = REMEMBERED) -> None:
        self._half = size // 2
        self._young: dict[bytes, float] = {}
        self._old: dict[bytes, float] = {}

    def keys(self, texts: Sequence[str], places: Sequence[int | None] | None) -> list[bytes]:
        """A key for each text with the place of its task."""
        hashed = xxhash.xxh3_128_digest
        if places is None:
            return [hashed(text.encode("utf-8", "surrogatepass")) for text in texts]
        return [
            hashed(f"{place}\x00{text}".encode("utf-8", "surrogatepass"))
            for text, place in zip(texts, places, strict=True)
        ]

    def get(self, key: bytes) -> float | None:
        """The score under ``key``, None where it is not remembered."""
        if (score := self._young.get(key)) is None and (score := self._old.get(key)) is not None:
            self._young[key] = score
        return score

    def put(self, keys: Sequence[bytes], scores: Sequence[float]) -> None:
        """Remember ``scores`` under ``keys``, and forget the oldest."""
        if not self._half:
            return
        self._young.update(zip(keys, scores, strict=True))
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
