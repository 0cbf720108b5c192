import numpy as np

from hybrid_batch.demo.router import choose_l2, fit, sigmoid

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(300, 5))
WEIGHT = np.array([2.0, -1.0, 0.0, 0.5, 0.0])
TARGET = (RNG.random(300) < sigmoid(FEATURES @ WEIGHT + 0.3)).astype(float)


def slope_of_loss(weight, bias, l2):
    error = sigmoid(FEATURES @ weight + bias) - TARGET
    return np.append(FEATURES.T @ error + l2 * weight, error.sum())


def test_the_fit_is_where_the_loss_is_flat():
    for l2 in (0.1, 1.0, 30.0):
        weight, bias = fit(FEATURES, TARGET, l2)
        assert np.abs(slope_of_loss(weight.astype(float), float(bias), l2)).max() < 1e-3


def test_more_l2_means_less_weight_and_the_same_mean():
    light, heavy = fit(FEATURES, TARGET, 0.1), fit(FEATURES, TARGET, 1000.0)
    assert np.linalg.norm(heavy[0]) < np.linalg.norm(light[0])
    for weight, bias in (light, heavy):
        assert abs(sigmoid(FEATURES @ weight + bias).mean() - TARGET.mean()) < 1e-5


def test_noise_asks_for_more_l2_than_a_signal():
    ids = [f"q{number}" for number in range(300)]
    noise = (RNG.random(300) < 0.5).astype(float)
    assert choose_l2(FEATURES, noise, ids) > choose_l2(FEATURES, TARGET, ids)
