"""The promise of a calibration: exact chances, monotony, and what happens over many samples."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hybrid_batch.core import exact_test
from hybrid_batch.core.calibration import (
    Promise,
    calibrate,
    candidate_thresholds,
    for_max_cost,
    for_small_share,
    grid_search,
)
from hybrid_batch.core.labels import Qualities
from hybrid_batch.core.routing import GRID, LARGE, SMALL, TIERS, assign_tiers, to_micros


def night(rows: int, seed: int, gain: float = 0.0) -> tuple[np.ndarray, Qualities]:
    """Queries whose score is the chance that small is right; large is right in 80 %, whatever the query."""
    random = np.random.default_rng(seed)
    scores = random.random(rows).round(4)
    small = (random.random(rows) < np.clip(scores + gain, 0, 1)).astype(float)
    large = (random.random(rows) < 0.8).astype(float)
    return scores, Qualities(small[:, None], large[:, None])


def true_drop(threshold: float, gain: float) -> float:
    """Percent lost over all queries of such nights, from a large sample."""
    scores, _ = night(200_000, 999)
    small = scores >= threshold
    return 100.0 * (0.8 - np.clip(scores[small] + gain, 0, 1)).sum() / (0.8 * len(scores))


@given(st.integers(1, 40), st.data())
def test_the_distribution_of_lost_less_won_is_exact(rows: int, data: st.DataObject) -> None:
    lose, win = data.draw(st.sampled_from([(0.3, 0.2), (0.05, 0.0), (0.5, 0.5), (0.0, 0.4)]))
    limit = data.draw(st.integers(-rows, rows))
    expected = sum(
        comb(rows, lost) * comb(rows - lost, won) * lose**lost * win**won * (1 - lose - win) ** (rows - lost - won)
        for lost in range(rows + 1)
        for won in range(rows - lost + 1)
        if lost - won <= limit
    )
    assert exact_test._at_most(limit, rows, lose, win) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 300), st.data())
def test_bounds_of_a_chance_are_those_of_clopper_and_pearson(rows: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, rows))
    interval = stats.binomtest(successes, rows).proportion_ci(0.9, method="exact")
    assert exact_test.upper_bound(successes, rows, 0.05) == pytest.approx(interval.high, abs=1e-6)
    assert exact_test.lower_bound(successes, rows, 0.05) == pytest.approx(interval.low, abs=1e-6)


@pytest.mark.parametrize(("lose", "win", "allowed"), [(0.06, 0.05, 0.01), (0.03, 0.02, 0.01), (0.11, 0.1, 0.01)])
def test_at_the_edge_of_what_is_allowed_the_p_value_is_small_as_seldom_as_it_says(
    lose: float, win: float, allowed: float
) -> None:
    random = np.random.default_rng(1)
    draws = random.multinomial(400, [lose, win, 1 - lose - win], size=600)
    small = np.mean([exact_test.p_value(int(lost), int(won), 400, allowed) <= 0.05 for lost, won, _ in draws])
    # Three standard deviations of 600 draws at 5 %.
    assert small <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


def test_over_many_samples_the_promise_is_broken_as_seldom_as_it_says_and_the_papers_search_is_not() -> None:
    ours, papers, shares = [], [], []
    for seed in range(80):
        scores, q = night(500, seed)
        found = calibrate(scores, q, Promise(2.0, 0.9))
        ours.append(true_drop(found.threshold_micros / GRID, 0.0) > 2.0)
        shares.append(found.share)
        papers.append(true_drop(grid_search(scores, q, 2.0).threshold_micros / GRID, 0.0) > 2.0)
    assert np.mean(ours) <= 0.1 + 3 * np.sqrt(0.09 / 80)
    assert np.mean(papers) > 0.3
    assert np.mean(shares) > 0.05


def test_over_many_samples_qualities_between_right_and_wrong_keep_the_promise_too() -> None:
    """The true drop is a little more than promised at each threshold that is tested: any proof breaks the promise."""
    broken = []
    for seed in range(60):
        random = np.random.default_rng(seed)
        scores = random.random(400)
        small = np.clip(random.normal(0.4, 0.05, (400, 1)), 0, 1)
        q = Qualities(small, np.clip(small + 0.1, 0, 1))
        broken.append(calibrate(scores, q, Promise(3.9, 0.8), estimate=False).kept)
    # At a share of 20 % the drop is 4 %: 20 % of the samples may prove 3.9 %, plus three standard deviations.
    assert np.mean(broken) <= 0.2 + 3 * np.sqrt(0.16 / 60)


def test_equal_qualities_lose_nothing() -> None:
    """Equal qualities stay equal when they are brought to right and wrong."""
    random = np.random.default_rng(0)
    quality = random.random((2000, 1))
    found = calibrate(random.random(2000), Qualities(quality, quality), Promise(2.0, 0.95), estimate=False)
    assert (found.kept, found.share) == (True, 1.0)


def test_the_bound_of_a_gain_holds_as_often_as_it_says() -> None:
    """Small is right in 75 %, large in 40 %: everything goes to small, and the true drop is -87.5 %."""
    wrong = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        small, large = (random.random((400, 1)) < [[0.75]]), (random.random((400, 1)) < [[0.4]])
        q = Qualities(small.astype(float), large.astype(float))
        found = calibrate(random.random(400), q, Promise(1.0, 0.9), estimate=False)
        assert found.upper_drop_pct is not None
        wrong += found.upper_drop_pct < -87.5 * found.share
    assert wrong / 100 <= 0.1 + 3 * np.sqrt(0.09 / 100)


def test_tests_start_where_a_fifth_goes_to_small_however_many_scores_tie() -> None:
    """Nine rows of ten share one score: the few above it prove nothing, and are not asked to."""
    random = np.random.default_rng(0)
    scores = np.where(np.arange(1000) < 900, 0.5, 0.6 + random.random(1000) / 10)
    q = Qualities(np.ones((1000, 1)), np.where(np.arange(1000) % 10, 1.0, 0.0)[:, None])
    found = calibrate(scores, q, Promise(1.0, 0.95), estimate=False)
    assert (found.kept, found.share) == (True, 1.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(1.0, 3.0), (2.0, 5.0), (0.5, 10.0)]))
def test_a_looser_promise_never_sends_fewer_to_small(seed: int, drops: tuple[float, float]) -> None:
    scores, q = night(400, seed, gain=0.1)
    strict, loose = (calibrate(scores, q, Promise(drop, 0.9)) for drop in drops)
    assert loose.share >= strict.share
    sure, unsure = (calibrate(scores, q, Promise(drops[0], confidence)) for confidence in (0.99, 0.6))
    assert unsure.share >= sure.share


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_routing_at_the_threshold_gives_the_share_that_was_told(seed: int, share: float) -> None:
    scores, q = night(200, seed, gain=0.2)
    for found in (
        calibrate(scores, q, Promise(2.0, 0.9)),
        grid_search(scores, q, 1.0),
        for_small_share(scores, q, share),
        for_max_cost(scores, q, 1.0, 10.0, 1.0 + 9.0 * share),
    ):
        tiers = assign_tiers(to_micros(scores), found.threshold_micros)
        assert (tiers == TIERS.index(SMALL)).mean() == pytest.approx(found.share)
        assert found.drop_pct == pytest.approx(
            100.0 * (q.mean_large - q.mean_small)[tiers == TIERS.index(SMALL)].sum() / q.mean_large.sum()
        )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_the_rows_changes_nothing(seed: int) -> None:
    scores, q = night(300, seed, gain=0.2)
    soft = Qualities(q.small * 0.9, q.large * 0.95)
    order = np.random.default_rng(seed).permutation(len(scores))
    promise = Promise(3.0, 0.9)
    shuffled, found = calibrate(scores[order], soft.take(order), promise), calibrate(scores, soft, promise)
    assert shuffled.threshold_micros == found.threshold_micros
    assert (shuffled.share, shuffled.drop_pct) == pytest.approx((found.share, found.drop_pct))


def test_what_cannot_be_promised_goes_to_large_and_says_how_many_rows_it_would_take() -> None:
    scores, q = night(100, 3, gain=0.05)
    found = calibrate(scores, q, Promise(1.0, 0.95))
    assert (found.kept, found.threshold_micros, found.share) == (False, GRID + 1, 0.0)
    assert (assign_tiers(to_micros(scores), found.threshold_micros) == TIERS.index(LARGE)).all()
    assert found.rows_needed is not None
    assert found.rows_needed > 100
    worse, bad = night(300, 3, gain=-0.6)
    hopeless = calibrate(worse, bad, Promise(1.0, 0.95))
    assert (hopeless.kept, hopeless.rows_needed) == (False, None)


def test_the_bound_lies_between_the_drop_on_the_sample_and_the_promise() -> None:
    scores, q = night(3000, 5, gain=0.1)
    found = calibrate(scores, q, Promise(2.0, 0.95))
    assert found.kept
    assert found.upper_drop_pct is not None
    assert found.drop_pct < found.upper_drop_pct <= 2.0


def test_a_quality_below_zero_is_promised_in_percent_of_its_distance_from_zero() -> None:
    scores, q = night(3000, 5, gain=0.1)
    below = Qualities(q.small - 1.0, q.large - 1.0)
    found = calibrate(scores, below, Promise(8.0, 0.95), quality_range=(-1.0, 0.0))
    assert found.kept
    lost = (below.mean_large - below.mean_small)[to_micros(scores) >= found.threshold_micros].sum()
    assert found.drop_pct == pytest.approx(100 * lost / abs(below.mean_large.sum()))


@pytest.mark.parametrize(
    ("quality_range", "words"),
    [((-1.0, 1.0), "allowed is one below or above 0"), ((0.0, 0.5), "outside the range of quality 0 to 0.5")],
)
def test_a_range_that_does_not_fit_is_refused(quality_range: tuple[float, float], words: str) -> None:
    scores, q = night(50, 1)
    with pytest.raises(ValueError, match=words):
        calibrate(scores, q, Promise(1.0, 0.95), quality_range)


@pytest.mark.parametrize(("drop", "confidence"), [(-1.0, 0.9), (1.0, 1.0), (1.0, 0.0), (float("nan"), 0.9)])
def test_a_promise_that_is_none_is_refused(drop: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="allowed"):
        Promise(drop, confidence)


def test_candidates_send_every_step_of_the_share() -> None:
    micros = to_micros(np.linspace(0.001, 1, 1000))
    shares = [(micros >= tau).mean() for tau in candidate_thresholds(micros, 10)]
    assert shares == pytest.approx(np.arange(1, 11) / 10)
    assert candidate_thresholds(to_micros(np.array([np.nan]))) == []
