"""A run changes its representation in the middle and goes on as if it had not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms import from_wd_free, texp, to_wd_free, wd_free_adamw, wd_free_plan, wd_free_sgd, wd_free_tables
from tests.transforms import problems
from tests.transforms.problems import DECAY, DIFFERENT, EQUAL, MOMENTUM, RATE, STEPS, rows, with_decay

HALF = STEPS // 2
COSINE = RATE * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS)) / 2
FIRST, SECOND = (0, HALF), (HALF, STEPS)


def plan():
    return wd_free_plan(COSINE, DECAY, MOMENTUM, num_steps=STEPS)


def chain():
    return optax.chain(optax.add_decayed_weights(DECAY), optax.sgd(0.1, momentum=MOMENTUM))


def distance(whole, second):
    return float(jnp.max(jnp.abs(whole.logits[HALF:] - second.logits)))


@pytest.mark.x64
def test_a_run_with_weight_decay_goes_on_without():
    whole, first = with_decay(rows(COSINE)), with_decay(rows(COSINE), window=FIRST)
    for build, optimizer, settings in (
        (problems.by_tables, wd_free_sgd(COSINE, DECAY, MOMENTUM, num_steps=STEPS), {"shared": wd_free_tables(plan())}),
        (problems.open_form, wd_free_sgd(RATE, DECAY, MOMENTUM), {"rows": rows(COSINE)}),
    ):
        params, state = to_wd_free(first.params, first.state, plan(), HALF, optimizer.init(first.params))
        settings = jax.tree.map(jnp.asarray, settings)
        second = problems.trained(build, start=params, state=state, window=SECOND, **settings)
        assert distance(whole, second) <= EQUAL
    no_share = jax.tree.map(lambda v: v * np.exp(plan().log_scale[HALF]), first.state[1][0].trace)
    wrong = problems.trained(
        problems.open_form, start=params, state=state._replace(trace=no_share), window=SECOND, **settings
    )
    assert distance(whole, wrong) > DIFFERENT


@pytest.mark.x64
def test_a_run_without_weight_decay_goes_on_with():
    whole = with_decay(rows(COSINE))
    tables = jax.tree.map(jnp.asarray, wd_free_tables(plan()))
    first = problems.without_decay(tables, window=FIRST)
    template = problems.heavy_ball(None, jnp.asarray(rows(COSINE)[0])).init(first.params)
    params, state = from_wd_free(first.params, first.state, plan(), HALF, template)
    assert distance(whole, with_decay(rows(COSINE), start=params, state=state, window=SECOND)) <= EQUAL


RULES = [(False, "l2"), (True, "l2"), (False, "decoupled"), (True, "decoupled")]


def two_runs(nesterov, decay, steps, **numbers):
    """Random gradients, not of a loss: those of the run without weight decay are larger by 1 / P at each step."""
    settings = dict(learning_rate=0.1, weight_decay=0.02, momentum=0.8) | numbers
    trace = optax.trace(settings["momentum"], nesterov=nesterov)
    decayed = [optax.add_decayed_weights(settings["weight_decay"]), trace]
    rate = optax.scale_by_learning_rate(settings["learning_rate"])
    with_wd = optax.chain(*(decayed if decay == "l2" else decayed[::-1]), rate)
    free = wd_free_sgd(**settings, nesterov=nesterov, decay=decay, num_steps=steps, rescaled=True)
    opened = wd_free_sgd(**settings, nesterov=nesterov, decay=decay)
    plan = wd_free_plan(**settings, nesterov=nesterov, decay=decay, num_steps=steps)
    return with_wd, free, opened, plan


def run(optimizer, params, gradients):
    def one(carry, g):
        updates, state = optimizer.update({"w": g}, carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    return jax.lax.scan(one, (params, optimizer.init(params)), gradients)[0]


@pytest.mark.x64
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("step", [0, 1, 25])
def test_converted_states_are_those_of_the_other_run(rule, step):
    with_wd, free, opened, plan = two_runs(*rule, steps=30)
    params = {"w": jnp.arange(1.0, 4.0)}
    g = jax.random.normal(jax.random.key(0), (step, 3))
    scale = jnp.asarray(np.exp(plan.log_scale[:step]))[:, None]
    params_wd, state_wd = run(with_wd, params, g)
    for optimizer in (free, opened):
        expected = run(optimizer, params, g * scale)
        found = to_wd_free(params_wd, state_wd, plan, step, optimizer.init(params))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-7 if np.ndim(a) == 0 else 1e-12)
        back = from_wd_free(*found, plan, step, with_wd.init(params))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), back, (params_wd, state_wd))


@pytest.mark.x64
@pytest.mark.parametrize("num_steps", [None, 30])
@pytest.mark.parametrize("step", [0, 1, 25])
def test_converted_states_of_adamw_are_those_of_the_other_run(num_steps, step):
    with_wd, free = optax.adamw(0.1, weight_decay=0.3), wd_free_adamw(0.1, weight_decay=0.3, num_steps=num_steps)
    plan = wd_free_plan(0.1, 0.3, None, num_steps=30, decay="decoupled")
    params = {"w": jnp.arange(1.0, 4.0)}
    g = jax.random.normal(jax.random.key(0), (step, 3))
    params_wd, state_wd = run(with_wd, params, g)
    expected = run(free, params, g * jnp.asarray(np.exp(plan.log_scale[:step]))[:, None])
    found = to_wd_free(params_wd, state_wd, plan, step, free.init(params))
    compared = ("mu", "nu", "count") + (("alpha", "log_scale") if num_steps is None else ())
    for name in compared:
        for a, b in zip(*map(jax.tree.leaves, (getattr(found[1], name), getattr(expected[1], name))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-7, err_msg=name)
    np.testing.assert_allclose(found[0]["w"], expected[0]["w"], rtol=1e-10)
    back = from_wd_free(*found, plan, step, with_wd.init(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12), back, (params_wd, state_wd))


def test_states_that_the_plan_is_not_of_are_refused():
    params, l2 = jnp.ones(2), wd_free_plan(0.1, 0.01, MOMENTUM, num_steps=5)
    adam, into = optax.adamw(0.1), wd_free_adamw(0.1, num_steps=5)
    with pytest.raises(LrjaxError, match="decay='decoupled'"):
        to_wd_free(params, adam.init(params), l2, 1, into.init(params))
    with pytest.raises(LrjaxError, match="convert from and into wd_free_sgd"):
        to_wd_free(params, chain().init(params), l2, 1, texp((), (0.1,), 0.01, MOMENTUM).init(params))


def test_far_into_a_run_weights_stay_in_range_by_a_gauge():
    steps = 2000
    with_wd, _, opened, plan = two_runs(False, "l2", steps, weight_decay=0.08)
    assert plan.log_scale[-1] < -88
    params = {"w": jnp.array([3.0, -4.0])}
    state = jax.tree.map(lambda a: a + 0.5, with_wd.init(params))
    target = opened.init(params)
    free_params, free_state = to_wd_free(params, state, plan, steps, target)
    assert int(free_state.gauge) == round(plan.log_scale[-1] / np.log(2))
    assert 1 < float(jnp.abs(free_params["w"]).max()) < 8
    back, back_state = from_wd_free(free_params, free_state, plan, steps, with_wd.init(params))
    np.testing.assert_allclose(back["w"], params["w"], rtol=1e-6)
    np.testing.assert_allclose(back_state[1].trace["w"], 0.5, rtol=1e-6)
    update_wd, _ = with_wd.update({"w": jnp.array([4.0, 3.0])}, state, params)
    update, _ = opened.update({"w": jnp.array([4.0, 3.0]) * params["w"][0] / free_params["w"][0]}, free_state)
    after_wd, after = params["w"] + update_wd["w"], free_params["w"] + update["w"]
    np.testing.assert_allclose(after / jnp.linalg.norm(after), after_wd / jnp.linalg.norm(after_wd), rtol=1e-5)


def test_a_group_of_a_partition_is_converted_from_its_inner_state():
    params = {"conv": jnp.array([1.0, 2.0]), "head": jnp.array([5.0])}
    labels = {"conv": "free", "head": "rest"}
    free = wd_free_sgd(0.1, 0.02, MOMENTUM, num_steps=20)
    before = optax.partition({"free": chain(), "rest": chain()}, labels)
    after = optax.partition({"free": free, "rest": chain()}, labels)
    plan = wd_free_plan(0.1, 0.02, MOMENTUM, num_steps=20)
    state, into = before.init(params), after.init(params)
    with pytest.raises(LrjaxError, match="2 buffers; convert a group at a time"):
        to_wd_free(params, state, plan, 10, into)
    new, inner = to_wd_free(params, state.inner_states["free"], plan, 10, into.inner_states["free"])
    np.testing.assert_allclose(new["conv"], params["conv"] / np.exp(plan.log_scale[10]), rtol=1e-6)
    np.testing.assert_array_equal(new["head"], params["head"])
    assert int(inner.inner_state.count) == 10


def test_counters_of_schedules_and_of_multi_steps_are_set():
    params = jnp.ones(2)
    schedule = optax.linear_schedule(0.1, 0.0, 30)
    free = optax.MultiSteps(wd_free_sgd(schedule, 0.01, MOMENTUM, num_steps=30), 2)
    decayed = optax.chain(optax.add_decayed_weights(schedule), optax.sgd(schedule, momentum=MOMENTUM))
    plan = wd_free_plan(schedule, 0.01, MOMENTUM, num_steps=30)
    new, state = to_wd_free(params, decayed.init(params), plan, 12, free.init(params))
    assert int(state.gradient_step) == int(state.inner_opt_state.count) == 12
    _, back = from_wd_free(new, state, plan, 12, decayed.init(params))
    assert [int(back[0].count), int(back[1][1].count)] == [12, 12]
    half_way = free.update(jnp.ones(2), state, new)[1]
    with pytest.raises(LrjaxError, match="in the middle of an update"):
        from_wd_free(new, half_way, plan, 12, decayed.init(params))


def test_bad_input_is_one_clear_error():
    params, plan = jnp.ones(2), wd_free_plan(0.1, 0.01, MOMENTUM, num_steps=5)
    state = chain().init(params)
    with pytest.raises(LrjaxError, match="step 6 is not in the plan, which holds steps 0 to 5"):
        to_wd_free(params, state, plan, 6, wd_free_sgd(0.1, 0.01, MOMENTUM).init(params))
    with pytest.raises(LrjaxError, match="keeps no buffer but this run has one"):
        to_wd_free(params, state, plan, 1, wd_free_sgd(0.1, 0.01).init(params))
