"""Verdicts over seeds are wrong as seldom as their level says, and intervals are those of SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lrjax.errors import LrjaxError
from lrjax.papers.statistics import holm, logs_apart, mean_of, positive, seeds_needed, within

NUMBERS = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8)
MOST = 31  # of 400: the 99 % point at a level of 5 %


def verdicts(decide, shift, seeds=3, comparisons=1, draws=400):
    generator = np.random.default_rng(7)
    return [decide(*(shift + generator.normal(size=(comparisons, seeds)))) for _ in range(draws)]


@given(NUMBERS)
def test_the_interval_of_a_mean_is_the_t_interval_of_scipy(values):
    found = mean_of(values)
    if np.std(values) > 1e-9:
        error = stats.sem(values)
        low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), error)
        np.testing.assert_allclose((found.low, found.high), (low, high), rtol=1e-9, atol=1e-9)


def test_one_seed_has_no_interval_and_decides_nothing():
    assert mean_of([3.0]).half_width == np.inf
    assert positive([3.0]) == "inconclusive"
    assert within([0.0], margin=1.0) == "inconclusive"


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("comparisons", [1, 2, 6])
def test_without_an_effect_a_sign_is_decided_in_five_of_a_hundred_runs(seeds, comparisons):
    found = verdicts(positive, 0.0, seeds, comparisons)
    assert len(found) - found.count("inconclusive") <= MOST


def test_two_standard_errors_of_two_seeds_would_decide_far_more_often():
    generator = np.random.default_rng(7)
    draws = generator.normal(size=(400, 2))
    errors = draws.std(axis=1, ddof=1) / np.sqrt(2)
    assert np.sum(np.abs(draws.mean(axis=1)) > 2 * errors) > 2 * MOST


@pytest.mark.parametrize("comparisons", [1, 3])
def test_at_the_margin_sameness_is_decided_in_five_of_a_hundred_runs(comparisons):
    found = verdicts(lambda *values: within(*values, margin=2.0), 2.0, 4, comparisons)
    assert len(found) - found.count("inconclusive") <= MOST


def test_verdicts_go_with_the_sign_and_with_the_margin():
    assert verdicts(positive, 20.0).count("supported") > 390
    assert verdicts(positive, -20.0).count("contradicted") > 390
    assert verdicts(lambda *v: within(*v, margin=50.0), 0.0).count("supported") > 390
    assert verdicts(lambda *v: within(*v, margin=1.0), 50.0).count("contradicted") > 390


def test_one_clear_comparison_the_wrong_way_contradicts_and_one_open_one_keeps_it_open():
    assert positive([1.0, 1.1, 0.9], [-1.0, -1.1, -0.9]) == "contradicted"
    assert positive([1.0, 1.1, 0.9], [1.0, -1.0, 0.1]) == "inconclusive"


def test_equal_seeds_are_decided_by_their_value():
    assert positive([1.0, 1.0]) == "supported"
    assert positive([0.0, 0.0]) == "inconclusive"
    assert within([0.0, 0.0], margin=0.1) == "supported"
    assert within([1.0, 1.0], margin=1.0) == "inconclusive"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_between_the_single_comparison_and_bonferroni(p_values):
    single, adjusted = np.array(p_values), holm(p_values)
    assert np.all(adjusted >= single)
    assert np.all(adjusted <= np.minimum(1.0, single * single.size) + 1e-12)
    assert np.all(np.diff(adjusted[np.argsort(single, kind="stable")]) >= 0)


@pytest.mark.parametrize(("effect", "count"), [(3.3, 3), (1.7, 5)])
def test_the_power_of_a_paired_t_test_says_how_many_seeds_are_needed(effect, count):
    found = verdicts(positive, effect, count)
    assert seeds_needed(effect) == count
    assert found.count("supported") > 0.75 * len(found)
    assert verdicts(positive, effect, count - 1).count("supported") < 0.8 * len(found)


def test_what_cannot_be_compared_is_refused():
    for wrong in (lambda: positive(), lambda: positive([]), lambda: positive([np.nan, 1.0]), lambda: mean_of([[1.0]])):
        with pytest.raises(LrjaxError):
            wrong()
    with pytest.raises(LrjaxError, match="margin must be positive"):
        within([1.0, 2.0], margin=0.0)
    with pytest.raises(LrjaxError, match="seeds are paired"):
        logs_apart([1.0], [1.0, 2.0])
    with pytest.raises(LrjaxError, match="positive numbers"):
        logs_apart([0.0], [1.0])
