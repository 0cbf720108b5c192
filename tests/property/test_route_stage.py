"""Shards: every row in exactly one, however the rows come in."""

from __future__ import annotations

from collections import Counter
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.core.routing import GRID, TIERS, ScoreHistogram, Thresholds, decide
from hybrid_batch.stages import route
from hybrid_batch.tables import SCORE_COUNTS

prompts = st.one_of(
    st.sampled_from(["", "same", "same prefix", "x" * 300, "x" * 300 + "y", "é", "a\x00b", "z\U0001f600"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
groups = st.sampled_from([None, "", "a", "b", "c", "7", "true"])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.none() | prompts,
            "messages": st.none() | prompts,
            "score": st.none() | st.integers(0, GRID).map(lambda micros: micros / GRID),
            "error_kind": st.sampled_from([None, None, None, "null_prompt"]),
            "tenant": groups,
        }
    ),
    max_size=40,
)
SCHEMA = pa.schema([(name, pa.string()) for name in ("query_id", "prompt", "messages", "error_kind", "tenant")]).append(
    pa.field("score", pa.float64())
)
THRESHOLD = Thresholds(GRID // 2)
by_group = st.dictionaries(groups.filter(bool), st.integers(0, GRID + 1), max_size=5).map(
    lambda found: Thresholds(GRID + 1, "tenant", found)
)


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
    sizes = route.request_bytes(sample).to_pylist()
    first_keys = {}
    for tier in TIERS:
        own = [(key, size) for key, size, held_by in zip(keys, sizes, tiers, strict=True) if held_by == tier]
        planned = route.plan_ranges([key for key, _ in own], [size for _, size in own], counts[tier], shard_rows)
        first_keys[tier] = planned or ([""] if counts[tier] else [])
    return route.ShardRanges(first_keys)


def numbers_of(ranges: route.ShardRanges, tier: str) -> range:
    start = ranges.offset(tier)
    return range(start, start + len(ranges.first_keys[tier]))


@given(rows, st.integers(1, 12))
def test_shards_of_different_texts_are_full_whole_and_disjoint(rows, shard_rows):
    own = {"prompt": None, "messages": None}
    batch = batch_of([{**row, **own, "prompt": f"{number}: {row['prompt']}"} for number, row in enumerate(rows)])
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


@given(rows, st.integers(1, 12))
def test_rows_of_one_text_share_a_shard_unless_they_fill_several(rows, shard_rows):
    batch = batch_of(rows)
    ranges = ranges_of(batch, shard_rows)
    numbers = route.shard_numbers(batch, THRESHOLD, ranges).tolist()
    assert max(Counter(numbers).values(), default=0) < 2 * shard_rows

    tiers = route.tier_indices(batch, THRESHOLD).tolist()
    placed = sorted(zip(tiers, route.request_text(batch).to_pylist(), numbers, strict=True))
    for (tier, _), group in groupby(placed, key=lambda row: row[:2]):
        own = [number for *_, number in group]
        full = tiers.count(tier) // len(ranges.first_keys[TIERS[tier]])
        assert (len(set(own)) - 1) * full <= len(own)


@given(st.lists(st.integers(0, 2 * route.SHARD_BYTES), min_size=1, max_size=60), st.integers(1, 20))
def test_no_shard_has_more_bytes_than_one_large_request_above_the_bound(sizes, shard_rows):
    keys = [f"{number:04d}\x00{'0' * 16}\x00{'0' * 16}" for number in range(len(sizes))]
    first_keys = route.plan_ranges(keys, sizes, len(sizes), shard_rows)
    numbers = np.searchsorted(np.array(first_keys[1:], dtype=object), np.array(keys, dtype=object), side="right")
    shards = [[size for size, own in zip(sizes, numbers, strict=True) if own == number] for number in set(numbers)]

    assert len(shards) == len(first_keys)
    for shard in shards:
        assert len(shard) <= shard_rows + 1
        assert sum(shard) - max(shard) <= route.SHARD_BYTES


def test_images_make_shards_of_fewer_rows():
    large = route.SHARD_BYTES // 10
    keys = [f"{number:04d}\x00{'0' * 16}\x00{'0' * 16}" for number in range(100)]
    assert len(route.plan_ranges(keys, [100] * 100, 100, 50)) == 2
    assert len(route.plan_ranges(keys, [large] * 100, 100, 50)) == 10


def test_prefixes_of_any_length_stay_together():
    template = "Answer from the document. " * 40
    documents = [template + f"Document {number}. " * 90 for number in range(20)]
    batch = batch_of([{"prompt": f"{documents[n % 20]}Question {n}?"} for n in range(200)])
    ordered = [
        text for _, text in sorted(zip(route.sort_keys(batch).to_pylist(), batch["prompt"].to_pylist(), strict=True))
    ]
    assert len(list(groupby(ordered, key=lambda text: text.partition("Question")[0]))) == 20


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


def slow_tier(row: dict, thresholds: Thresholds) -> str:
    """The rule for one row, as a person would apply it."""
    if row["error_kind"] is not None:
        return "rejected"
    limit = thresholds.groups.get(row["tenant"], thresholds.micros)
    return "small" if row["score"] is not None and round(row["score"] * GRID) >= limit else "large"


@given(rows, by_group, st.integers(1, 9))
def test_groups_go_where_each_row_alone_would_and_are_counted_so(rows, thresholds, cut):
    batch = batch_of(rows)
    expected = [slow_tier(row, thresholds) for row in rows]
    assert [TIERS[index] for index in route.tier_indices(batch, thresholds)] == expected

    pieces = [route.count_scores(batch.slice(start, cut), thresholds) for start in range(0, batch.num_rows, cut)]
    table = (
        pa.Table.from_batches(pieces, SCORE_COUNTS)
        .group_by("micros")
        .aggregate([(name, "sum") for name in ("rows", "small", "ungrouped")])
    )
    micros, counted, small = (np.asarray(table[name]) for name in ("micros", "rows_sum", "small_sum"))
    histogram = ScoreHistogram(micros, counted, small, sum(table["ungrouped_sum"].to_pylist()))
    decision = decide(thresholds, histogram)
    assert [decision.small, decision.large, decision.rejected] == [expected.count(tier) for tier in TIERS]
    strangers = [row for row in rows if row["error_kind"] is None and row["tenant"] not in thresholds.groups]
    assert decision.ungrouped == len(strangers)
    assert int(histogram.coarse().small.sum()) == decision.small


@given(rows, st.integers(0, GRID + 1))
def test_one_threshold_is_a_group_of_all(rows, micros):
    batch = batch_of(rows)
    everybody = Thresholds(micros, "tenant", dict.fromkeys(("a", "b"), micros))
    assert (route.tier_indices(batch, Thresholds(micros)) == route.tier_indices(batch, everybody)).all()
    assert route.count_scores(batch, None)["small"].null_count == len(route.count_scores(batch, everybody))


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
