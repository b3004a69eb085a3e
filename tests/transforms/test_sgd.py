"""wd_free_sgd computes the functions of SGD with weight decay: near the limit, in float64, against optax's own chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.transforms import texp, wd_free_adamw, wd_free_plan, wd_free_sgd, wd_free_tables
from tests.transforms import problems
from tests.transforms.problems import (
    DECAY,
    DIFFERENT,
    EQUAL,
    MOMENTUM,
    RATE,
    RULES,
    STEPS,
    deviation,
    fixed,
    rows,
    step_decay,
    tables_of,
    with_decay,
    without_decay,
)

T = np.arange(STEPS)
COSINE = RATE * (1 + np.cos(np.pi * T / STEPS)) / 2
WARM_UP = np.minimum(T / 30, 1) * COSINE
# learning rate, weight decay, momentum
SETTINGS = {
    "constant": (RATE, DECAY, MOMENTUM),
    "step decay": (np.array([step_decay(t) for t in T]), DECAY, MOMENTUM),
    "cosine": (COSINE, DECAY, MOMENTUM),
    "warm-up from 0": (WARM_UP, DECAY, MOMENTUM),
    "scheduled decay and momentum": (COSINE, DECAY * T / STEPS, 0.9 - 0.4 * T / STEPS),
    "no momentum": (RATE, DECAY, 0.0),
}


def plan_of(settings, **rule):
    return wd_free_plan(*settings, num_steps=STEPS, **rule)


@pytest.mark.x64
@pytest.mark.parametrize("name", SETTINGS)
def test_both_forms_equal_weight_decay_in_function_space(name):
    decayed = with_decay(rows(*SETTINGS[name]))
    assert deviation(decayed, without_decay(wd_free_tables(plan_of(SETTINGS[name])))) <= EQUAL
    assert deviation(decayed, problems.trained(problems.open_form, rows=rows(*SETTINGS[name]))) <= EQUAL


@pytest.mark.x64
def test_weights_and_buffers_differ_by_the_scale_of_the_plan():
    plan = plan_of(SETTINGS["cosine"])
    decayed, free = with_decay(rows(COSINE)), without_decay(wd_free_tables(plan))
    scale, kappa = np.exp(plan.log_scale[-1]), plan.kappa[-1]
    buffer = decayed.state[1][0].trace
    for name in ("first", "second"):
        np.testing.assert_allclose(decayed.params[name], scale * free.params[name], rtol=0, atol=1e-8)
        expected = scale * (buffer[name] - kappa * decayed.params[name])
        np.testing.assert_allclose(free.state.trace[name], expected, rtol=0, atol=1e-8)


@pytest.mark.x64
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_update_rule_has_its_equal(rule):
    decayed = with_decay(rows(COSINE), RULES[rule])
    plan = plan_of(SETTINGS["cosine"], nesterov=rule[0], decay=rule[1])
    assert deviation(decayed, without_decay(wd_free_tables(plan))) <= EQUAL


@pytest.mark.x64
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_open_form_makes_the_updates_of_the_table_form(rule):
    kwargs = dict(nesterov=rule[0], decay=rule[1])
    gradients = jax.random.normal(jax.random.key(0), (STEPS, 4))
    planned = wd_free_sgd(COSINE, DECAY, MOMENTUM, num_steps=STEPS, **kwargs)

    def updates_of(optimizer):
        step = lambda state, g: optimizer.update(g, state)[::-1]  # noqa: E731
        return jax.lax.scan(step, optimizer.init(jnp.ones(4)), gradients)

    state, updates = updates_of(wd_free_sgd(lambda t: jnp.asarray(COSINE)[t], DECAY, MOMENTUM, **kwargs))
    np.testing.assert_allclose(updates, updates_of(planned)[1], rtol=1e-11)
    plan = plan_of(SETTINGS["cosine"], **kwargs)
    np.testing.assert_allclose(state.log_scale, plan.log_scale[-1], rtol=1e-12)
    np.testing.assert_allclose(state.kappa, plan.kappa[-1], rtol=1e-12)


@pytest.mark.x64
def test_without_its_own_coefficients_an_update_rule_is_another_run():
    l2 = wd_free_tables(plan_of(SETTINGS["constant"]))
    ones = np.ones(STEPS)
    by_heavy_ball = l2._replace(gain=ones, ahead=(MOMENTUM**2 * ones, (1 + MOMENTUM) * ones))
    assert deviation(with_decay(rows(), problems.nesterov), without_decay(by_heavy_ball)) > DIFFERENT
    settings = (RATE, 5 * DECAY, MOMENTUM)
    decoupled = wd_free_tables(plan_of(settings, decay="decoupled"))
    constant_momentum = decoupled._replace(momentum=np.full(STEPS, MOMENTUM))
    decayed = with_decay(rows(*settings), problems.sgdw)
    assert deviation(decayed, without_decay(decoupled)) <= EQUAL
    assert deviation(decayed, without_decay(constant_momentum)) > DIFFERENT


@pytest.mark.x64
def test_the_wrong_recursions_are_caught():
    decayed = with_decay(rows(COSINE))
    plan = plan_of(SETTINGS["cosine"])
    log_lr, log_scale = plan.log_lr, plan.log_scale
    wrong = {
        "half step left out": np.log(COSINE) - 2 * log_scale[:-1],
        "one step late": np.log(COSINE) - 2 * log_scale[1:],
        "no momentum in alpha": np.log(COSINE) - 2 * np.cumsum(np.log1p(-DECAY * COSINE)),
        "no decay at all": np.log(COSINE),
    }
    assert deviation(decayed, without_decay(tables_of(log_lr))) <= EQUAL
    for name, values in wrong.items():
        assert deviation(decayed, without_decay(tables_of(values))) > DIFFERENT, name


@pytest.mark.x64
def test_schedules_of_optax_give_the_run_of_the_chain_that_uses_them():
    schedule = optax.warmup_cosine_decay_schedule(0.0, RATE, 30, STEPS)
    decays = optax.linear_schedule(0.0, DECAY, 100)
    chain = optax.chain(optax.add_decayed_weights(decays), optax.sgd(schedule, momentum=MOMENTUM))
    decayed = fixed(chain)
    assert deviation(decayed, fixed(wd_free_sgd(schedule, decays, MOMENTUM, num_steps=STEPS))) <= EQUAL


LABELS = {"first": "free", "second": "free", "head": "rest", "bias": "rest"}


def grouped(tables, row):
    rest = problems.heavy_ball(None, row)
    return optax.partition({"free": problems.by_tables(tables, row), "rest": rest}, LABELS)


@pytest.mark.x64
def test_an_invariant_group_is_converted_alone_beside_a_trainable_head():
    tables = jax.tree.map(jnp.asarray, wd_free_tables(plan_of(SETTINGS["cosine"])))
    start = problems.with_head()
    decayed = with_decay(rows(COSINE), start=start)
    converted = problems.trained(grouped, shared=tables, rows=rows(COSINE), start=start)
    assert deviation(decayed, converted) <= EQUAL
    np.testing.assert_allclose(decayed.params["head"], converted.params["head"], rtol=0, atol=1e-8)
    everything = problems.without_decay(tables, start=start)
    assert deviation(decayed, everything) > DIFFERENT


def test_beyond_the_last_planned_step_updates_are_nan():
    optimizer = wd_free_sgd(0.1, 5e-4, 0.9, num_steps=3)
    state = optimizer.init(jnp.ones(2))
    for finite in (True, True, True, False):
        updates, state = optimizer.update(jnp.ones(2), state)
        assert bool(jnp.isfinite(updates).all()) is finite


def test_beyond_the_limit_the_open_form_turns_nan_at_the_step_that_the_plan_names():
    optimizer = wd_free_sgd(1.0, 6e-3, 0.9)
    state = optimizer.init(jnp.ones(2))
    finite = []
    for _ in range(40):
        updates, state = jax.jit(optimizer.update)(jnp.ones(2), state)
        finite.append(bool(jnp.isfinite(updates).all()))
    assert finite == [True] * 38 + [False] * 2


def rates(optimizer, steps):
    def one(state, _):
        updates, state = optimizer.update(jnp.ones(()), state)
        return state, updates

    state, updates = jax.lax.scan(one, optimizer.init(jnp.ones(())), None, steps)
    return -updates, state


def test_the_open_form_keeps_the_rate_in_float32_over_a_hundred_epochs():
    steps = 100 * 391
    plan = wd_free_plan(0.1, 5e-4, 0.0, num_steps=steps)
    values, state = rates(wd_free_sgd(0.1, 5e-4), steps)
    errors = np.abs(np.asarray(values, np.float64) / np.exp(plan.log_lr) - 1)
    assert errors.max() < 1e-5
    uncompensated = np.cumsum(np.full(steps, np.float32(np.log1p(-5e-5))), dtype=np.float32)
    assert abs(uncompensated[-1] - plan.log_scale[-1]) > 1e-4 > abs(float(state.log_scale) - plan.log_scale[-1])


def test_a_gauge_multiplies_rate_and_update_by_powers_of_two_bit_for_bit():
    for optimizer in (wd_free_sgd(0.1, 5e-3, 0.9, num_steps=50), wd_free_sgd(0.1, 5e-3, 0.9)):
        gradients = jax.random.normal(jax.random.key(0), (50, 7))
        plain = scaled = optimizer.init(jnp.ones(7))
        scaled = scaled._replace(gauge=jnp.int32(-20))
        update = jax.jit(optimizer.update)
        for g in gradients:
            a, plain = update(g, plain)
            b, scaled = update(g * 2.0**20, scaled)
            np.testing.assert_array_equal(a, b * 2.0**20)


SGD = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(optax.constant_schedule(0.1), momentum=0.9))
ADAMW = optax.adamw(optax.constant_schedule(1e-3), weight_decay=0.1)
COSTS = {
    "table": (wd_free_sgd(0.1, 5e-4, 0.9, num_steps=1000), SGD),
    "open": (wd_free_sgd(0.1, 5e-4, 0.9), SGD),
    "texp": (texp((), (0.1,), 5e-4, 0.9), SGD),
    "adamw, table": (wd_free_adamw(1e-3, weight_decay=0.1, num_steps=1000), ADAMW),
    "adamw, open": (wd_free_adamw(1e-3, weight_decay=0.1), ADAMW),
}


@pytest.mark.parametrize("name", COSTS)
def test_a_step_costs_no_more_than_the_chain_and_the_parameters_once(name):
    params = jnp.ones(100_000)

    def cost(optimizer):
        compiled = jax.jit(optimizer.update).lower(params, optimizer.init(params), params).compile()
        analysis = compiled.cost_analysis()
        return analysis["flops"], analysis["bytes accessed"]

    (flops, moved), (chain_flops, chain_moved) = map(cost, COSTS[name])
    tables = 6 * 4 * 1000
    assert flops <= chain_flops + 1000  # of scalars
    assert moved <= chain_moved + params.nbytes + tables
