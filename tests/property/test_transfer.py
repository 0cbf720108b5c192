"""Correlations equal scipy's; the gain of an order equals the areas of its curves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hybrid_batch.core.transfer import correlation, gain, ranks

COLUMNS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=3, max_size=40)


def area(order_by: np.ndarray, gap: np.ndarray) -> float:
    """Area under the cumulative gap when rows leave by falling score, equal scores at one rate."""
    shares, heights = [0.0], [0.0]
    for score in sorted(set(order_by), reverse=True):
        group = gap[order_by == score]
        shares.append(shares[-1] + len(group) / len(gap))
        heights.append(heights[-1] + group.sum() / len(gap))
    return float(np.trapezoid(heights, shares))


@given(COLUMNS)
def test_correlations_and_ranks_are_those_of_scipy(pairs: list[tuple[int, int]]):
    left, right = np.array(pairs, dtype=float).T
    found = correlation(left, right)
    if len(set(left)) > 1 and len(set(right)) > 1:
        assert found.pearson == pytest.approx(stats.pearsonr(left, right).statistic)
        assert found.spearman == pytest.approx(stats.spearmanr(left, right).statistic)
    else:
        assert np.isnan(found.pearson)
        assert found.strength is None
    assert np.array_equal(ranks(left), stats.rankdata(left))


@given(COLUMNS)
def test_gain_is_the_area_of_the_curves(pairs: list[tuple[int, int]]):
    scores, gap = np.array(pairs, dtype=float).T
    random, oracle = gap.mean() / 2, area(gap, gap)
    if oracle - random < 1e-9:
        assert np.isnan(gain(scores, gap))
    else:
        assert gain(scores, gap) == pytest.approx((area(scores, gap) - random) / (oracle - random), abs=1e-9)
