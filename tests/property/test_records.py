"""Paths, plans, fingerprints and tallies: everything that a resumed run relies on."""

from __future__ import annotations

import json
import string
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_batch.core.fingerprint import canonical_json, fingerprint
from hybrid_batch.core.inputs import Piece, Split
from hybrid_batch.core.layout import RunLayout, parse_part, parse_shard, shards_in
from hybrid_batch.core.manifest import tally
from hybrid_batch.core.plan import Plan
from hybrid_batch.core.records import Receipt, ShardId, Usage
from hybrid_batch.core.routing import TIERS

roots = st.sampled_from(["/data/out", "s3://bucket/a b/tier=x", "/tier=small/shard-000001.parquet"])
shards = st.builds(ShardId, st.sampled_from(TIERS), st.integers(0, 10**8))
finite = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), finite, st.text(max_size=6))


def _containers(inner: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3))


plain = st.recursive(leaves, _containers, max_leaves=6)
ranges = st.none() | st.tuples(st.integers(0, 99), st.integers(100, 10**9))
pieces = st.builds(
    Piece,
    url=st.text(min_size=1) | st.text("a/", min_size=1),
    first_row=st.none() | st.integers(0, 10**9),
    rows=st.none() | st.integers(0, 10**9),
    row_groups=ranges,
    skip=st.just(0) | st.integers(0, 10**9),
    byte_range=ranges,
)
splits = st.builds(Split, number=st.integers(0, 10**6), pieces=st.lists(pieces, max_size=4).map(tuple))


@given(roots, shards)
def test_every_path_of_a_shard_leads_back_to_it(root, shard):
    layout = RunLayout.of(root, "night-0123456789ab")
    paths = [layout.routed(shard), layout.results(shard), layout.receipt(shard), layout.dead_letters(shard)]
    assert len(set(paths)) == 4
    assert {parse_shard(path) for path in paths} == shards_in(paths) == {shard}
    assert all(parse_part(path) is None for path in paths)
    assert layout.run_id == "night-0123456789ab"


@given(roots, st.integers(0, 10**8))
def test_every_path_of_a_part_leads_back_to_it(root, part):
    path = RunLayout.of(root, "night").scored(part)
    assert parse_part(path) == part
    assert parse_shard(path) is None


@given(st.sets(shards, max_size=20))
def test_shards_sort_as_their_paths_do(found):
    layout = RunLayout("/run")
    near = {shard for shard in found if shard.number < 10**6}
    assert [layout.results(shard) for shard in sorted(near)] == sorted(layout.results(shard) for shard in near)


@given(st.dictionaries(st.text(max_size=4), plain, max_size=5))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(value):
    shuffled = dict(reversed(value.items()))
    assert fingerprint(value) == fingerprint(shuffled)
    assert json.loads(canonical_json(value)) == value


@given(plain, plain)
def test_different_values_have_different_fingerprints(one, other):
    assert (fingerprint(one) == fingerprint(other)) == (canonical_json(one) == canonical_json(other))


PRINT_FINGERPRINT = """
import json, sys
from hybrid_batch.core.fingerprint import fingerprint
print(fingerprint(json.load(sys.stdin)))
"""


@settings(max_examples=3)
@given(st.dictionaries(st.text(string.printable), plain, min_size=3, max_size=8))
def test_a_fingerprint_is_the_same_in_a_process_with_other_hashes(value):
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PRINT_FINGERPRINT],
            input=json.dumps(value),
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        )
        assert done.stdout.strip() == fingerprint(value)


@given(splits)
def test_a_split_survives_json(split):
    assert Split.from_list(json.loads(json.dumps(split.to_list()))) == split


@given(st.lists(splits, max_size=5), st.dictionaries(st.text(max_size=4), plain, max_size=5))
def test_a_plan_survives_json(splits, identity):
    plan = Plan("night-1", fingerprint(identity), identity, tuple(splits), 512, "2026-01-01T00:00:00+00:00", {}, {})
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@given(st.sets(shards, max_size=12), st.data())
def test_a_tally_is_complete_exactly_when_nothing_is_missing(planned, data):
    done = data.draw(st.sets(st.sampled_from(sorted(planned)))) if planned else set()
    rows = {shard: data.draw(st.integers(1, 9)) for shard in planned}
    receipts = [Receipt(shard.tier, shard.number, Usage(rows=rows[shard]), "e", 0, 1) for shard in done]
    found = tally(sum(rows.values()), planned, receipts)

    assert set(found.missing) == planned - done
    assert found.rows_out == sum(rows[shard] for shard in done)
    assert found.complete == (done == planned)
    if done:
        with pytest.raises(ValueError, match="more than one receipt"):
            tally(1, planned, receipts + receipts[:1])
        with pytest.raises(ValueError, match="never planned"):
            tally(1, planned - {receipts[0].shard}, receipts)
