"""What any code that takes an optax transformation may do with one, done with each of ours."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.transforms import (
    clip_by_scaled_norm,
    follow_plan,
    texp,
    wd_free_adamw,
    wd_free_plan,
    wd_free_sgd,
    wd_free_tables,
)

pytestmark = pytest.mark.slow

STEPS = 20
SCHEDULE = optax.cosine_decay_schedule(0.1, STEPS)
WD_FREE = {
    "table": lambda: wd_free_sgd(0.1, 5e-3, 0.9, num_steps=STEPS),
    "table without momentum": lambda: wd_free_sgd(0.1, 5e-3, num_steps=STEPS),
    "table, Nesterov, cosine": lambda: wd_free_sgd(SCHEDULE, 5e-3, 0.9, nesterov=True, num_steps=STEPS),
    "table, decoupled": lambda: wd_free_sgd(0.1, 5e-3, 0.9, decay="decoupled", num_steps=STEPS),
    "open": lambda: wd_free_sgd(0.1, 5e-3, 0.9),
    "open without momentum": lambda: wd_free_sgd(0.1, 5e-3),
    "open, Nesterov, cosine": lambda: wd_free_sgd(SCHEDULE, 5e-3, 0.9, nesterov=True),
    "open, decoupled": lambda: wd_free_sgd(0.1, 5e-3, 0.9, decay="decoupled"),
}
ALL = WD_FREE | {
    "texp": lambda: texp((5,), (0.1, 0.01), 5e-3, 0.9),
    "texp without momentum": lambda: texp((5,), (0.1, 0.01), 5e-3),
    "texp without corrections": lambda: texp((), (0.1,), 5e-3, 0.9, correct_start=False),
    "adamw": lambda: wd_free_adamw(1e-3, weight_decay=0.1),
    "adamw, table": lambda: wd_free_adamw(1e-3, weight_decay=0.1, num_steps=STEPS),
    "clip": lambda: clip_by_scaled_norm(1.0, wd_free_plan(0.1, 5e-3, 0.9, STEPS).log_scale),
}
every = pytest.mark.parametrize("name", ALL)


def tree(dtype=jnp.float32):
    return {"a": jnp.arange(3.0, dtype=dtype) + 1, "b": {"c": jnp.ones((2, 2), dtype)}}


def steps(optimizer, params, count=3, **extra):
    """Parameters and state after steps along gradients that change."""
    state = optimizer.init(params)
    for t in range(count):
        gradients = jax.tree.map(lambda p, t=t: jnp.cos(p + t), params)
        updates, state = optimizer.update(gradients, state, params, **extra)
        params = optax.apply_updates(params, updates)
    return params, state


def assert_equal(a, b, rtol=2e-6):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(np.float64(x), np.float64(y), rtol=rtol, atol=1e-6), a, b)


@every
def test_compiled_and_uncompiled_steps_agree(name):
    optimizer = ALL[name]()
    assert_equal(jax.jit(lambda p: steps(optimizer, p))(tree()), steps(optimizer, tree()))


@every
def test_the_second_call_does_not_compile_again(name):
    optimizer, params, traces = ALL[name](), tree(), []

    @jax.jit
    def update(gradients, state, params):
        traces.append(1)
        return optimizer.update(gradients, state, params)

    state = optimizer.init(params)
    for _ in range(3):
        _, state = update(params, state, params)
    assert len(traces) == 1


@every
def test_state_may_be_donated(name):
    optimizer = ALL[name]()
    step = jax.jit(lambda g, s, p: optimizer.update(g, s, p)[1], donate_argnums=1)
    assert step(tree(), step(tree(), optimizer.init(tree()), tree()), tree()).count == 2


@every
def test_unknown_extra_arguments_are_accepted(name):
    optimizer = ALL[name]()
    assert_equal(steps(optimizer, tree(), value=1.0, anything=None), steps(optimizer, tree()))
    chained = optax.chain(optimizer, optax.contrib.reduce_on_plateau())
    steps(chained, tree(), value=jnp.float32(1.0))


@every
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_parameters_and_buffers_keep_their_dtype(name, dtype):
    optimizer = ALL[name]()
    params, state = steps(optimizer, tree(dtype))
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    buffers = [getattr(state, field) for field in ("trace", "mu", "nu") if hasattr(state, field)]
    assert {leaf.dtype for leaf in jax.tree.leaves(buffers)} <= {jnp.dtype(dtype)}
    updates, _ = optimizer.update(tree(dtype), state, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}


@every
def test_leaves_that_are_none_pass_through(name):
    optimizer = ALL[name]()
    params = tree() | {"static": None}
    after, _ = steps(optimizer, params)
    assert after["static"] is None
    assert_equal({k: after[k] for k in ("a", "b")}, steps(optimizer, tree())[0])
    state = optimizer.init(tree())
    updates, new = optimizer.update({"a": None, "b": tree()["b"]}, state, tree())
    assert updates["a"] is None
    assert jax.tree.structure(new) == jax.tree.structure(state)


@every
def test_masked_leaves_are_left_alone(name):
    optimizer = optax.masked(ALL[name](), {"a": True, "b": False})
    gradients = tree()
    updates, _ = optimizer.update(gradients, optimizer.init(tree()), tree())
    np.testing.assert_array_equal(updates["b"]["c"], gradients["b"]["c"])
    alone = ALL[name]()
    expected, _ = alone.update({"a": gradients["a"]}, alone.init({"a": tree()["a"]}), {"a": tree()["a"]})
    np.testing.assert_allclose(updates["a"], expected["a"], rtol=1e-6)


@every
def test_groups_of_a_partition_take_their_own_steps(name):
    optimizer = optax.partition({"ours": ALL[name](), "other": optax.sgd(0.5)}, {"a": "ours", "b": "other"})
    after, _ = steps(optimizer, tree())
    assert_equal({"a": after["a"]}, steps(ALL[name](), {"a": tree()["a"]})[0])
    assert_equal({"b": after["b"]}, steps(optax.sgd(0.5), {"b": tree()["b"]})[0])


@every
def test_in_a_chain_it_acts_on_what_comes_before(name):
    chained = optax.chain(optax.scale(2.0), ALL[name]())
    state, alone = chained.init(tree()), ALL[name]()
    updates, _ = chained.update(tree(), state, tree())
    expected, _ = alone.update(jax.tree.map(lambda g: 2 * g, tree()), alone.init(tree()), tree())
    assert_equal(updates, expected)


@every
def test_accumulated_steps_count_once(name):
    accumulated = optax.MultiSteps(ALL[name](), every_k_schedule=2)
    params, alone = tree(), ALL[name]()
    state, expected_state = accumulated.init(params), alone.init(params)
    update = jax.jit(accumulated.update)
    for _ in range(3):
        _, state = update(params, state, params)
        updates, state = update(params, state, params)
        expected, expected_state = alone.update(params, expected_state, params)
        assert_equal(updates, expected)
    assert int(state.inner_opt_state.count) == 3


@every
def test_it_runs_inside_a_scan_and_under_vmap_over_parameters(name):
    optimizer = ALL[name]()
    stacked = jax.tree.map(lambda a: jnp.stack([a, a + 1]), tree())
    found, _ = jax.vmap(lambda p: steps(optimizer, p))(stacked)
    assert_equal(jax.tree.map(lambda a: a[1], found), steps(optimizer, jax.tree.map(lambda a: a + 1, tree()))[0])

    def one(carry, _):
        params, state = carry
        updates, state = optimizer.update(params, state, params)
        return (optax.apply_updates(params, updates), state), None

    jax.lax.scan(one, (tree(), optimizer.init(tree())), None, 3)


RULES = [(False, "l2"), (True, "l2"), (False, "decoupled"), (True, "decoupled")]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_open_form_maps_over_its_hyper_parameters(rule):
    kwargs = dict(nesterov=rule[0], decay=rule[1])

    def final(lr, wd, momentum, num_steps=None):
        return steps(wd_free_sgd(lr, wd, momentum, num_steps=num_steps, **kwargs), tree())[0]

    grid = [(0.1, 5e-3, 0.9), (0.3, 0.0, 0.5), (0.2, 1e-2, 0.0)]
    found = jax.jit(jax.vmap(final))(*map(jnp.asarray, zip(*grid, strict=True)))
    for i, values in enumerate(grid):
        assert_equal(jax.tree.map(lambda a, i=i: a[i], found), final(*values, num_steps=STEPS), rtol=1e-5)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_plans_map_as_arrays(rule):
    kwargs = dict(nesterov=rule[0], decay=rule[1])
    grid = [(0.1, 5e-3, 0.9), (0.3, 0.0, 0.5)]
    tables = [wd_free_tables(wd_free_plan(*values, num_steps=STEPS, **kwargs)) for values in grid]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *tables)
    found = jax.jit(jax.vmap(lambda t: steps(follow_plan(t), tree())[0]))(stacked)
    for i, values in enumerate(grid):
        expected = steps(wd_free_sgd(*values, num_steps=STEPS, **kwargs), tree())[0]
        assert_equal(jax.tree.map(lambda a, i=i: a[i], found), expected, rtol=1e-5)


@pytest.mark.parametrize("learning_rate", [0.1, SCHEDULE], ids=["scalar", "schedule"])
def test_hyper_parameters_can_be_injected_and_changed(learning_rate):
    injected = optax.inject_hyperparams(wd_free_sgd)(learning_rate, weight_decay=5e-3, momentum=0.9)
    params, state = steps(injected, tree())
    assert_equal(params, steps(wd_free_sgd(learning_rate, 5e-3, 0.9), tree())[0])
    state.hyperparams["weight_decay"] = jnp.float32(0.0)
    updates, _ = injected.update(tree(), state, params)
    kept, _ = injected.update(tree(), steps(injected, tree())[1], params)
    assert float(jnp.max(jnp.abs(updates["a"] - kept["a"]))) > 0


def test_our_own_arithmetic_promotes_nothing(strict_dtype):
    for name in ("table", "open", "open, decoupled", "texp", "adamw", "adamw, table", "clip"):
        optimizer = ALL[name]()
        params = {"x": jnp.ones(3, jnp.bfloat16), "y": jnp.ones(2)}
        updates, _ = optimizer.update(params, optimizer.init(params), params)
        assert [updates[key].dtype for key in ("x", "y")] == [jnp.bfloat16, jnp.float32]
