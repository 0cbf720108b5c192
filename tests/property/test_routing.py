"""The routing rule, against plain counting."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hybrid_batch.core.routing import (
    GRID,
    LARGE,
    REJECTED,
    REJECTED_MICROS,
    SMALL,
    TIERS,
    UNSCORED_MICROS,
    RoutingDecision,
    ScoreHistogram,
    SmallSharePolicy,
    ThresholdPolicy,
    assign_tiers,
    decide,
    histogram_keys,
    to_micros,
)

# Few distinct scores, so that ties are common.
keys = st.lists(st.one_of(st.integers(-2, 12), st.integers(-2, GRID)), max_size=60).map(
    lambda values: np.array(values, dtype=np.int64)
)
hundredths = st.integers(0, 100).map(lambda value: value / 100)
shares = st.one_of(hundredths, st.floats(0, 1))


def histogram_of(keys: np.ndarray) -> ScoreHistogram:
    micros, rows = np.unique(keys, return_counts=True)
    return ScoreHistogram(micros, rows)


def counts(keys: np.ndarray, threshold: int) -> tuple[int, int, int]:
    small = sum(1 for key in keys if key >= 0 and key >= threshold)
    rejected = sum(1 for key in keys if key == REJECTED_MICROS)
    return small, len(keys) - small - rejected, rejected


@given(keys, shares)
def test_the_share_reached_is_the_largest_that_keeps_ties_together(keys, share):
    decision = decide(SmallSharePolicy(share), histogram_of(keys))
    allowed = Fraction(repr(share)) * int((keys != REJECTED_MICROS).sum())
    possible = [counts(keys, threshold)[0] for threshold in {GRID + 1, *(int(key) for key in keys if key >= 0)}]

    assert decision.small == max(rows for rows in possible if rows <= allowed)
    assert decision.cost_advantage <= share or decision.small <= allowed


@given(keys, shares, shares)
def test_a_larger_share_never_raises_the_threshold(keys, one, other):
    lower, higher = sorted([one, other])
    histogram = histogram_of(keys)
    assert (
        decide(SmallSharePolicy(lower), histogram).threshold_micros
        >= decide(SmallSharePolicy(higher), histogram).threshold_micros
    )


@given(keys, st.one_of(shares.map(SmallSharePolicy), st.floats(0, 1.1).map(ThresholdPolicy)))
def test_what_is_decided_is_what_happens_to_the_rows(keys, policy):
    decision = decide(policy, histogram_of(keys))
    tiers = assign_tiers(keys, decision.threshold_micros)

    assert (decision.small, decision.large, decision.rejected) == counts(keys, decision.threshold_micros)
    assert [int((tiers == index).sum()) for index in range(3)] == [decision.small, decision.large, decision.rejected]
    assert decision.small + decision.large + decision.rejected == len(keys)


@given(st.floats(0, 1))
def test_an_equal_score_is_small(score):
    threshold = decide(ThresholdPolicy(score), histogram_of(np.array([], dtype=np.int64))).threshold_micros
    assert TIERS[assign_tiers(to_micros(np.array([score])), threshold)[0]] == SMALL


@given(st.integers(0, GRID), st.sampled_from([np.float32, np.float64]))
def test_scores_on_the_grid_survive_their_float_form(micros, kind):
    score = np.array([micros / GRID])
    assert to_micros(score.astype(kind))[0] == micros
    assert to_micros(to_micros(score) / GRID)[0] == micros


@given(st.integers(0, GRID + 1))
def test_no_score_is_large_and_a_refused_row_is_rejected(threshold):
    keys = histogram_keys(np.array([np.nan, 0.9, np.nan]), np.array([False, True, True]))
    assert keys.tolist() == [UNSCORED_MICROS, REJECTED_MICROS, REJECTED_MICROS]
    assert [TIERS[index] for index in assign_tiers(keys, threshold)] == [LARGE, REJECTED, REJECTED]


@given(keys, st.sampled_from([1, 7, 10, 100, 1000]))
def test_a_coarse_histogram_holds_every_scored_row(keys, bins):
    coarse = histogram_of(keys).coarse(bins)
    assert coarse.total == int((keys >= 0).sum())
    assert len(coarse.rows) == bins
    width = GRID // bins
    for edge, rows in zip(coarse.micros[:-1], coarse.rows[:-1], strict=True):
        assert rows == ((keys >= edge) & (keys < edge + width)).sum()


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_the_cost_advantage_counts_answered_rows_only(small, large, rejected):
    advantage = RoutingDecision(0, small, large, rejected).cost_advantage
    assert advantage == (small / (small + large) if small + large else 0)
