"""How query files become splits: what is large is cut, what is small is packed together, in listing order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hybrid_batch.core.inputs import Piece, Split


@dataclass(frozen=True)
class Target:
    """What fills a split, whichever comes first: rows, uncompressed bytes, pieces."""

    rows: int
    bytes: int
    pieces: int

    def parts(self, rows: float, size: int) -> int:
        """Into how many equal parts so many rows and bytes are cut so that none is above the target."""
        return max(1, math.ceil(rows / self.rows), math.ceil(size / self.bytes))


@dataclass(frozen=True)
class Sized:
    """A piece with the rows and uncompressed bytes that it is counted with: known for Parquet, estimated for text."""

    piece: Piece
    rows: float
    bytes: int


def cut_rows(piece: Piece, parts: int) -> Iterator[Piece]:
    """A piece of known rows -> at most ``parts`` pieces of nearly equal rows."""
    assert piece.first_row is not None
    assert piece.rows is not None
    borders = [piece.rows * part // parts for part in range(parts + 1)]
    for start, stop in pairwise(borders):
        if stop > start:
            yield replace(piece, first_row=piece.first_row + start, rows=stop - start, skip=piece.skip + start)


def cut_bytes(url: str, size: int, parts: int) -> Iterator[Piece]:
    """A text file of ``size`` bytes -> at most ``parts`` pieces of nearly equal bytes; one is the whole file."""
    if parts == 1:
        yield Piece(url)
        return
    borders = [size * part // parts for part in range(parts + 1)]
    for start, stop in pairwise(borders):
        if stop > start:
            yield Piece(url, first_row=None if start else 0, byte_range=(start, stop))


def pack(sized: Iterable[Sized], target: Target) -> tuple[Split, ...]:
    """Put neighbours together while they stay within ``target``; a piece that is above it alone is a split alone.

    Pieces of Parquet that follow each other in one file become one piece.
    """
    splits: list[Split] = []
    held: list[Piece] = []
    rows, size = 0.0, 0
    for one in sized:
        full = rows + one.rows > target.rows or size + one.bytes > target.bytes or len(held) >= target.pieces
        if held and full:
            splits.append(Split(len(splits), tuple(held)))
            held, rows, size = [], 0.0, 0
        rows, size = rows + one.rows, size + one.bytes
        if held and (joined := _joined(held[-1], one.piece)) is not None:
            held[-1] = joined
        else:
            held.append(one.piece)
    return (*splits, Split(len(splits), tuple(held))) if held else tuple(splits)


def _joined(first: Piece, second: Piece) -> Piece | None:
    """Two pieces of Parquet as one, if the second goes on in the same file where the first ends."""
    if first.url != second.url or first.row_groups is None or second.row_groups is None:
        return None
    if first.first_row is None or first.rows is None or second.rows is None:
        return None
    if first.first_row + first.rows != second.first_row:
        return None
    return replace(first, rows=first.rows + second.rows, row_groups=(first.row_groups[0], second.row_groups[1]))


def located(splits: Iterable[Split], counts: Sequence[int]) -> tuple[Split, ...]:
    """The splits with ``rows`` and ``first_row`` of each piece filled in.

    ``counts`` are the rows read of all pieces of all splits, in order.  A piece of text begins, in its file, where the
    piece before it ends; pieces of Parquet know their first row from the plan and keep it.
    """
    left = iter(counts)
    row = 0
    found = []
    for split in splits:
        pieces = []
        for piece in split.pieces:
            count = next(left)
            first_row = row if piece.first_row is None else piece.first_row
            row = first_row + count
            pieces.append(replace(piece, first_row=first_row, rows=count))
        found.append(replace(split, pieces=tuple(pieces)))
    return tuple(found)


def limited(sized: Iterable[Sized], limit: int) -> Iterator[Sized]:
    """The pieces, of known rows, that hold the first ``limit`` rows; the last one is cut to fit."""
    left = limit
    for one in sized:
        if left <= 0:
            return
        assert one.piece.rows is not None
        rows = min(left, one.piece.rows)
        share = rows / one.piece.rows if one.piece.rows else 0
        yield Sized(replace(one.piece, rows=rows), rows, round(one.bytes * share))
        left -= rows
