"""wd_free_adamw equals optax.adamw in function space; its contract as an optax transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms.adamw import wd_free_adamw
from lrjax.transforms.gauge import gauge_rescale
from tests.transforms.problems import DIFFERENT, EQUAL, STEPS, fixed

pytestmark = pytest.mark.slow

RATE, B1, B2, EPS, DECAY = 0.02, 0.9, 0.99, 1e-3, 0.5
COSINE = optax.cosine_decay_schedule(RATE, STEPS)
WARM = optax.join_schedules([optax.linear_schedule(0.0, RATE, 20), COSINE], [20])


def deviation(a, b):
    return float(jnp.max(jnp.abs(a - b)))


def logits(tx):
    return fixed(tx).logits


@functools.lru_cache
def reference(learning_rate=RATE):
    return logits(optax.adamw(learning_rate, B1, B2, EPS, weight_decay=DECAY))


@pytest.mark.x64
@pytest.mark.parametrize("num_steps", [None, STEPS], ids=["stateful", "table"])
@pytest.mark.parametrize("learning_rate", [RATE, WARM], ids=["constant", "warm-up and cosine"])
def test_wd_free_adamw_equals_adamw_in_function_space(learning_rate, num_steps):
    tx = wd_free_adamw(learning_rate, B1, B2, EPS, DECAY, num_steps=num_steps)
    assert deviation(logits(tx), reference(learning_rate)) < EQUAL


@pytest.mark.x64
def test_scheduled_decay_equals_adamw_with_that_decay():
    decay = optax.linear_schedule(DECAY, 0.0, STEPS)
    before = optax.chain(
        optax.scale_by_adam(B1, B2, EPS), optax.add_decayed_weights(decay), optax.scale_by_learning_rate(RATE)
    )
    assert deviation(logits(wd_free_adamw(RATE, B1, B2, EPS, decay, num_steps=STEPS)), logits(before)) < EQUAL
    assert deviation(logits(wd_free_adamw(RATE, B1, B2, EPS, decay)), logits(before)) < EQUAL


@pytest.mark.x64
@pytest.mark.parametrize(
    "wrong",
    ["moments without alpha", "constant eps", "two powers of the scale", "scale of the step before", "no decay"],
)
def test_wrong_variant_differs(wrong):
    log_scale = np.arange(STEPS + 1) * np.log1p(-RATE * DECAY)
    alpha = 1 - RATE * DECAY
    scale = jnp.exp(jnp.asarray(log_scale))
    moments = wrong == "moments without alpha"
    b1, b2 = (B1, B2) if moments else (B1 * alpha, B2 * alpha**2)
    divisor = {
        "two powers of the scale": lambda t: scale[t] * scale[t + 1],
        "scale of the step before": lambda t: scale[t],
        "no decay": lambda t: 1.0,
    }.get(wrong, lambda t: scale[t + 1])

    def init(params):
        return jnp.int32(0), jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)

    def update(g, state, params):
        t, m, v = state
        m = jax.tree.map(lambda m, g: b1 * m + (1 - B1) * g, m, g)
        v = jax.tree.map(lambda v, g: b2 * v + (1 - B2) * g * g, v, g)
        eps = EPS * (1.0 if wrong == "constant eps" else scale[t])
        rate, c1, c2 = RATE / divisor(t), 1 - B1 ** (t + 1), 1 - B2 ** (t + 1)
        return jax.tree.map(lambda m, v: -rate * (m / c1) / (jnp.sqrt(v / c2) + eps), m, v), (t + 1, m, v)

    assert deviation(logits(optax.GradientTransformation(init, update)), reference()) > DIFFERENT


@pytest.mark.x64
def test_lanes_of_rates_and_decays_under_vmap_are_those_of_adamw():
    rng = np.random.default_rng(0)
    w, gradients = jnp.asarray(rng.normal(size=5)), jnp.asarray(rng.normal(size=(40, 5)))

    def run(tx, scale):
        def step(carry, g):
            w, state = carry
            updates, state = tx.update(g * scale(state), state, w)
            return (w + updates, state), w + updates

        return jax.lax.scan(step, (w, tx.init(w)), gradients)[1]

    @jax.jit
    @jax.vmap
    def lanes(rate, decay):
        # Gradients of the free run are P times those of the other.
        free = run(wd_free_adamw(rate, B1, B2, EPS, decay), lambda s: jnp.exp(s.log_scale + s.log_scale_error))
        scale = (1 - rate * decay) ** jnp.arange(1, 41)
        return scale[:, None] * free - run(optax.adamw(rate, B1, B2, EPS, weight_decay=decay), lambda s: 1.0)

    assert float(jnp.max(jnp.abs(lanes(jnp.asarray([0.01, 0.02]), jnp.asarray([0.3, 0.5]))))) < 1e-12


PARAMS = {"a": jnp.ones((3, 2)), "b": jnp.ones(4)}
FORMS = {
    "table": functools.partial(wd_free_adamw, 1e-2, num_steps=20, weight_decay=0.1),
    "stateful": functools.partial(wd_free_adamw, 1e-2, weight_decay=0.1),
}


@pytest.mark.parametrize("form", FORMS)
def test_one_program_serves_all_steps_and_extra_args_are_taken(form):
    tx, traces = FORMS[form](), []

    @jax.jit
    def step(gradient, state, params):
        traces.append(1)
        return tx.update(gradient, state, params, value=1.0)

    state = tx.init(PARAMS)
    for _ in range(3):
        _, state = step(PARAMS, state, PARAMS)
    assert len(traces) == 1
    assert int(state.count) == 3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_updates_and_moments_keep_the_dtype_of_the_parameters(form, dtype):
    params = jax.tree.map(lambda w: w.astype(dtype), PARAMS)
    tx = FORMS[form]()
    updates, state = tx.update(params, tx.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves((updates, state.mu, state.nu))} == {jnp.dtype(dtype)}
    jax.tree.map(lambda u: np.testing.assert_allclose(u.astype(float), -0.01001, rtol=1e-2), updates)


@pytest.mark.parametrize("form", FORMS)
def test_masked_leaves_pass_through(form):
    tx = optax.masked(FORMS[form](), {"a": True, "b": False})
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    np.testing.assert_array_equal(updates["b"], PARAMS["b"])
    np.testing.assert_allclose(updates["a"], -0.01001, rtol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_accumulated_gradients_count_as_one_step(form):
    tx = optax.MultiSteps(FORMS[form](), 2)
    state = tx.init(PARAMS)
    for _ in range(4):
        _, state = tx.update(PARAMS, state, PARAMS)
    assert int(state.inner_opt_state.count) == 2


def test_hyperparameters_may_be_injected():
    tx = optax.inject_hyperparams(wd_free_adamw)(1e-2, 0.9, 0.999, 1e-8, 0.1)
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["a"], -0.01001, rtol=1e-4)


def test_table_ends_in_nan_and_leaves_no_range_unsaid():
    tx = wd_free_adamw(1e-2, weight_decay=0.1, num_steps=1)
    _, state = tx.update(PARAMS, tx.init(PARAMS))
    assert np.isnan(tx.update(PARAMS, state)[0]["a"]).all()
    with pytest.raises(LrjaxError, match="leaves float32 at step 863"):
        wd_free_adamw(0.1, weight_decay=1.0, num_steps=1000)
    wd_free_adamw(0.1, weight_decay=1.0, num_steps=1000, rescaled=True)
    with pytest.raises(LrjaxError, match="step 0"):
        wd_free_adamw(2.0, weight_decay=1.0, num_steps=10)


def test_rescaled_run_goes_on_where_float32_ends():
    tx = wd_free_adamw(0.1, eps=1e-3, weight_decay=1.0, num_steps=2000, rescaled=True)
    w = jnp.asarray([3.0, 4.0])

    @jax.jit
    def chunk(w, state):
        def step(carry, _):
            # The gradient of a loss of w / |w|: orthogonal to w, of size 1 / |w|.
            w, state = carry
            length = jnp.max(jnp.abs(w))
            unit = w / length
            g = (jnp.asarray([1.0, 0.5]) - unit * jnp.sum(unit * jnp.asarray([1.0, 0.5])) / jnp.sum(unit**2)) / length
            updates, state = tx.update(g, state)
            return (w + updates, state), None

        (w, state), _ = jax.lax.scan(step, (w, state), length=100)
        return gauge_rescale(w, state)

    state = tx.init(w)
    for _ in range(20):
        w, state, _, _ = chunk(w, state)
        assert np.isfinite(w).all()
        assert np.max(np.abs(w)) < 1
    assert int(state.gauge) < -250  # |w| grew by more than 2^250
