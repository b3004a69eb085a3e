"""The recursion on the host: against the paper's own form, its limits, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms import wd_free_plan, wd_free_sgd, wd_free_tables
from lrjax.transforms.plan import per_step

PAPER = dict(learning_rate=0.1, weight_decay=5e-4, momentum=0.9)


def paper_alpha(eta, lam, gamma):
    """Li & Arora 2020, Theorem 2.13, with its division by the previous rate."""
    alpha = [1.0]
    for t, rate in enumerate(eta):
        alpha.append(1 - lam * rate + gamma * (rate / eta[max(t - 1, 0)]) * (1 - 1 / alpha[-1]))
    return np.asarray(alpha[1:])


def test_alphas_are_those_of_the_recursion_in_the_paper():
    eta = 0.1 * (1 + np.cos(np.pi * np.arange(500) / 500)) / 2
    plan = wd_free_plan(eta, 5e-4, 0.9, num_steps=500)
    np.testing.assert_allclose(plan.alpha, paper_alpha(eta, 5e-4, 0.9), rtol=0, atol=1e-14)
    np.testing.assert_allclose(plan.log_lr, np.log(eta) - plan.log_scale[:-1] - plan.log_scale[1:], rtol=1e-15)


def test_alpha_converges_to_the_larger_root_at_the_rate_gamma_over_alpha_squared():
    plan = wd_free_plan(**PAPER, num_steps=400)
    small, large = np.sort(np.roots([1, -(1.9 - 5e-5), 0.9]))
    away = plan.alpha - large
    assert abs(away[-1]) < 1e-14
    assert away[60] / away[59] == pytest.approx(0.9 / large**2, rel=1e-3)
    assert abs(plan.alpha[-1] - small) > 0.05


def test_growth_per_epoch_is_that_of_the_figure_caption():
    plan = wd_free_plan(**PAPER, num_steps=2000)
    per_epoch = np.exp(391 * np.diff(plan.log_lr)[-1])
    assert per_epoch == pytest.approx(1.4812, abs=5e-5)
    assert np.exp(390 * np.diff(plan.log_lr)[-1]) != pytest.approx(1.4812, abs=5e-4)


def test_nesterov_alpha_converges_to_its_own_root():
    plan = wd_free_plan(**PAPER, num_steps=600, nesterov=True)
    d, g = 5e-5, 0.9
    assert plan.alpha[-1] == pytest.approx(np.roots([1, -(1 + g - d - d * g), g * (1 - d)]).max(), abs=1e-14)


@pytest.mark.parametrize(("nesterov", "limit"), [(False, (1 - 0.9**0.5) ** 2), (True, (0.1 / 1.9) ** 2)])
def test_the_limit_decides_whether_a_long_run_has_a_plan(nesterov, limit):
    wd_free_plan(1.0, 0.99 * limit, 0.9, num_steps=20000, nesterov=nesterov)
    with pytest.raises(LrjaxError, match=f"from step .* allows {limit:.3g} in the long run"):
        wd_free_plan(1.0, 1.01 * limit, 0.9, num_steps=20000, nesterov=nesterov)


def test_beyond_the_limit_the_first_bad_step_is_named():
    with pytest.raises(LrjaxError, match="from step 38 on"):
        wd_free_plan(1.0, 6e-3, 0.9, num_steps=300)
    assert wd_free_plan(1.0, 6e-3, 0.9, num_steps=38).alpha[-1] > 0
    with pytest.raises(LrjaxError, match="from step 7 on"):
        wd_free_plan(1.0, np.where(np.arange(20) == 7, 1.5, 0.0), 0.0, num_steps=20, decay="decoupled")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(learning_rate=np.full(9, 0.1)), "learning_rate holds 9 steps but the run has 10"),
        (dict(weight_decay=np.full(3, 0.1)), "weight_decay holds 3 steps but the run has 10"),
        (dict(learning_rate=lambda t: 0.1 - 0.05 * t), "learning_rate is negative at step 3"),
        (dict(momentum=lambda t: 0.5 + 0.1 * t), "momentum is outside of .* at step [56]"),
        (dict(learning_rate=lambda t: float("nan") if t == 4 else 0.1), "learning_rate is not finite at step 4"),
        (dict(decay="L2"), "decay must be one of l2, decoupled"),
        (dict(num_steps=0), "num_steps must be a positive integer"),
        (dict(learning_rate=np.full((2, 10), 0.1)), "must be a scalar, a schedule or one number a step"),
    ],
)
def test_bad_input_is_one_clear_error(change, message):
    with pytest.raises(LrjaxError, match=message):
        wd_free_plan(**{**PAPER, "num_steps": 10, **change})


def test_traced_numbers_are_refused_by_the_table_form_and_sent_to_the_other():
    with pytest.raises(LrjaxError, match="learning_rate is traced; use wd_free_sgd with num_steps=None"):
        jax.jit(lambda lr: wd_free_plan(lr, 5e-4, 0.9, num_steps=5).alpha)(0.1)
    with pytest.raises(LrjaxError, match="weight_decay is traced"):
        jax.vmap(lambda wd: wd_free_sgd(0.1, wd, 0.9, num_steps=5).init(jnp.ones(2)))(jnp.ones(3))


def test_a_plan_can_be_made_inside_a_compiled_function():
    schedule = optax.cosine_decay_schedule(0.1, 50)
    log_lr = wd_free_plan(schedule, 5e-4, 0.9, num_steps=50).log_lr
    inside = jax.jit(lambda x: x + wd_free_plan(schedule, 5e-4, 0.9, num_steps=50).log_lr[49])(0.0)
    assert float(inside) == pytest.approx(log_lr[49], rel=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        optax.cosine_decay_schedule(0.3, 20),
        optax.constant_schedule(0.3),
        optax.piecewise_constant_schedule(0.3, {5: 0.1}),
        optax.join_schedules([optax.linear_schedule(0.0, 0.3, 5), optax.exponential_decay(0.3, 4, 0.5)], [5]),
        lambda t: 0.3 if t < 5 else 0.1,
        lambda t: [0.3, 0.2, 0.1][min(t // 8, 2)],
    ],
    ids=["cosine", "constant", "piecewise", "joined", "python branch", "python list"],
)
def test_every_kind_of_schedule_is_evaluated_step_by_step(schedule):
    np.testing.assert_allclose(
        per_step(schedule, 20, "learning_rate"), [float(schedule(t)) for t in range(20)], rtol=1e-5
    )


def test_float64_sums_keep_the_rate_where_float32_sums_lose_it():
    steps = 100 * 391
    plan = wd_free_plan(**PAPER, num_steps=steps)
    alpha = (1.9 - 5e-5 + np.sqrt((1.9 - 5e-5) ** 2 - 3.6)) / 2
    slope = np.log(np.longdouble(alpha)) * -2
    exact = plan.log_lr[1000] + float(slope * (steps - 1 - 1000))
    assert plan.log_lr[-1] == pytest.approx(exact, abs=1e-9)
    in_float32 = np.float32(plan.log_lr[1000]) + np.cumsum(np.full(steps - 1001, np.float32(slope)))[-1]
    assert abs(in_float32 - exact) > 1e-4


def test_tables_hold_the_rate_as_mantissa_and_power_of_two():
    plan = wd_free_plan(optax.linear_schedule(0.0, 0.1, 50), 5e-4, 0.9, num_steps=100)
    tables = wd_free_tables(plan)
    np.testing.assert_allclose(np.ldexp(tables.mantissa, tables.exponent), np.exp(plan.log_lr), rtol=1.2e-7)
    assert tables.mantissa[0] == 0


def test_a_run_that_leaves_float32_is_refused_unless_it_is_rescaled():
    plan = wd_free_plan(**PAPER, num_steps=500 * 391)
    with pytest.raises(LrjaxError, match="leaves float32 at step 906.*gauge_rescale"):
        wd_free_tables(plan)
    tables = wd_free_tables(plan, rescaled=True)
    assert np.isfinite(tables.mantissa).all()
    assert tables.exponent[-1] > 128
