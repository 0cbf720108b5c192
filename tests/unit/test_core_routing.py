"""Numbers of the routing rule that are easy to get wrong by a bit."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid_batch.core.routing import (
    GRID,
    LARGE,
    REJECTED,
    SMALL,
    TIERS,
    RoutingDecision,
    ScoreHistogram,
    SmallSharePolicy,
    ThresholdPolicy,
    Thresholds,
    assign_tiers,
    decide,
    histogram_keys,
    to_micros,
)


def night(*scores: float) -> ScoreHistogram:
    micros, rows = np.unique(to_micros(np.array(scores)), return_counts=True)
    return ScoreHistogram(micros, rows)


@pytest.mark.parametrize("threshold", [0.62, 0.7, 0.1 + 0.2, 0.29, 0.57, 1.0, 0.0])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_score_equal_to_the_threshold_is_small_whatever_its_binary_form(threshold, kind):
    decision = decide(ThresholdPolicy(threshold), night(float(kind(threshold))))
    assert (decision.small, decision.large) == (1, 0)


def test_a_score_one_step_below_the_threshold_is_large():
    decision = decide(ThresholdPolicy(0.62), night(0.62, 0.619999))
    assert (decision.small, decision.large) == (1, 1)


@pytest.mark.parametrize(
    ("share", "rows", "small"),
    [(0.40, 10, 4), (0.29, 100, 29), (0.57, 100, 57), (1 / 3, 3, 0), (0.333333, 3, 0), (0.999999, 10, 9), (1, 7, 7)],
)
def test_a_share_is_met_exactly_where_it_can_be_and_never_exceeded(share, rows, small):
    assert decide(SmallSharePolicy(share), night(*np.linspace(0.1, 0.9, rows))).small == small


def test_equal_scores_stay_together():
    decision = decide(SmallSharePolicy(0.5), night(0.9, 0.5, 0.5, 0.5))
    assert (decision.small, decision.threshold) == (1, 0.9)


def test_a_share_of_nothing_and_of_everything():
    assert decide(SmallSharePolicy(0.0), night(1.0, 0.3)) == RoutingDecision(GRID + 1, 0, 2, 0)
    assert decide(SmallSharePolicy(1.0), night(1.0, 0.0)).small == 2


def test_unscored_rows_count_as_answerable_but_never_as_small():
    decision = decide(SmallSharePolicy(0.5), night(np.nan, np.nan, 0.3, 0.2))
    assert (decision.small, decision.large) == (2, 2)
    assert decide(SmallSharePolicy(1.0), night(np.nan, 0.3)).small == 1


def test_an_empty_night_is_decided_too():
    for policy in (ThresholdPolicy(0.5), SmallSharePolicy(0.5)):
        decision = decide(policy, night())
        assert (decision.small, decision.large, decision.rejected, decision.cost_advantage) == (0, 0, 0, 0.0)


def test_a_threshold_above_one_sends_everything_to_large():
    assert decide(ThresholdPolicy(1.000001), night(1.0)).large == 1


def test_scores_beyond_the_grid_are_clipped_to_it():
    assert to_micros(np.array([-0.1, 1.1, -0.0, np.nan])).tolist() == [0, GRID, 0, -1]


def test_tiers_are_small_integers():
    assert assign_tiers(np.array([3, -1, -2]), 2).dtype == np.int8


BY_TENANT = Thresholds(GRID + 1, "tenant", {"a": 500_000, "b": 900_000, "never": GRID + 1})


def test_each_query_is_held_against_the_threshold_of_its_group():
    a, b, never, other = 0, 1, 2, -1
    rows = [
        (a, 0.5, SMALL),
        (a, 0.499999, LARGE),
        (b, 0.5, LARGE),
        (b, 0.9, SMALL),
        (never, 1.0, LARGE),
        (other, 1.0, LARGE),
        (a, np.nan, LARGE),
    ]
    places, scores, expected = zip(*rows, strict=True)
    tiers = assign_tiers(to_micros(np.array(scores)), BY_TENANT.at(np.array(places)))
    assert [TIERS[index] for index in tiers] == list(expected)
    refused = histogram_keys(np.array([0.9]), np.array([True]))
    assert TIERS[assign_tiers(refused, BY_TENANT.at(np.array([a])))[0]] == REJECTED


def test_one_threshold_is_that_of_all():
    assert Thresholds(7).at(np.array([-1, -1])).tolist() == [7, 7]
    assert Thresholds(7).columns == ()
    assert BY_TENANT.columns == ("tenant",)


def test_thresholds_by_group_are_decided_by_what_was_counted_with_them():
    histogram = ScoreHistogram(
        np.array([-2, -1, 600_000, 950_000]), np.array([2, 1, 10, 5]), np.array([0, 0, 7, 4]), ungrouped=3
    )
    decision = decide(BY_TENANT, histogram)
    assert (decision.small, decision.large, decision.rejected, decision.ungrouped) == (11, 5, 2, 3)
    assert decision.thresholds == BY_TENANT
    with pytest.raises(ValueError, match="the scores were not counted by 'tenant'"):
        decide(BY_TENANT, night(0.5))
