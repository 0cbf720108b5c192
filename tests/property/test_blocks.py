"""Blocks: every row comes to its shard once, in one order, however the rows were packed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.stages import blocks
from hybrid_batch.tables import BLOCKS, SHARD

SCHEMA = pa.schema([(name, pa.string()) for name in ("query_id", "prompt", "messages")]).append(
    pa.field(SHARD, pa.int64())
)
texts = st.sampled_from([None, "", "same", "x" * 300, "é", "a\x00b", "z\U0001f600"])
rows = st.lists(st.tuples(texts, texts, st.integers(0, 12)), max_size=40)


def batch_of(rows: list[tuple]) -> pa.RecordBatch:
    made = [
        {"query_id": f"q{n:02d}", "prompt": prompt, "messages": messages, SHARD: shard}
        for n, (prompt, messages, shard) in enumerate(rows)
    ]
    return pa.RecordBatch.from_pylist(made, schema=SCHEMA)


def brought(packed: list[pa.RecordBatch], partition: int) -> list[pa.RecordBatch]:
    """What a shuffle would bring to ``partition``."""
    own = [batch.filter(pc.equal(batch["partition"], partition)) for batch in packed]
    return [batch.select(["rows"]) for batch in own]


def in_order(rows: list[dict]) -> list[dict]:
    """As a person would sort the rows of a shard."""

    def key(row: dict) -> tuple[str, str]:
        text = row["messages"] if row["messages"] is not None else row["prompt"]
        return text or "", row["query_id"]

    return sorted(rows, key=key)


@given(rows, st.integers(1, 5), st.integers(1, 9), st.randoms(use_true_random=False))
def test_every_row_comes_to_its_shard_in_one_order(rows, partitions, cut, random):
    whole = batch_of(rows)
    pieces = [whole.slice(start, cut) for start in range(0, whole.num_rows, cut)]
    packed = [block for piece in pieces for block in blocks.pack([piece], partitions)]
    random.shuffle(packed)
    assert all(batch.schema == BLOCKS for batch in packed)

    found = {}
    for partition in range(partitions):
        for number, table in blocks.unpack(brought(packed, partition)):
            assert number % partitions == partition
            assert number not in found
            found[number] = table.to_pylist()

    shards = {row[SHARD] for row in whole.to_pylist()}
    assert found == {number: in_order([row for row in whole.to_pylist() if row[SHARD] == number]) for number in shards}


def test_rows_are_packed_some_at_a_time_and_handed_over_in_small_batches():
    text = np.random.default_rng(0).bytes(1 << 20).hex()
    batches = [batch_of([(f"{number} {text}", None, number)]) for number in range(40)]
    packed = list(blocks.pack(iter(batches), 4))

    assert sum(batch.num_rows for batch in packed) == 4 * 2  # 80 MB in two turns, for four partitions each
    assert all(batch.num_rows == 1 or batch.nbytes < 2 * blocks.SENT_BYTES for batch in packed)
    found = [table for partition in range(4) for _, table in blocks.unpack(brought(packed, partition))]
    assert sorted(table["prompt"][0].as_py() for table in found) == sorted(
        batch["prompt"][0].as_py() for batch in batches
    )


@pytest.mark.parametrize(
    ("total", "shards", "expected"),
    [(0, 5, 1), (1, 5, 1), (blocks.PARTITION_BYTES + 1, 5, 2), (10**12, 7, 7), (10**11, 100_000, 1491)],
)
def test_partitions_grow_with_the_bytes_and_hold_whole_shards(total, shards, expected):
    assert blocks.partitions_of(total, shards) == expected
