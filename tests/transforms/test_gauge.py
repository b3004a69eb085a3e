"""gauge_rescale: bit-equal while plain float32 is in range, finite where it is not, on every kind of optimizer state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import build_model
from lrjax.transforms.adamw import wd_free_adamw
from lrjax.transforms.gauge import FIELDS, gauge_rescale, times_power_of_two
from lrjax.transforms.plan import wd_free_plan
from lrjax.transforms.scaling import clip_by_scaled_norm
from lrjax.transforms.sgd import wd_free_sgd

CHUNK, CHUNKS = 50, 75
# Growth of the rate in CHUNKS * CHUNK steps: 0.1 * 1.4812^500 ~ 1e84, as in 500 epochs at rate 0.1, decay 5e-4, momentum .9.
RATE, DECAY, MOMENTUM = 0.2, 0.01, 0.9
MLP = {"name": "mlp", "widths": (12, 12), "norm": "batch", "affine": False, "eps": 0.0, "head": "frozen"}


def exactly_equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@functools.lru_cache
def problem():
    model = build_model(MLP, num_classes=3)
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(CHUNK, 16, 8)), jnp.float32), jnp.asarray(rng.integers(0, 3, (CHUNK, 16)))
    params, model_state = jax.jit(model.init)(jax.random.key(0), x[0])
    return model, x, y, params, model_state


def runner(optimizer):
    """One chunk of steps, and logits in evaluation mode."""
    model, x, y, params, model_state = problem()

    def loss(params, model_state, x, y):
        logits, model_state = model.apply(params, model_state, x, train=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), model_state

    def step(carry, batch):
        params, opt_state, model_state = carry
        gradient, model_state = jax.grad(loss, has_aux=True)(params, model_state, *batch)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state, model_state), None

    @jax.jit
    def chunk(carry):
        carry, _ = jax.lax.scan(step, carry, (x, y))
        return carry, model.apply(carry[0], carry[2], x[0], train=False)[0]

    return chunk, (params, optimizer.init(params), model_state)


def test_run_of_500_epochs_stays_finite_in_float32_and_is_bit_equal_while_plain_float32_is_in_range():
    tx = wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=CHUNK * CHUNKS, rescaled=True)
    chunk, start = runner(tx)
    rescale = jax.jit(lambda carry: gauge_rescale(*carry))
    plain, rescaled, total, last_equal, died = start, start, 0, 0, None
    for number in range(1, CHUNKS + 1):
        plain, plain_logits = chunk(plain)
        rescaled, logits = chunk(rescaled)
        assert np.isfinite(logits).all(), number
        if np.array_equal(plain_logits, logits):
            back = jax.tree.map(lambda w, k=-total: times_power_of_two(w, k), rescaled[0])
            assert exactly_equal(back, plain[0])
            last_equal = number
        elif died is None and not np.isfinite(plain_logits).all():
            died = number
        *carry, k = rescale(rescaled)
        rescaled, total = tuple(carry), total + int(k)
        assert int(rescaled[1].gauge) == total
        assert 0.5 <= max(float(jnp.max(jnp.abs(w))) for w in jax.tree.leaves(rescaled[0])) < 1
    log10_rate = wd_free_plan(RATE, DECAY, MOMENTUM, CHUNK * CHUNKS).log_lr[CHUNK - 1 :: CHUNK] / np.log(10)
    assert log10_rate[-1] > 84
    assert died is not None
    assert log10_rate[died - 1] < 40
    assert log10_rate[last_equal - 1] > 28


@pytest.mark.parametrize("wrong", ["weights alone", "no statistics"])
def test_run_that_rescales_only_a_part_differs(wrong):
    chunk, start = runner(wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=4 * CHUNK))
    (params, opt_state, model_state), _ = chunk(start)
    scaled = gauge_rescale(params, opt_state, model_state, k=-3)
    right = chunk((params, opt_state, model_state))[1]
    np.testing.assert_array_equal(chunk(scaled[:3])[1], right)
    broken = {
        "weights alone": (scaled[0], opt_state, scaled[2]),
        "no statistics": (scaled[0], scaled[1], model_state),
    }[wrong]
    assert np.max(np.abs(chunk(broken)[1] - right)) > 1e-2


OPTIMIZERS = {
    "heavy ball": lambda: wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=500),
    "open-ended": lambda: wd_free_sgd(RATE, DECAY, MOMENTUM),
    "no momentum": lambda: wd_free_sgd(RATE, DECAY, num_steps=500),
    "adamw": lambda: wd_free_adamw(1e-2, 0.9, 0.99, 1e-4, 0.1, num_steps=500),
    "adamw, open-ended": lambda: wd_free_adamw(1e-2, 0.9, 0.99, 1e-4, 0.1),
    "chain with clip": lambda: optax.chain(
        clip_by_scaled_norm(0.05, -0.02 * np.arange(501)), wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=500)
    ),
    "multi steps": lambda: optax.MultiSteps(wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=500), 3),
    "masked": lambda: optax.masked(wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=500), {"a": True, "b": True}),
    "injected": lambda: optax.inject_hyperparams(wd_free_sgd)(RATE, DECAY, MOMENTUM),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_after_rescaling_is_bit_equal(name):
    tx = OPTIMIZERS[name]()
    rng = np.random.default_rng(0)
    params = {"a": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32), "b": jnp.asarray(rng.normal(size=5), jnp.float32)}
    gradients = [jax.tree.map(lambda w: jnp.asarray(rng.normal(size=w.shape), jnp.float32), params) for _ in range(6)]

    @jax.jit
    def step(params, state, gradient):
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    def run(k):
        w, state, total = params, tx.init(params), 0
        for number, gradient in enumerate(gradients):
            if number == 2:
                w, state, _, moved = gauge_rescale(w, state, k=k)
                total += int(moved)
            w, state = step(w, state, jax.tree.map(lambda g, k=-total: times_power_of_two(g, k), gradient))
        return jax.tree.map(lambda w: times_power_of_two(w, -total), w)

    assert exactly_equal(run(-13), run(0))
    assert exactly_equal(run(7), run(0))


def test_partition_scales_its_group_alone():
    free = functools.partial(wd_free_sgd, RATE, DECAY, num_steps=10)
    params = {"conv": jnp.array([3.0, 5.0]), "head": jnp.array([1.0, 2.0])}
    labels = {"conv": "si", "head": "other"}
    for momentum in (0.0, 0.9):
        tx = optax.partition({"si": free(momentum), "other": free(momentum)}, labels)
        state = tx.init(params)
        _, state = tx.update(params, state, params)
        new_params, new_state, _, k = gauge_rescale(params, state, labels=labels)
        assert int(k) == -3
        np.testing.assert_array_equal(new_params["conv"], params["conv"] / 8)
        np.testing.assert_array_equal(new_params["head"], params["head"])
        inner, before = ({n: s.inner_state for n, s in whole.inner_states.items()} for whole in (new_state, state))
        assert int(inner["si"].gauge) == -3
        assert exactly_equal(inner["other"], before["other"])
        if momentum:
            np.testing.assert_array_equal(inner["si"].trace["conv"], 8 * before["si"].trace["conv"])


def test_one_gauge_for_two_groups_is_refused():
    params = {"conv": jnp.ones(2), "head": jnp.ones(2)}
    state = wd_free_sgd(RATE, DECAY, MOMENTUM, num_steps=10).init(params)
    with pytest.raises(LrjaxError, match="each group its own"):
        gauge_rescale(params, state, labels={"conv": "si", "head": "other"})
    with pytest.raises(LrjaxError, match="no parameter has the label 'x'"):
        gauge_rescale(params, state, labels={"conv": "si", "head": "other"}, group="x")


def test_plain_optax_states_scale_by_the_degree_of_what_they_hold():
    params = {"w": jnp.array([4.0])}
    chain = optax.chain(optax.trace(0.9), optax.scale_by_adam(), optax.scale_by_schedule(lambda t: 1.0))
    _, state = chain.update(params, chain.init(params), params)
    _, (trace, adam, count), _, k = gauge_rescale(params, state)
    assert int(k) == -3
    np.testing.assert_array_equal(trace.trace["w"], 8 * state[0].trace["w"])
    np.testing.assert_array_equal(adam.mu["w"], 8 * state[1].mu["w"])
    np.testing.assert_array_equal(adam.nu["w"], 64 * state[1].nu["w"])
    assert int(count.count) == 1


def test_state_of_unknown_degree_is_refused_until_it_is_told():
    params = {"w": jnp.ones(2)}
    state = optax.ema(0.9).init(params)
    with pytest.raises(LrjaxError, match="EmaState.ema"):
        gauge_rescale(params, state)
    gauge_rescale(params, state, fields={**FIELDS, "ema": -1})
    with pytest.raises(LrjaxError, match="'v'"):
        gauge_rescale(params, optax.TraceState({"v": jnp.ones(2)}))


def test_each_lane_of_a_sweep_has_its_own_power():
    params = {"w": jnp.array([[1e20, 2e20], [3e-9, 1e-9], [0.0, 0.0], [1.0, jnp.inf]])}
    _, state, _, k = jax.jit(jax.vmap(lambda p: gauge_rescale(p, optax.TraceState(jax.tree.map(jnp.ones_like, p)))))(
        params
    )
    assert k.tolist() == [-68, 28, 0, 0]
    np.testing.assert_array_equal(state.trace["w"][:, 0], [2.0**68, 2.0**-28, 1.0, 1.0])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_power_of_two_is_exact_and_may_pass_through_what_one_factor_cannot_hold(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=20), dtype)
    small = -10 if dtype == "float16" else -100
    low = times_power_of_two(x, small)
    np.testing.assert_array_equal(low.astype(jnp.float32), np.ldexp(np.asarray(x, np.float32), small))
    np.testing.assert_array_equal(times_power_of_two(low, -2 * small), times_power_of_two(x, -small))


def test_without_a_buffer_only_a_partition_says_whose_gauge_moves():
    params, labels = {"a": jnp.ones(2), "b": jnp.ones(2)}, {"a": "si", "b": "other"}
    one = wd_free_sgd(0.1, 0.01, num_steps=5)
    chained = optax.chain(optax.masked(one, {"a": True, "b": False}), optax.masked(one, {"a": False, "b": True}))
    with pytest.raises(LrjaxError, match="give each group its own by optax.partition"):
        gauge_rescale(params, chained.init(params), labels=labels, k=3)
    split = optax.partition({"si": one, "other": one}, labels)
    _, state, _, _ = gauge_rescale(params, split.init(params), labels=labels, k=3)
    assert [int(state.inner_states[name].inner_state.gauge) for name in ("si", "other")] == [3, 0]
