"""The parabola of a sweep finds minimum, interval and drift where they are known, and says where they were not measured."""

import numpy as np
import pytest

from lrjax.monitor import rate_fit
from lrjax.monitor.rate_fit import Fit, Optimum, drift, fit, percentiles

RATES = np.geomspace(1e-4, 1.0, 9)


def random():
    return np.random.default_rng(0)


def valley(best, rates=RATES, depth=0.3, noise=0.0, seeds=3, generator=None):
    """Losses [R, S] whose logarithm is a parabola."""
    errors = noise * (generator or random()).normal(size=(len(rates), seeds))
    return np.exp(depth * np.log(rates / best)[:, None] ** 2 + errors)


@pytest.mark.parametrize("best", [0.02, 0.013, 0.0071])
def test_minimum_of_an_exact_parabola_is_found_between_the_rates_of_the_grid(best):
    found = fit(100, RATES, valley(best), generator=random()).optimum
    assert abs(np.log(found.learning_rate / best)) < 1e-6
    assert found.at_edge is None
    assert found.interval == pytest.approx((best, best))
    assert found.best_tested in RATES
    assert abs(np.log(found.best_tested / best)) > 0.1  # which the best of the grid would not do


def test_interval_holds_the_truth_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(rate_fit, "RESAMPLES", 500)
    held = {True: 0, False: 0}
    generator = np.random.default_rng(1)
    tries, rates = 100, np.geomspace(1e-4, 1e-1, 12)
    for _ in range(tries):
        best = np.exp(generator.uniform(np.log(1e-3), np.log(1e-2)))
        result = fit(100, rates, valley(best, rates, noise=0.1, generator=generator), generator=generator)
        low, high = result.optimum.interval
        held[True] += low <= best <= high
        centre, half = np.log(result.optimum.learning_rate), 0.6 * np.log(high / low) / 2
        held[False] += abs(np.log(best) - centre) < half
    # 3 standard errors of 100 tries; an interval of 0.6 times the width does not pass
    assert 0.88 <= held[True] / tries <= 1.0
    assert held[False] / tries < 0.88


def test_interval_of_few_lanes_is_as_much_wider_as_that_of_student():
    from scipy.special import ndtri, stdtrit

    draws = ndtri((np.arange(100_000) + 0.5) / 100_000)
    for freedom in (3, 10, 10**6):
        low, high = percentiles(draws, 0.95, freedom)
        assert high == pytest.approx(stdtrit(freedom, 0.975), rel=1e-2)
        assert low == pytest.approx(-high)


@pytest.mark.parametrize(("best", "edge", "tested"), [(1e-7, "low", 1e-4), (1e3, "high", 1.0)])
def test_minimum_beyond_the_grid_is_said_to_be_at_its_edge(best, edge, tested):
    result = fit(100, RATES, valley(best, noise=0.01), generator=random())
    found = result.optimum
    assert (found.at_edge, found.learning_rate, found.interval) == (edge, pytest.approx(tested), None)
    assert drift([result, result], 10_000, 0.95) == (None, None)


def test_minimum_beside_rates_that_diverge_is_at_the_edge_of_divergence():
    losses = valley(1e3)
    losses[6:] = np.nan
    found = fit(100, RATES, losses, generator=random()).optimum
    assert (found.at_edge, found.interval) == ("divergence", None)
    assert found.learning_rate == RATES[5]


def test_rate_at_which_a_seed_diverged_is_not_the_best_one():
    losses = valley(0.1)
    assert fit(100, RATES, losses, generator=random()).optimum.best_tested == RATES[6]
    losses[6, 0] = np.nan
    assert fit(100, RATES, losses, generator=random()).optimum.best_tested in RATES[[5, 7]]


def test_drift_is_the_slope_of_the_logarithms_and_beyond_it_is_extrapolated():
    fits = [fit(steps, RATES, valley(0.5 * steps**-0.7, noise=0.02), generator=random()) for steps in (100, 400)]
    slope, beyond = drift(fits, 1600, 0.95)
    assert slope.interval[0] < -0.7 < slope.interval[1]
    assert beyond.interval[0] < 0.5 * 1600**-0.7 < beyond.interval[1]
    assert beyond.interval[1] / beyond.interval[0] > np.divide(
        *fits[1].optimum.interval[::-1]
    )  # less sure than what it is from
    exact = [Fit(Optimum(steps, 2.0 / steps, None, None, 0.1, 1.0), np.empty(0), 0) for steps in (10, 40)]
    assert drift(exact, None, 0.95) == ((pytest.approx(-1.0), None), None)
    assert drift(exact[:1], 100, 0.95) == (None, None)
