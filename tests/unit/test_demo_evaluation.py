import numpy as np
import pytest

from hybrid_batch.demo.evaluation import auc, evaluate

Q_SMALL = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
Q_LARGE = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0])


def test_auc_is_the_share_of_pairs_in_order_with_ties_as_halves():
    assert auc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])) == pytest.approx(3.5 / 4)
    assert np.isnan(auc(np.array([0.9]), np.array([True])))


def test_a_router_that_knows_the_gap_equals_the_oracle():
    drops = evaluate((Q_SMALL - Q_LARGE + 1) / 2, Q_SMALL, Q_LARGE)["drop_percent"]
    assert all(one["router"] == one["oracle"] for one in drops.values())
    assert drops["10%"]["oracle"] == -12.5  # one question better, of eight right ones


def test_random_is_its_exact_expectation():
    metrics = evaluate(np.linspace(0, 1, 10), Q_SMALL, Q_LARGE)
    assert metrics["drop_percent"]["40%"]["random"] == pytest.approx(100 * 0.4 * (8 - 3) / 8)


def test_a_constant_router_sends_everything_at_its_threshold():
    metrics = evaluate(np.full(10, 0.7), Q_SMALL, Q_LARGE)
    assert metrics["auc"] == 0.5
    assert metrics["threshold_0.5"] == {"share_small": 1.0, "drop_percent": 62.5, "random_drop_percent": 62.5}
