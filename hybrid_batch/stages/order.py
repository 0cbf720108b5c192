"""The order in which the rows of a shard are asked.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

SHARED_CHARACTERS: Final = 512
"""So many more characters than all rows of the shard must two neighbours share, to be kept together: about as many
tokens as a block of an engine's prefix cache has on a CPU."""


def longest_first(texts: Sequence[str], bounds: Sequence[int]) -> list[int]:
    """Places of the rows of a shard, given in the order of their texts: those with the highest bound first.

    A long answer that begins last keeps an engine's other places empty until it ends; among short ones it costs
    nothing.  Neighbours that share a long beginning stay in their order and together, as their highest bound says, so
    that the engine's prefix cache hits.
    """
    families = _families(texts)
    families.sort(key=lambda rows: -max(bounds[row] for row in rows))
    return [row for rows in families for row in rows]


def _families(texts: Sequence[str]) -> list[range]:
    """Runs of neighbours that share more than all of them do."""
    if not texts:
        return []
    starts = [0, *_breaks(texts), len(texts)]
    return [range(start, stop) for start, stop in pairwise(starts)]


def _breaks(texts: Sequence[str]) -> Iterator[int]:
    end = _shared(texts[0], texts[-1]) + SHARED_CHARACTERS
    for place, (one, other) in enumerate(pairwise(texts), 1):
        if min(len(one), len(other)) < end or one[:end] != other[:end]:
            yield place


def _shared(one: str, other: str) -> int:
    """How many characters two texts share from their beginnings on."""
    differ = (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(differ, min(len(one), len(other)))
