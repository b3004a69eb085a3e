"""From exponential rates back to a learning rate with weight decay."""

import jax
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms import constant_norm, to_weight_decay, wd_free_plan, weight_decay_path
from lrjax.transforms.texp import texp_phases
from tests.transforms import problems
from tests.transforms.problems import (
    DIFFERENT,
    EQUAL,
    MOMENTUM,
    STEPS,
    deviation,
    rows,
    tables_of,
    with_decay,
    without_decay,
)

T = np.arange(STEPS)
GROWTH, FIRST = 1.02, 0.1


def exponential(growth=GROWTH, first=FIRST):
    return np.log(first) + T * np.log(growth)


def path_rows(path):
    return rows(path.learning_rate, path.weight_decay)


@pytest.mark.x64
def test_an_exponential_rate_equals_weight_decay_with_its_starting_buffer():
    learning_rate, weight_decay = to_weight_decay(GROWTH, FIRST, MOMENTUM)
    free = without_decay(tables_of(exponential()))
    table = rows(learning_rate, weight_decay)
    state = problems.heavy_ball(None, jax.numpy.asarray(table[0])).init(problems.problem().params)
    kappa = (np.sqrt(GROWTH) - 1) / learning_rate
    buffer = jax.tree.map(lambda p: kappa * p, problems.problem().params)
    started = (state[0], (state[1][0]._replace(trace=buffer), *state[1][1:]))
    assert deviation(free, with_decay(table, state=started)) <= EQUAL
    assert deviation(free, with_decay(table)) > DIFFERENT
    without_the_half_step = rows(FIRST, weight_decay)
    assert deviation(free, with_decay(without_the_half_step, state=started)) > DIFFERENT


def test_phases_of_texp_come_back_as_they_were():
    boundaries, eta = (40, 90), (0.1, 0.03, 0.003)
    phases = texp_phases(boundaries, eta, 2e-3, 0.9)
    result = to_weight_decay(np.exp(-2 * phases.log_alpha), np.exp(phases.log_lr), 0.9, boundaries=boundaries)
    np.testing.assert_allclose(result[0], eta, rtol=1e-12)
    np.testing.assert_allclose(result[1], 2e-3, rtol=1e-9)


@pytest.mark.x64
def test_any_positive_path_of_the_scale_is_an_equal_run():
    free = without_decay(tables_of(exponential()))
    wavy = 1 - 0.004 * (1 + np.sin(T / 5))
    path = weight_decay_path(exponential(), wavy, MOMENTUM)
    assert deviation(free, with_decay(path_rows(path))) <= EQUAL
    no_buffer_share = rows(path.learning_rate, (1 - wavy) / path.learning_rate)
    assert deviation(free, with_decay(no_buffer_share)) > DIFFERENT


@pytest.mark.x64
def test_along_the_norms_of_the_run_the_weights_keep_their_norm():
    free = without_decay(tables_of(exponential()))
    path = weight_decay_path(exponential(), constant_norm(free.norm), MOMENTUM)
    decayed = with_decay(path_rows(path))
    assert deviation(free, decayed) <= EQUAL
    assert float(np.ptp(decayed.norm)) < 1e-8 * float(decayed.norm[0]) < float(np.ptp(free.norm))


def test_the_path_of_a_plan_leads_back_to_the_settings_of_the_plan():
    momentum = 0.9 - 0.4 * T / STEPS
    eta = 0.1 * (1 + np.cos(np.pi * T / STEPS)) / 2
    plan = wd_free_plan(eta, 5e-4, momentum, num_steps=STEPS)
    path = weight_decay_path(plan.log_lr, plan.alpha, momentum)
    np.testing.assert_allclose(path.learning_rate, eta, rtol=1e-12)
    np.testing.assert_allclose(path.weight_decay, 5e-4, rtol=1e-6)
    np.testing.assert_allclose(path.kappa, plan.kappa, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_weight_decay(0.99, 0.1, 0.9), "growth of 0.99 a step"),
        (lambda: to_weight_decay(1.2, 0.1, 0.9), "at most 1 / momentum"),
        (lambda: to_weight_decay((1.01, 1.02), (0.1, 0.1), 0.9), "1 phases need as many"),
        (lambda: weight_decay_path(np.zeros(3), np.array([1, 0.9, 0.0]), 0.9), "not at step 2"),
        (lambda: weight_decay_path(np.array([0, -np.inf]), np.ones(2), 0.9), "not positive at step 1"),
        (lambda: weight_decay_path(np.zeros(3), np.ones(2)), "one entry a step"),
        (lambda: constant_norm(np.array([1.0, 0.0, 2.0])), "norm 1 is not"),
    ],
)
def test_bad_input_is_one_clear_error(call, message):
    with pytest.raises(LrjaxError, match=message):
        call()


def test_no_growth_is_no_decay():
    assert to_weight_decay(1.0, 0.1, 0.9) == (0.1, 0.0)
