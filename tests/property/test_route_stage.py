"""Shards: every row in exactly one, however the rows come in."""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.core.routing import GRID, TIERS, Thresholds
from hybrid_batch.stages import route

prompts = st.one_of(
    st.sampled_from(["", "same", "same prefix", "x" * 300, "x" * 300 + "y", "é", "a\x00b", "z\U0001f600"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.none() | prompts,
            "messages": st.none() | prompts,
            "score": st.none() | st.integers(0, GRID).map(lambda micros: micros / GRID),
            "error_kind": st.sampled_from([None, None, None, "null_prompt"]),
        }
    ),
    max_size=40,
)
SCHEMA = pa.schema([(name, pa.string()) for name in ("query_id", "prompt", "messages", "error_kind")]).append(
    pa.field("score", pa.float64())
)
THRESHOLD = Thresholds(GRID // 2)


def batch_of(rows: list[dict]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [row | {"query_id": f"q{number}"} for number, row in enumerate(rows)], schema=SCHEMA
    )


def ranges_of(batch: pa.RecordBatch, shard_rows: int, rate: float = 1.0) -> route.ShardRanges:
    """As the driver plans them: counts of all rows, keys of the sampled ones."""
    counts = Counter(TIERS[index] for index in route.tier_indices(batch, THRESHOLD))
    sample = route.sampled(batch, rate)
    tiers = [TIERS[index] for index in route.tier_indices(sample, THRESHOLD)]
    keys = route.sort_keys(sample).to_pylist()
    by_tier = {tier: [key for key, own in zip(keys, tiers, strict=True) if own == tier] for tier in TIERS}
    return route.ShardRanges(
        {
            tier: route.plan_ranges(by_tier[tier], counts[tier], shard_rows) or ([""] if counts[tier] else [])
            for tier in TIERS
        }
    )


def numbers_of(ranges: route.ShardRanges, tier: str) -> range:
    start = ranges.offset(tier)
    return range(start, start + len(ranges.first_keys[tier]))


@given(rows, st.integers(1, 12))
def test_shards_are_full_whole_and_disjoint(rows, shard_rows):
    batch = batch_of(rows)
    ranges = ranges_of(batch, shard_rows)
    numbers = route.shard_numbers(batch, THRESHOLD, ranges)
    sizes = Counter(numbers.tolist())

    assert set(sizes) == set(range(ranges.total))
    assert all(size <= shard_rows for size in sizes.values())
    for index, tier in enumerate(TIERS):
        own = [
            sizes[number] for number in range(ranges.offset(tier), ranges.offset(tier) + len(ranges.first_keys[tier]))
        ]
        assert sum(own) == (route.tier_indices(batch, THRESHOLD) == index).sum()
        assert max(own, default=0) - min(own, default=0) <= 1
        assert len(own) == -(-sum(own) // shard_rows)


@given(rows, st.integers(1, 12), st.floats(0, 1))
def test_with_sampled_keys_too_no_shard_is_empty_and_no_row_is_left(rows, shard_rows, rate):
    batch = batch_of(rows)
    ranges = ranges_of(batch, shard_rows, rate)
    numbers = route.shard_numbers(batch, THRESHOLD, ranges)
    tiers = route.tier_indices(batch, THRESHOLD)

    assert set(numbers.tolist()) == set(range(ranges.total))
    for index, tier in enumerate(TIERS):
        own = numbers_of(ranges, tier)
        assert all(number in own for number in numbers[tiers == index])


@given(rows, st.integers(1, 12), st.randoms(use_true_random=False), st.integers(1, 9))
def test_a_rows_shard_depends_on_the_row_alone(rows, shard_rows, random, cut):
    batch = batch_of(rows)
    ranges = ranges_of(batch, shard_rows)
    expected = dict(zip(batch["query_id"].to_pylist(), route.shard_numbers(batch, THRESHOLD, ranges), strict=True))

    order = list(range(batch.num_rows))
    random.shuffle(order)
    shuffled = batch.take(pa.array(order, pa.int64()))
    for start in range(0, batch.num_rows, cut):
        piece = shuffled.slice(start, cut)
        numbers = route.shard_numbers(piece, THRESHOLD, ranges)
        assert [expected[name] for name in piece["query_id"].to_pylist()] == numbers.tolist()
    assert ranges_of(shuffled, shard_rows) == ranges


@given(rows)
def test_equal_requests_are_neighbours_and_keys_are_unique(rows):
    batch = batch_of(rows)
    keys = route.sort_keys(batch).to_pylist()
    texts = route.request_text(batch).to_pylist()
    ordered = [text for _, text in sorted(zip(keys, texts, strict=True))]

    assert len(set(keys)) == len(keys)
    assert len(list(groupby(ordered))) == len(set(texts))


@given(rows, st.floats(0, 1), st.integers(1, 9))
def test_a_sample_is_the_same_whatever_the_batches(rows, rate, cut):
    batch = batch_of(rows)
    whole = route.sampled(batch, rate)["query_id"].to_pylist()
    pieces = [
        name
        for start in range(0, batch.num_rows, cut)
        for name in route.sampled(batch.slice(start, cut), rate)["query_id"].to_pylist()
    ]
    assert pieces == whole
    assert route.sampled(batch, 1.0).num_rows == batch.num_rows
    assert route.sampled(batch, 0.0).num_rows == 0


runs = st.lists(st.integers(0, 6), max_size=30).map(sorted)


@given(runs, st.lists(st.integers(0, 30), max_size=6))
def test_runs_are_cut_where_the_value_changes_and_nowhere_else(values, cuts):
    table = pa.record_batch({"shard": pa.array(values, pa.int64()), "row": pa.array(range(len(values)), pa.int64())})
    edges = [0, *sorted(cuts), len(values)]
    batches = [table.slice(start, max(0, stop - start)) for start, stop in pairwise(edges)]

    found = [(number, piece["row"].to_pylist()) for number, piece in route.split_runs(iter(batches), "shard")]
    expected = [
        (value, [row for row, _ in group]) for value, group in groupby(enumerate(values), key=lambda pair: pair[1])
    ]
    assert found == expected


def test_rows_that_are_not_sorted_are_no_runs():
    batches = [pa.record_batch({"shard": pa.array(values, pa.int64())}) for values in ([1, 1, 2], [1])]
    with pytest.raises(ValueError, match="not sorted by 'shard': 1 comes after 2"):
        list(route.split_runs(iter(batches), "shard"))


def test_the_share_of_a_sample_is_about_the_rate():
    batch = batch_of([{"prompt": None, "messages": None, "score": None, "error_kind": None}] * 4000)
    assert abs(route.sampled(batch, 0.25).num_rows - 1000) < 120


def test_offsets_count_the_shards_of_the_tiers_before():
    ranges = route.ShardRanges({"small": ["a", "b"], "large": ["c"], "rejected": ["d"]})
    assert [ranges.offset(tier) for tier in TIERS] == [0, 2, 3]
    assert ranges.total == 4
    assert route.ShardRanges({}).total == 0
