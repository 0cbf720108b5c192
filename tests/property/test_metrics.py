"""Curves and figures against slow references."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_batch.core import metrics
from hybrid_batch.core.labels import GAIN, Qualities, make_labels

SCORE = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9])
VALUE = st.sampled_from([0.0, 0.25, 1.0])
ROWS = st.lists(st.tuples(SCORE, VALUE, VALUE), min_size=1, max_size=7)
MORE = st.lists(st.tuples(SCORE, VALUE, VALUE), min_size=1, max_size=60)


def made(rows: list) -> tuple[np.ndarray, Qualities]:
    values = np.array(rows, dtype=float)
    return values[:, 0], Qualities(values[:, 1:2], values[:, 2:3])


@given(ROWS)
def test_a_curve_is_the_mean_over_all_orders_that_the_scores_allow(rows: list) -> None:
    scores, q = made(rows)
    curves = []
    for order in itertools.permutations(range(len(rows))):
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order)):
            tier = q.mean_large.copy()
            curve = [tier.mean()]
            for row in order:
                tier[row] = q.mean_small[row]
                curve.append(tier.mean())
            curves.append(curve)
    found = metrics.cost_curve(scores, q)
    assert found.quality == pytest.approx(np.mean(curves, axis=0))
    assert found.share == pytest.approx(np.arange(len(rows) + 1) / len(rows))


@given(MORE, st.randoms())
def test_nothing_depends_on_the_order_of_the_rows(rows: list, random: object) -> None:
    scores, q = made(rows)
    order = np.array(sorted(range(len(rows)), key=lambda _: random.random()))  # type: ignore[attr-defined]
    labels = make_labels(GAIN, q)[0]
    assert metrics.cost_curve(scores[order], q.take(order)).quality == pytest.approx(
        metrics.cost_curve(scores, q).quality
    )
    for figure in (metrics.auc, metrics.brier, metrics.ece):
        if figure is not metrics.ece:  # a bin's edge may fall between equal scores of different labels
            assert figure(scores[order], labels[order]) == pytest.approx(figure(scores, labels), nan_ok=True)


@given(MORE)
def test_no_order_is_better_than_the_oracle_and_random_is_half(rows: list) -> None:
    scores, q = made(rows)
    best, found = metrics.oracle_curve(q), metrics.cost_curve(scores, q)
    assert (best.quality >= found.quality - 1e-12).all()
    if q.mean_large.mean() > q.mean_small.mean() + 1e-9:
        assert metrics.apgr(metrics.random_curve(q)) == pytest.approx(0.5)
        assert metrics.cpt(metrics.random_curve(q), 0.8) == pytest.approx(0.8)
        assert metrics.cpt(best, 0.8) <= metrics.cpt(found, 0.8) + 1e-9
    else:
        assert np.isnan(metrics.apgr(found)) or q.mean_large.mean() > q.mean_small.mean()


@given(MORE, st.sampled_from([0.5, 0.8]))
def test_cpt_is_the_least_share_of_large_calls_that_recovers_so_much(rows: list, recovered: float) -> None:
    scores, q = made(rows)
    large, small = q.mean_large.mean(), q.mean_small.mean()
    if large <= small + 1e-9:
        return
    curve = metrics.cost_curve(scores, q)
    calls = metrics.cpt(curve, recovered)
    fine = np.linspace(0, 1, 4001)
    enough = np.interp(fine, curve.share, curve.quality) >= small + recovered * (large - small) - 1e-9
    assert calls == pytest.approx(1 - fine[enough].max(), abs=1e-3)


@given(MORE)
def test_auc_counts_pairs_with_ties_as_half(rows: list) -> None:
    scores, q = made(rows)
    positive = (q.gap >= 0).astype(float)
    pairs = [
        (scores[a] > scores[b]) + 0.5 * (scores[a] == scores[b])
        for a in np.flatnonzero(positive == 1)
        for b in np.flatnonzero(positive == 0)
    ]
    assert metrics.auc(scores, positive) == pytest.approx(np.mean(pairs) if pairs else np.nan, nan_ok=True)


@given(MORE)
def test_a_router_that_says_the_truth_is_calibrated(rows: list) -> None:
    _, q = made(rows)
    labels = make_labels(GAIN, q)[0]
    assert metrics.brier(labels, labels) == 0
    assert metrics.ece(labels, labels) == pytest.approx(0, abs=1e-12)
    assert metrics.ece(np.clip(labels + 0.2, 0, 2), labels) == pytest.approx(0.2)


def test_a_row_without_a_score_goes_to_small_last() -> None:
    q = Qualities(np.array([[0.0], [1.0]]), np.array([[1.0], [1.0]]))
    assert metrics.cost_curve(np.array([np.nan, 0.0]), q).quality.tolist() == [1.0, 1.0, 0.5]


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_intervals_hold_the_figure_and_narrow_with_the_rows(seed: int) -> None:
    random = np.random.default_rng(seed)

    def width(rows: int) -> float:
        scores = random.random(rows)
        small = (random.random(rows) < scores * 0.7).astype(float)[:, None]
        q = Qualities(small, (random.random(rows) < 0.8).astype(float)[:, None])
        found = metrics.evaluate(scores, q, make_labels(GAIN, q)[0], resamples=100)
        assert found.apgr.low <= found.apgr.value <= found.apgr.high
        return found.apgr.high - found.apgr.low

    assert width(4000) < width(100)


def test_the_same_seed_gives_the_same_intervals() -> None:
    scores, q = made([(0.1, 0.0, 1.0), (0.9, 1.0, 1.0), (0.5, 0.25, 1.0)] * 5)
    labels = make_labels(GAIN, q)[0]
    assert metrics.evaluate(scores, q, labels, 50) == metrics.evaluate(scores, q, labels, 50)
