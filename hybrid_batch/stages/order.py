"""The order in which the rows of a shard are asked.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

SHARED_CHARACTERS: Final = 512
"""So many characters must neighbours share to be kept together: about as many tokens as a block of an engine's prefix
cache has on a CPU."""

LEVELS: Final = 8
"""Beginnings within beginnings that are looked at: template, section, document and the like."""


def longest_first(texts: Sequence[str], bounds: Sequence[int], together: int) -> list[int]:
    """Places of the rows of a shard, given in the order of their texts: those with the highest bound first.

    A long answer that begins last keeps an engine's other places empty until it ends; among short ones it costs
    nothing.  Neighbours that share a long beginning stay in their order and together, as their highest bound says, so
    that the engine's prefix cache hits.  If they are more than ``together``, the requests under way at once, what they
    all share is in the cache in any case, and only those that share more stay together.
    """
    if not texts:
        return []
    families = list(_families(texts, range(len(texts)), 0, together, LEVELS))
    families.sort(key=lambda rows: -max(bounds[row] for row in rows))
    return [row for rows in families for row in rows]


def _families(texts: Sequence[str], rows: range, shared: int, together: int, levels: int) -> Iterator[range]:
    """Runs of neighbours among ``rows`` that share more than ``shared`` characters."""
    end = shared + SHARED_CHARACTERS
    breaks = [row for row in rows[1:] if not _share(texts[row - 1], texts[row], end)]
    for start, stop in pairwise([rows.start, *breaks, rows.stop]):
        family = range(start, stop)
        if len(family) <= max(1, together) or not levels:
            yield family
        else:
            yield from _families(texts, family, _shared(texts[start], texts[stop - 1]), together, levels - 1)


def _share(one: str, other: str, characters: int) -> bool:
    return min(len(one), len(other)) >= characters and one.startswith(other[:characters])


def _shared(one: str, other: str) -> int:
    """How many characters two texts share from their beginnings on."""
    differ = (place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
    return next(differ, min(len(one), len(other)))
