"""Small values of core: what they refuse, and what they look like."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

from hybrid_batch.core import errors
from hybrid_batch.core.cost import EngineTime, EngineTimePrice, TierCost, TokenPrice, all_large, price_of, tier_costs
from hybrid_batch.core.fingerprint import canonical_json, fingerprint
from hybrid_batch.core.layout import RunLayout, parse_part, parse_shard
from hybrid_batch.core.manifest import build_manifest, tally
from hybrid_batch.core.plan import Plan, run_id
from hybrid_batch.core.progress import Progress
from hybrid_batch.core.records import Receipt, ShardId, Usage


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ({"a": {1, 2}}, r"value\.a: set .* has no fingerprint"),
        ({"a": [1.0, math.nan]}, r"value\.a\[1\]: float nan"),
        ([math.inf], r"value\[0\]: float inf"),
        (frozenset(), "frozenset"),
        (b"bytes", "bytes"),
        (Decimal("1.5"), "Decimal"),
        (np.arange(2), "ndarray"),
        (object(), "object"),
        ({"a": {1: 2}}, r"value\.a: key 1 is not a string"),
    ],
)
def test_a_value_without_one_text_has_no_fingerprint(value, complaint):
    with pytest.raises(TypeError, match=complaint):
        fingerprint(value)


def test_a_fingerprint_is_known_and_of_the_length_asked_for():
    assert canonical_json({"b": (1, 2.0, None), "a": "é"}) == '{"a":"é","b":[1,2.0,null]}'
    assert fingerprint({"a": [1, "é"]}, digest_bytes=8) == fingerprint({"a": (1, "é")}, digest_bytes=8)
    assert len(fingerprint(1)) == 32
    assert len({fingerprint(value) for value in (1, True, "1", 1.0, None, [1], {"1": 1})}) == 7
    assert fingerprint("\ud800") != fingerprint("\ud801")


@pytest.mark.parametrize(
    "url",
    [
        "/run/routed/routing.parquet",
        "/run/results/tier=small/shard-1.parquet",
        "/run/results/tier=small/shard-000001.parquet.tmp",
        "/run/results/tier=SMALL/shard-000001.parquet",
        "/run/results/shard-000001.parquet",
        "/run/results/tier=small/part-00001.csv",
        "/run/scored/apart-00001.parquet",
    ],
)
def test_other_objects_are_no_shards_and_no_parts(url):
    assert parse_shard(url) is None
    assert parse_part(url) is None


def test_a_run_lies_below_the_output_whether_or_not_that_ends_in_a_slash():
    assert RunLayout.of("s3://b/out/", "n-1") == RunLayout.of("s3://b/out", "n-1") == RunLayout("s3://b/out/runs/n-1")
    assert RunLayout("/o/runs/n").results(ShardId("large", 7)) == "/o/runs/n/results/tier=large/shard-000007.parquet"


def test_a_run_is_named_by_what_determines_its_answers():
    assert run_id("nightly", "2026-11-23", {"a": 1}) == f"nightly-2026-11-23-{fingerprint({'a': 1})[:12]}"
    assert run_id("nightly", None, {"a": 1}) == f"nightly-{fingerprint({'a': 1})[:12]}"
    assert run_id("nightly", None, {"a": 2}) != run_id("nightly", None, {"a": 1})


def test_a_plan_of_another_format_is_refused():
    with pytest.raises(ValueError, match=r"the format is 'other/9', this version reads 'hybrid-batch-run/1'"):
        Plan.from_dict({"format": "other/9"})
    with pytest.raises(KeyError):
        Plan.from_dict({"format": "hybrid-batch-run/1"})


def test_rows_that_do_not_add_up_are_no_complete_run():
    receipts = [Receipt("small", 0, Usage(rows=4), "e", 0, 1)]
    assert not tally(5, [ShardId("small", 0)], receipts).complete
    assert tally(4, [ShardId("small", 0)], receipts).complete
    assert tally(0, [], []).complete


def test_a_manifest_lists_its_shards_in_order():
    receipts = [
        Receipt("small", 1, Usage(2, 1, 30, 4), "e", 0, 1, errors={"x": 1}, finish_reasons={"stop": 1}),
        Receipt("large", 0, Usage(3, 0, 10, 5), "f", 0, 1, finish_reasons={"length": 2, "stop": 1}),
    ]
    manifest = build_manifest(
        run_id="n-1", fingerprint="f", receipts=receipts, figures={"usd": "1"}, objects={"plan": "plan.json"}
    )
    assert manifest["shards"] == [["large", 0, 3], ["small", 1, 2]]
    assert (manifest["rows"], manifest["failed_rows"], manifest["completion_tokens"]) == (5, 1, 9)
    assert manifest["errors"] == {"x": 1}
    assert list(manifest["finish_reasons"].items()) == [("length", 2), ("stop", 2)]
    assert manifest["usd"] == "1"


def test_prices_come_out_as_written_on_a_bill():
    hour = EngineTime(1, busy_us=3_000_000_000, load_us=600_000_000)
    assert price_of(EngineTimePrice(Decimal("9.80")), Usage(), hour) == Decimal("9.80")
    million = Usage(1, 0, 1_000_000, 500_000)
    assert price_of(TokenPrice(Decimal("0.15"), Decimal("0.60")), million, EngineTime()) == Decimal("0.45")
    assert price_of(TokenPrice(Decimal("0.0000015"), Decimal(0)), Usage(1, 0, 1, 0), EngineTime()) == Decimal(0)


def test_an_engine_that_two_tasks_fed_is_paid_once():
    receipts = [Receipt("small", n, Usage(1), "e", 0, 3_600_000_000, load_us=0) for n in range(2)]
    costs = tier_costs(receipts, {"small": "s"}, {"small": EngineTimePrice(Decimal(2))})
    assert costs[0].usd == Decimal(2)
    assert costs[0].usd_per_1000_queries == Decimal(1000)


def test_a_tier_that_answered_nothing_costs_nothing_and_has_no_mean():
    costs = tier_costs([], {"small": "s", "large": "l"}, {"small": None, "large": EngineTimePrice(Decimal(1))})
    assert [cost.usd for cost in costs] == [None, Decimal(0)]
    assert [cost.usd_per_1000_queries for cost in costs] == [None, None]
    assert all_large(costs).usd is None


@pytest.mark.parametrize("data", [{}, {"tier": "small"}, {"tier": 1, "usage": {"rows": 1, "bogus": 2}}])
def test_what_is_no_record_is_refused(data):
    for kind in (TierCost, Receipt):
        with pytest.raises((KeyError, TypeError)):
            kind.from_dict(data)


def test_progress_measures_what_this_start_did():
    progress = Progress("score", done_rows=30, total_rows=50, elapsed_seconds=4.0, rows_before=10)
    assert (progress.rows_per_second, progress.eta_seconds) == (5.0, 4.0)
    assert Progress("score", 10, 50, 4.0, rows_before=10).eta_seconds is None
    assert Progress("score", 10, None, 4.0).eta_seconds is None
    assert Progress("score", 60, 50, 4.0).eta_seconds == 0


def test_the_exit_codes_are_those_of_the_tree_in_the_docstring():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    for kind in kinds:
        line = next(line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in f"{line} ")
        assert kind.exit_code == 3 if "exit" not in line else f"exit {kind.exit_code}" in line
