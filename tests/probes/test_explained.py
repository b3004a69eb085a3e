"""The information measure on counts with known answers, and the linear classifier behind it."""

import numpy as np
import pytest

from lrjax.probes.explained import explained_information, linear_predictions, mutual_information


def test_information_of_a_noisy_channel_is_its_capacity():
    joint = 100_000 * np.array([[0.45, 0.05], [0.05, 0.45]])
    wanted = 1 + 0.9 * np.log2(0.9) + 0.1 * np.log2(0.1)
    assert mutual_information(joint) == pytest.approx(wanted, abs=1e-4)
    assert mutual_information(100_000 * np.full((2, 2), 0.25)) == pytest.approx(0.0, abs=1e-4)


def test_a_network_equal_to_the_linear_model_is_explained_and_an_independent_one_is_not():
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 50_000)
    linear = np.where(random.random(y.size) < 0.8, y, 1 - y)
    mu, whole = explained_information(linear, linear, y, 2)
    assert mu == pytest.approx(whole, abs=1e-3)
    guess = random.integers(0, 2, y.size)
    mu, whole = explained_information(y, guess, y, 2)
    assert mu == pytest.approx(0.0, abs=2e-3)
    assert whole == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("n", "d"), [(200, 5), (40, 90)])
def test_linear_predictions_solve_the_ridge_problem_from_either_side(n, d):
    random = np.random.default_rng(0)
    x, y, test = random.normal(size=(n, d)), random.integers(0, 3, n), random.normal(size=(50, d))
    centred, target = x - x.mean(0), np.eye(3)[y]
    weights = np.linalg.solve(centred.T @ centred + n * np.eye(d), centred.T @ (target - target.mean(0)))
    wanted = np.argmax((test - x.mean(0)) @ weights + target.mean(0), axis=1)
    assert np.array_equal(linear_predictions(x, y, test, 3), wanted)
