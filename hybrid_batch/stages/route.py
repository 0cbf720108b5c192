"""The route stage: which shard a scored row belongs to.

A shard is a range of keys of one tier.  The key begins with the query's text and goes on with hashes of ever more of
it, so equal prompts and equal prefixes sit together and an engine's prefix cache can hit.  It ends with hashes of text
and id, so it is unique, and the shard of a row is a pure function of the row and the committed ranges: a repeated task
writes the same shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from hybrid_batch.core.routing import REJECTED, SMALL, TIERS, Thresholds, assign_tiers, histogram_keys
from hybrid_batch.stages.groups import group_places
from hybrid_batch.tables import SCORE_COUNTS

KEY_PREFIX_CHARACTERS: Final = 256

KEY_BLOCK_BYTES: Final = 512
"""Texts that agree to the end of a block stay together in the order of keys: about as many tokens as a block of an
engine's prefix cache has."""

KEY_BLOCKS: Final = 16
"""Blocks that a key knows of; whole texts decide the order within a shard in any case."""

SHARD_BYTES: Final = 256 * 2**20
"""Bytes of requests in a shard, about: two tasks of an executor hold a shard each, as text and as requests."""

_ROW_ROOM: Final = 1024
"""What a small request takes of a shard's room, in whole numbers."""

_ID_LENGTH: Final = 1 + 16
"""What a key ends with: a separator and the hash of the id."""


@dataclass(frozen=True)
class ShardRanges:
    """The shards of a night: for each tier the first key of each of its shards, ascending."""

    first_keys: Mapping[str, Sequence[str]]

    def offset(self, tier: str) -> int:
        """Number of shards of the tiers before ``tier``: a shard's number over all tiers starts there."""
        return sum(len(self.first_keys.get(name, ())) for name in TIERS[: TIERS.index(tier)])

    @property
    def total(self) -> int:
        return sum(len(keys) for keys in self.first_keys.values())


def score_keys(rows: pa.RecordBatch | pa.Table) -> np.ndarray:
    """Histogram keys (int64 ``[n]``) of scored rows; see :func:`hybrid_batch.core.routing.histogram_keys`."""
    scores = pc.fill_null(rows["score"], np.nan).to_numpy(zero_copy_only=False)
    refused = pc.is_valid(rows["error_kind"]).to_numpy(zero_copy_only=False)
    return histogram_keys(scores, refused)


def request_text(rows: pa.RecordBatch | pa.Table) -> pa.Array:
    """The text that decides the order: the chat as JSON, else the prompt, else the empty string."""
    if rows["messages"].null_count == rows.num_rows and not rows["prompt"].null_count:
        return rows["prompt"]
    return pc.coalesce(rows["messages"], rows["prompt"], pa.scalar("", pa.string()))


def request_bytes(rows: pa.RecordBatch | pa.Table) -> pa.Array:
    """Bytes of each row's :func:`request_text`, int64 ``[n]``: with images most of a chat is theirs."""
    return pc.binary_length(request_text(rows)).cast(pa.int64())


def sort_keys(rows: pa.RecordBatch) -> pa.Array:
    """Unique ordered keys, string ``[n]``: the text's beginning, then hashes of its blocks, of all of it, of the id."""
    text = request_text(rows)
    ends = (map(_text_hashes, utf8(text)), map(xxhash.xxh64_hexdigest, utf8(rows["query_id"])))
    hashes = (pa.array(values, pa.string()) for values in ends)
    return pc.binary_join_element_wise(pc.utf8_slice_codeunits(text, 0, KEY_PREFIX_CHARACTERS), *hashes, "\x00")


def _text_hashes(text: memoryview) -> str:
    """Four digits for the text up to the end of each whole block, then sixteen for all of it."""
    seen, digits = xxhash.xxh64(), ""
    for end in range(KEY_BLOCK_BYTES, min(len(text), KEY_BLOCKS * KEY_BLOCK_BYTES) + 1, KEY_BLOCK_BYTES):
        seen.update(text[end - KEY_BLOCK_BYTES : end])
        digits += f"{seen.intdigest() & 0xFFFF:04x}"
    return digits + xxhash.xxh64_hexdigest(text)


def sampled(rows: pa.RecordBatch, rate: float) -> pa.RecordBatch:
    """The rows whose id hashes below ``rate`` (in [0, 1]): the same rows whatever the batches and workers."""
    if rate >= 1:
        return rows
    limit = int(rate * 2**64)
    chosen = [xxhash.xxh64_intdigest(value, seed=1) < limit for value in utf8(rows["query_id"])]
    return rows.filter(pa.array(chosen, pa.bool_()))


def utf8(values: pa.StringArray) -> Iterator[memoryview]:
    """The bytes of each text where they lie; none of ``values`` is null."""
    _, offsets, data = values.buffers()
    places = np.frombuffer(offsets, dtype=np.int32)[values.offset : values.offset + len(values) + 1].tolist()
    text = memoryview(data or b"")
    return (text[start:stop] for start, stop in pairwise(places))


def plan_ranges(
    keys: Sequence[str] | pa.ChunkedArray, sizes: Sequence[int] | pa.ChunkedArray, rows: int, shard_rows: int
) -> list[str]:
    """First keys of the shards of a tier with ``rows`` rows, from a sample of its keys and of its requests' bytes.

    With all keys given, and requests that are small beside ``SHARD_BYTES / shard_rows``, shards have at most
    ``shard_rows`` rows and differ by one at most, except that rows of one text stay in one shard where that makes no
    shard larger than twice the size; with a sample their sizes vary around that.  A larger request takes the room of
    several rows.  A tier has no more shards than sampled keys, and no shard is empty.
    """
    if not rows or not len(keys):
        return []
    known = keys if isinstance(keys, pa.ChunkedArray) else pa.array(keys, pa.string())
    order = pc.sort_indices(known)
    shard_rows = min(shard_rows, rows)
    taken = _rooms(np.asarray(sizes, dtype=np.int64)[np.asarray(order)], shard_rows).cumsum()
    total = int(taken[-1])
    shards = min(-(-rows * total // (len(order) * shard_rows * _ROW_ROOM)), len(order))
    ends = [total * number // shards for number in range(shards)]
    places = np.unique(np.searchsorted(taken, ends, side="right"))
    return _whole_texts(known.take(order.take(pa.array(places, pa.int64()))).to_pylist())


def _rooms(sizes: np.ndarray, shard_rows: int) -> np.ndarray:
    """What each request takes of a shard that has ``shard_rows * _ROW_ROOM``, int64 ``[n]``."""
    return np.maximum(_ROW_ROOM, -(-np.minimum(sizes, SHARD_BYTES) * shard_rows * _ROW_ROOM // SHARD_BYTES))


def _whole_texts(first_keys: Sequence[str]) -> list[str]:
    """Borders moved to the first row of their text, but for the second border within one text and those after it.

    So identical requests are answered together, and a text that fills shards alone still fills several.
    """
    borders: list[str] = []
    for key in first_keys:
        text = key[:-_ID_LENGTH]
        borders.append(text if not borders or text > borders[-1] else key)
    return borders


def tier_indices(rows: pa.RecordBatch, thresholds: Thresholds) -> np.ndarray:
    """Index into :data:`hybrid_batch.core.routing.TIERS` of each scored row, int8 ``[n]``."""
    held = thresholds.micros if thresholds.by is None else thresholds.at(group_places(rows, thresholds))
    return assign_tiers(score_keys(rows), held)


def count_scores(rows: pa.RecordBatch, groups: Thresholds | None) -> pa.RecordBatch:
    """How many scored rows have which score, as ``SCORE_COUNTS``; with ``groups`` also how many of them go to small."""
    keys = score_keys(rows)
    micros, counts = np.unique(keys, return_counts=True)
    further: list[pa.Array] = [pa.nulls(len(micros), pa.int64())] * 2
    if groups is not None:
        places = group_places(rows, groups)
        tiers, steps = assign_tiers(keys, groups.at(places)), np.searchsorted(micros, keys)
        marked = (tiers == TIERS.index(SMALL), (places < 0) & (tiers != TIERS.index(REJECTED)))
        further = [pa.array(np.bincount(steps[chosen], minlength=len(micros)), pa.int64()) for chosen in marked]
    return pa.RecordBatch.from_arrays([pa.array(micros), pa.array(counts, pa.int64()), *further], schema=SCORE_COUNTS)


def summed(counts: pa.Table) -> pa.Table:
    """``SCORE_COUNTS`` of several batches as one: each score once."""
    sums = counts.group_by("micros").aggregate([(name, "sum") for name in SCORE_COUNTS.names[1:]])
    return sums.rename_columns([name.removesuffix("_sum") for name in sums.column_names]).select(SCORE_COUNTS.names)


def shard_numbers(rows: pa.RecordBatch, thresholds: Thresholds, ranges: ShardRanges) -> np.ndarray:
    """Shard of each scored row, counted over all tiers, int64 ``[n]``."""
    tiers = tier_indices(rows, thresholds)
    keys = np.array(sort_keys(rows).to_pylist(), dtype=object)
    numbers = np.empty(rows.num_rows, dtype=np.int64)
    for index, tier in enumerate(TIERS):
        own = tiers == index
        if own.any():
            # The first shard also takes keys below its first key: a sample need not hold the smallest.
            later = np.array(ranges.first_keys[tier][1:], dtype=object)
            numbers[own] = ranges.offset(tier) + np.searchsorted(later, keys[own], side="right")
    return numbers


def split_runs(batches: Iterator[pa.RecordBatch], column: str) -> Iterator[tuple[int, pa.Table]]:
    """Cut rows that come sorted by the integer ``column`` into one table for each value.

    Raises ``ValueError`` if they are not sorted: a value that came back would be a second, partial table.
    """
    current: int | None = None
    pieces: list[pa.RecordBatch] = []
    for batch in batches:
        values = batch[column].to_numpy()
        edges = [0, *(np.flatnonzero(np.diff(values)) + 1), len(values)]
        for start, stop in pairwise(edges):
            if start == stop:
                continue
            if current is not None and values[start] != current:
                if values[start] < current:
                    raise ValueError(f"rows are not sorted by {column!r}: {values[start]} comes after {current}")
                yield current, pa.Table.from_batches(pieces)
                pieces = []
            current = int(values[start])
            pieces.append(batch.slice(start, stop - start))
    if current is not None:
        yield current, pa.Table.from_batches(pieces)
