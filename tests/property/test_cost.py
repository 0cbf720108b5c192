"""Money and time, against slow and exact references."""

from __future__ import annotations

import json
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.core.cost import (
    USD_SCALE,
    EngineTime,
    EngineTimePrice,
    TierCost,
    TokenPrice,
    all_large,
    engine_time,
    price_of,
    saving,
    tier_costs,
    total_usd,
    union_length,
)
from hybrid_batch.core.records import Receipt, Usage, merge_counts, total_usage

SMALLEST = Fraction(1, 10**USD_SCALE)

instants = st.integers(0, 60)
intervals = st.lists(st.tuples(instants, instants), max_size=12)
tokens = st.integers(0, 10**9)
usages = st.builds(Usage, st.integers(0, 10**6), st.integers(0, 100), tokens, tokens)
amounts = st.decimals(min_value=0, max_value=1000, places=6, allow_nan=False)
prices = st.one_of(st.none(), st.builds(EngineTimePrice, amounts), st.builds(TokenPrice, amounts, amounts))
counters = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9))


@st.composite
def receipts(draw):
    start = draw(st.integers(0, 10**12))
    name = draw(st.sampled_from(["small", "large", "rejected"]))
    engine = "" if name == "rejected" else f"{name}-{draw(st.integers(0, 2))}"
    return Receipt(
        tier=name,
        number=draw(st.integers(0, 10**7)),
        usage=draw(usages),
        engine_id=engine,
        started_us=start,
        finished_us=start + draw(st.integers(0, 10**11)),
        load_us=draw(st.integers(0, 10**9)),
        errors=draw(counters),
        finish_reasons=draw(counters),
    )


nights = st.lists(receipts(), max_size=15)
tier_prices = st.fixed_dictionaries({"small": prices, "large": prices})
MODELS = {"small": "s", "large": "l"}


@given(intervals)
def test_the_length_of_a_union_is_the_number_of_instants_in_it(intervals):
    covered = {instant for start, end in intervals for instant in range(start, end)}
    assert union_length(intervals) == len(covered)


@given(usages, usages, usages)
def test_usage_is_a_monoid(a, b, c):
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert a + Usage() == Usage() + a == a
    assert total_usage([a, b, c]) == a + b + c


@given(st.lists(counters, max_size=5))
def test_counts_are_merged_by_sum_and_ordered_by_falling_count(counters):
    merged = merge_counts(counters)
    assert merged == {name: sum(c.get(name, 0) for c in counters) for name in merged}
    assert list(merged.items()) == sorted(merged.items(), key=lambda item: (-item[1], item[0]))


@given(prices, usages, st.builds(EngineTime, st.integers(0, 9), tokens, tokens))
def test_a_price_is_exact_to_half_a_billionth_of_a_dollar(price, usage, time):
    usd = price_of(price, usage, time)
    match price:
        case None:
            assert usd is None
            return
        case EngineTimePrice(per_hour):
            exact = Fraction(per_hour) * (time.busy_us + time.load_us) / 3_600_000_000
        case TokenPrice(prompt, completion):
            spent = Fraction(prompt) * usage.prompt_tokens + Fraction(completion) * usage.completion_tokens
            exact = spent / 1_000_000
    assert abs(Fraction(usd) - exact) <= SMALLEST / 2
    assert usd.as_tuple().exponent == -USD_SCALE


@given(nights)
def test_engines_are_busy_when_any_of_their_tasks_is(receipts):
    time = engine_time(receipts)
    engines = {receipt.engine_id for receipt in receipts} - {""}
    spans = [receipt.finished_us - receipt.started_us for receipt in receipts if receipt.engine_id]
    assert time.engines == len(engines)
    assert max(spans, default=0) <= time.busy_us <= sum(spans)
    assert time.busy_us == engine_time(receipts + receipts).busy_us


@given(nights, tier_prices)
def test_tiers_add_up_to_the_night(receipts, prices):
    costs = tier_costs(receipts, MODELS, prices)
    assert [cost.tier for cost in costs] == ["small", "large"]
    assert total_usage(cost.usage for cost in costs) == total_usage(
        receipt.usage for receipt in receipts if receipt.tier != "rejected"
    )
    unpriced = any(cost.usd is None and cost.usage.rows for cost in costs)
    assert total_usd(costs) == (None if unpriced else sum((cost.usd or Decimal(0) for cost in costs), Decimal(0)))


@given(nights, tier_prices)
def test_a_tiers_cost_survives_json(receipts, prices):
    for cost in tier_costs(receipts, MODELS, prices):
        assert TierCost.from_dict(json.loads(json.dumps(cost.to_dict()))) == cost


@given(nights, tier_prices)
def test_all_large_never_costs_less_than_the_large_tier_did(receipts, prices):
    costs = tier_costs(receipts, MODELS, prices)
    counterfactual = all_large(costs)
    large = costs[1].usd
    assert counterfactual.method
    if counterfactual.usd is None:
        assert counterfactual.method.startswith("unavailable: ")
        assert saving(costs, counterfactual) is None
    else:
        assert counterfactual.usd >= large
        spent = total_usd(costs)
        assert saving(costs, counterfactual) == (None if spent is None else counterfactual.usd - spent)


@given(receipts())
def test_a_receipt_survives_json(receipt):
    assert Receipt.from_dict(json.loads(json.dumps(receipt.to_dict()))) == receipt
