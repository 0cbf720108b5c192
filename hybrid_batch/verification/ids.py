"""Ids of a night as hashes: are two tables the same multiset of ids, and does an id stand anywhere twice?

A :class:`Digest` is the sum of the 128-bit hashes (XXH3) of all ids, in two halves modulo 2^64: it does not depend on
the order, and two tables that differ have the same one by accident with a probability of about 2^-128.  Doubles are
found exactly: rows whose 64-bit hashes are equal are read again and compared as text.

Memory holds 64 bits for each row of one class of hashes.  When there are more rows than :data:`ROOM`, classes are
halved and the rows read once for each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import xxhash

from hybrid_batch.stages.route import utf8

ROOM: Final = 32 << 20
"""Hashes that are held at once: 256 MB, and as much again while they are sorted."""

_NAMED: Final = 1_000
"""Hashes that are looked up by name at most."""

_MASK: Final = (1 << 64) - 1


@dataclass(frozen=True)
class Digest:
    """A multiset of ids: a monoid under ``+`` with ``Digest()`` as zero."""

    rows: int = 0
    high: int = 0
    low: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(self.rows + other.rows, self.high + other.high & _MASK, self.low + other.low & _MASK)


def row_hashes(ids: pa.ChunkedArray) -> np.ndarray:
    """128 bits of each id, uint64 ``[n, 2]``; none is null."""
    digests = b"".join(xxhash.xxh3_128_digest(value) for chunk in ids.chunks if len(chunk) for value in utf8(chunk))
    return np.frombuffer(digests, dtype=">u8").reshape(-1, 2).astype(np.uint64)


def digest_of(hashes: np.ndarray) -> Digest:
    """The digest of rows with these ``hashes``, uint64 ``[n, 2]``."""
    high, low = (int(value) for value in hashes.sum(axis=0, dtype=np.uint64)) if len(hashes) else (0, 0)
    return Digest(len(hashes), high, low)


class Held:
    """64-bit hashes of one class: those with ``remainder`` modulo ``modulus``, a power of two.

    The first class halves itself, by doubling its modulus, whenever it would hold more than ``room``.
    """

    def __init__(self, remainder: int = 0, modulus: int = 1, room: int = ROOM) -> None:
        self.modulus = modulus
        self._remainder, self._room = remainder, room
        self._parts: list[np.ndarray] = []
        self._rows = 0

    def add(self, hashes: np.ndarray) -> None:
        """Hold those of ``hashes`` (uint64 ``[n]``) that are of this class."""
        self._take([hashes])
        while self._rows > self._room and not self._remainder:
            self.modulus *= 2
            parts, self._parts, self._rows = self._parts, [], 0
            self._take(parts)

    def _take(self, parts: Iterable[np.ndarray]) -> None:
        for hashes in parts:
            own = hashes[hashes & np.uint64(self.modulus - 1) == self._remainder]
            self._parts.append(own)
            self._rows += len(own)

    def sorted(self) -> np.ndarray:
        """All of them, ascending; they are held no longer."""
        parts, self._parts = self._parts, []
        whole = np.concatenate(parts) if parts else np.empty(0, np.uint64)
        whole.sort()
        return whole


Read = Callable[[], Iterator[np.ndarray]]
"""Reads all rows of a side once more -> their 64-bit hashes, uint64 ``[n]`` each."""


def doubled_hashes(first: Held, again: Read) -> np.ndarray:
    """Hashes that stand more than once, uint64 ``[n]``.  ``first`` has seen all rows, ``again`` reads them anew."""
    found = [_repeated(first.sorted())]
    for remainder in range(1, first.modulus):
        held = Held(remainder, first.modulus)
        for hashes in again():
            held.add(hashes)
        found.append(_repeated(held.sorted()))
    return np.concatenate(found)


def _repeated(ordered: np.ndarray) -> np.ndarray:
    return np.unique(ordered[1:][ordered[1:] == ordered[:-1]])


def differences(one: Read, other: Read, rows: int, room: int = ROOM) -> tuple[np.ndarray, np.ndarray]:
    """Hashes that stand more often in ``one``, and those that stand more often in ``other``; ``rows`` is their sum."""
    modulus = 1 << max(0, -(-rows // room) - 1).bit_length()
    lost, extra = [], []
    for remainder in range(modulus):
        sides = []
        for side in (one, other):
            held = Held(remainder, modulus, room=rows)
            for hashes in side():
                held.add(hashes)
            sides.append(np.unique(held.sorted(), return_counts=True))
        (mine, counts), (theirs, their_counts) = sides
        lost.append(mine[counts > _counts_at(mine, theirs, their_counts)])
        extra.append(theirs[their_counts > _counts_at(theirs, mine, counts)])
    return np.concatenate(lost), np.concatenate(extra)


def _counts_at(wanted: np.ndarray, values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How often each of ``wanted`` stands among ascending ``values`` with their ``counts``."""
    if not len(values):
        return np.zeros(len(wanted), dtype=np.int64)
    places = np.minimum(np.searchsorted(values, wanted), len(values) - 1)
    return np.where(values[places] == wanted, counts[places], 0)


@dataclass(frozen=True)
class Hashed:
    """The ids of one object and their hashes, uint64 ``[n, 2]``; ``damage`` says why it has none."""

    name: str
    ids: pa.ChunkedArray
    hashes: np.ndarray
    damage: str | None = None


def named(wanted: np.ndarray, objects: Iterable[Hashed]) -> Mapping[str, list[str]]:
    """Ids whose 64-bit hash is among the first of ``wanted``, and the places of each."""
    first, places = wanted[:_NAMED], defaultdict(list)
    for one in objects:
        for row in np.flatnonzero(np.isin(one.hashes[:, 0], first)).tolist():
            places[one.ids[row].as_py()].append(f"{one.name} row {row}")
    return places
