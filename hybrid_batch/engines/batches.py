"""Which texts are read together: batches by a budget of tokens, in which a text's score does not depend on the others.

The width of a batch follows from the length of its texts alone.  Where a network gives a row the same bits however many
rows it has beside it, batches have as many rows as there are; where it does not, all batches of a width have the
same number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

_STEPS_PER_LADDER: Final = 32


@dataclass(frozen=True)
class BatchShape:
    """``tokens`` of one batch, padding included; ``step`` is the smallest step between widths, in tokens.

    ``full`` fills every batch up with empty rows.  With ``alone`` every text is read by itself, at its own length.
    """

    tokens: int
    step: int = 4
    full: bool = False
    alone: bool = False

    def widths(self, lengths: np.ndarray, longest: int) -> np.ndarray:
        """The width for texts of ``lengths`` (int ``[n]``, at most ``longest``), int ``[n]``.

        Widths are multiples of ``step``, and of twice as much beyond 32 steps, and so on: padding stays a few percent.
        """
        if self.alone:
            return np.maximum(lengths, 1)
        step = np.full(len(lengths), self.step)
        while (wide := lengths > step * _STEPS_PER_LADDER).any():
            step[wide] *= 2
        return np.clip(-(-lengths // step) * step, 1, longest)

    def rows(self, width: int) -> int:
        """Rows of a full batch of ``width``."""
        return 1 if self.alone else max(1, self.tokens // width)


@dataclass(frozen=True)
class Batch:
    """Texts at ``places`` of the whole (int ``[n]``), as ``ids`` and ``mask`` (int64 ``[rows, width]``, rows >= n)."""

    places: np.ndarray
    ids: np.ndarray
    mask: np.ndarray


def batches_of(tokens: Sequence[Sequence[int]], shape: BatchShape, longest: int, pad: int) -> Iterator[Batch]:
    """``tokens`` of n texts, none with more than ``longest``, as batches; each text is in one of them."""
    lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    widths = shape.widths(lengths, longest)
    for width in np.unique(widths):
        places, rows = np.flatnonzero(widths == width), shape.rows(int(width))
        for start in range(0, len(places), rows):
            chosen = places[start : start + rows]
            yield _padded(chosen, [tokens[place] for place in chosen], int(width), rows if shape.full else 0, pad)


def _padded(places: np.ndarray, tokens: Sequence[Sequence[int]], width: int, at_least: int, pad: int) -> Batch:
    ids = np.full((max(len(tokens), at_least), width), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    mask[:, 0] = 1  # a row without any token has no mean
    for place, row in enumerate(tokens):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return Batch(places, ids, mask)
