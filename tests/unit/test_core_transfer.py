"""Correlations, the gain of an order, and the verdict they lead to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hybrid_batch.core.transfer import (
    RECALIBRATE,
    RETRAIN,
    REUSE,
    Correlation,
    Findings,
    Gain,
    gain,
    gain_interval,
    verdict,
)


def test_gain_knows_the_oracle_its_opposite_and_chance():
    random = np.random.default_rng(0)
    gap = random.normal(size=400)
    assert gain(gap, gap) == pytest.approx(1)
    assert gain(-gap, gap) == pytest.approx(-1)
    chance = gain_interval(random.random(400), gap)
    assert chance.low < 0 < chance.high
    better = gain_interval(gap + random.normal(size=400), gap)
    assert 0.4 < better.low < better.value < better.high < 1


def test_too_few_rows_decide_nothing():
    assert Correlation(0.9, 0.9, 29).strength is None
    assert Correlation(0.9, 0.8, 30).strength == 0.8
    assert [Correlation(r, r, 99).word for r in (0.7, 0.3, 0.29)] == ["strong", "moderate", "weak"]


GOOD = Findings(Gain(0.4, 0.3, 0.5), Correlation(0.4, 0.4, 500), 0.01, Correlation(0.8, 0.8, 500), 0.5)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (GOOD, REUSE),
        (replace(GOOD, gaps=None, gain_before=None), REUSE),
        (replace(GOOD, bias=-0.2), RECALIBRATE),
        (replace(GOOD, bias=0.051), RECALIBRATE),
        (replace(GOOD, gain_before=0.81), RETRAIN),
        (replace(GOOD, gain=Gain(0.4, -0.1, 0.6)), REUSE),  # too few rows to be sure, and the gaps agree
        (replace(GOOD, gain=Gain(-0.3, -0.4, -0.2)), RETRAIN),  # worse than random, whatever the gaps say
        (replace(GOOD, gain=Gain(-0.3, -0.4, -0.2), gain_before=None), RETRAIN),
        (replace(GOOD, gain=Gain(0.4, -0.1, 0.6), gaps=Correlation(0.5, 0.5, 500)), RETRAIN),
        (replace(GOOD, gain=Gain(0.4, -0.1, 0.6), gaps=None), RETRAIN),
        (replace(GOOD, gain=Gain(float("nan"), float("nan"), float("nan")), gaps=None), RETRAIN),
    ],
)
def test_the_verdict_follows_from_what_was_found(found: Findings, expected: str):
    assert verdict(found)[0] == expected


def test_the_reason_says_to_which_side_scores_are_shifted():
    assert "too high" in verdict(replace(GOOD, bias=0.2))[1]
    assert "too low" in verdict(replace(GOOD, bias=-0.2))[1]
