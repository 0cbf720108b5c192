"""Batches of like lengths: less padding, and an order that the seed alone decides.  Needs numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_POOL = 16
"""Batches that are sorted by length together: large enough for like lengths, small enough to stay random."""
_MULTIPLE = 8


@dataclass(frozen=True)
class Batch:
    """Rows and their tokens: ``rows`` int ``[b]``, ``ids`` and ``mask`` int64 ``[b, width]``."""

    rows: np.ndarray
    ids: np.ndarray
    mask: np.ndarray


def epoch_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Rows of each batch of an epoch: every row once, in an order that ``seed`` and ``epoch`` decide."""
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    pools = [order[start : start + _POOL * batch_size] for start in range(0, len(order), _POOL * batch_size)]
    batches = [rows for pool in pools for rows in _cut(pool[np.argsort(lengths[pool], kind="stable")], batch_size)]
    return [batches[place] for place in random.permutation(len(batches))]


def by_length(lengths: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Rows of each batch where the order does not matter: the longest first."""
    return _cut(np.argsort(-lengths, kind="stable"), batch_size)


def padded(tokens: Sequence[Sequence[int]], rows: np.ndarray, pad: int, max_length: int) -> Batch:
    """The tokens of ``rows``, padded with ``pad`` to the next multiple of eight, at most to ``max_length``."""
    longest = max(1, *(len(tokens[row]) for row in rows))
    width = min(-(-longest // _MULTIPLE) * _MULTIPLE, max_length)
    ids = np.full((len(rows), width), pad, dtype=np.int64)
    mask = np.zeros_like(ids)
    mask[:, 0] = 1  # a row without any token has no mean
    for place, row in enumerate(rows):
        ids[place, : len(tokens[row])] = tokens[row]
        mask[place, : len(tokens[row])] = 1
    return Batch(rows, ids, mask)


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
