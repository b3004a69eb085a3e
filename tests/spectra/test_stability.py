"""Edges of stability and the break-even condition, each against the iteration that it is about."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.stability import (
    EDGES,
    break_even_learning_rate,
    break_even_sharpness,
    edge,
    sampling_factor,
    stability_lhs,
)

ETA, B = 0.3, 0.7


def growth(step, state):
    """Size after 4000 steps of a linear iteration, over that at the start; the state is rescaled on the way."""
    log = 0.0
    state = np.array(state)
    for _ in range(4000):
        state = step(state)
        size = np.abs(state).max()
        log, state = log + np.log(size), state / size
    return log


# Each maps (theta, momentum) to the next, on the loss curvature * theta^2 / 2; for Adam the curvature is preconditioned.
UPDATES = {
    "gradient_descent": ({}, lambda h, s: np.array([s[0] - ETA * h * s[0], 0.0])),
    "heavy_ball": ({"momentum": B}, lambda h, s: _descend(s, B * s[1] + h * s[0])),
    "nesterov": ({"momentum": B}, lambda h, s: _look_ahead(s, B * s[1] + h * s[0], h)),
    "nadam": ({"b1": B}, lambda h, s: _look_ahead_by_average(s, B * s[1] + (1 - B) * h * s[0], h)),
    "adam": ({"b1": B}, lambda h, s: _descend(s, B * s[1] + (1 - B) * h * s[0])),
    "adamw": ({"b1": B, "weight_decay": 0.5}, lambda h, s: _descend(s, B * s[1] + (1 - B) * h * s[0], 1 - ETA * 0.5)),
}


def _descend(state, momentum, keep=1.0):
    return np.array([keep * state[0] - ETA * momentum, momentum])


def _look_ahead(state, momentum, curvature):
    return np.array([state[0] - ETA * (curvature * state[0] + B * momentum), momentum])


def _look_ahead_by_average(state, momentum, curvature):
    return np.array([state[0] - ETA * ((1 - B) * curvature * state[0] + B * momentum), momentum])


@pytest.mark.parametrize("name", EDGES)
def test_edge_parts_convergence_from_divergence(name):
    settings, update = UPDATES[name]
    threshold = edge(name, ETA, **settings)
    below, above = (growth(lambda s, h=factor * threshold: update(h, s), [1.0, 0.5]) for factor in (0.99, 1.01))
    assert below < -3
    assert above > 3


OPTAX = {
    "gradient_descent": (optax.sgd(ETA), {}),
    "heavy_ball": (optax.sgd(ETA, momentum=B), {"momentum": B}),
    "nesterov": (optax.sgd(ETA, momentum=B, nesterov=True), {"momentum": B}),
    # The momentum of scale_by_adam(nesterov=True), bias corrections aside.
    "nadam": (optax.chain(optax.trace(B, nesterov=True), optax.scale(-ETA * (1 - B))), {"b1": B}),
    "adam": (optax.chain(optax.ema(B, debias=False), optax.scale(-ETA)), {"b1": B}),
    "adamw": (
        optax.chain(optax.ema(B, debias=False), optax.add_decayed_weights(0.5), optax.scale(-ETA)),
        {"b1": B, "weight_decay": 0.5},
    ),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges_are_those_of_the_optimizers_of_optax(name):
    chain, settings = OPTAX[name]

    @jax.jit
    def last(curvature):
        def step(carry, _):
            theta, state = carry
            updates, state = chain.update(curvature * theta, state, theta)
            return (theta + updates, state), None

        return jax.lax.scan(step, (jnp.ones(()), chain.init(jnp.ones(()))), length=1500)[0][0]

    threshold = edge(name, ETA, **settings)
    assert abs(last(0.98 * threshold)) < 1e-2
    assert not abs(last(1.02 * threshold)) < 1e2


def test_edges_reduce_to_gradient_descent_without_momentum_and_take_arrays():
    rates = jnp.array([0.1, 1.0])
    for name, settings in {
        "heavy_ball": {"momentum": 0.0},
        "nesterov": {"momentum": 0.0},
        "nadam": {"b1": 0.0},
        "adam": {"b1": 0.0},
    }.items():
        np.testing.assert_allclose(
            jax.jit(lambda r, n=name, s=settings: edge(n, r, **s))(rates), [20.0, 2.0], rtol=1e-6
        )


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("sgd", {}, "valid names|did you mean"),
        ("heavy_ball", {}, "needs"),
        ("adam", {"momentum": 0.9}, "takes"),
        ("gradient_descent", {"momentum": 0.9}, "no settings"),
    ],
)
def test_unknown_edges_are_refused(name, settings, words):
    with pytest.raises(LrjaxError, match=words):
        edge(name, 0.1, **settings)


@pytest.mark.parametrize("batch_size", [1, 4, 32, 200])
def test_left_side_is_the_mean_square_factor_of_a_step_of_sgd(batch_size):
    generator = np.random.default_rng(0)
    curvatures, eta = generator.gamma(1.0, 2.0, size=200), 0.6
    # The first S of 200 in a random order; only their mean matters.
    order = np.argpartition(generator.random((20_000, 200)), min(batch_size, 199), axis=1)[:, :batch_size]
    factors = (1 - eta * curvatures[order].mean(axis=1)) ** 2
    found = float(stability_lhs(curvatures.mean(), curvatures, eta, batch_size, 200))
    error = factors.std() / np.sqrt(len(factors))
    assert abs(factors.mean() - found) <= 4 * error + 1e-6
    if batch_size < 200:  # with replacement, the commonest wrong variant
        wrong = (1 - eta * curvatures.mean()) ** 2 + eta**2 * curvatures.var() / batch_size
        assert abs(wrong - found) > (4 * error if batch_size == 32 else 0)


def test_sampling_factor_is_that_of_all_batches_of_a_small_set():
    values = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    means = [np.mean(batch) for batch in itertools.combinations(values, 2)]
    assert np.var(means) == pytest.approx(np.var(values) * sampling_factor(2, 5), rel=1e-12)


@pytest.mark.x64
@pytest.mark.parametrize("batch_size", [1, 8, 100])
def test_closed_forms_lie_on_the_boundary_of_the_condition(batch_size):
    spread = jnp.array([-1.0, 1.0])  # mean 0, standard deviation 1
    eta, n = 0.5, 100
    by_std = break_even_sharpness(eta, batch_size, n, std=0.7)
    by_ratio = break_even_sharpness(eta, batch_size, n, variation=1.3)
    for sharpness, std, more_std in ((by_std, 0.7, 0.7), (by_ratio, 1.3 * by_ratio, 1.3 * 1.001 * by_ratio)):
        assert float(stability_lhs(sharpness, sharpness + std * spread, eta, batch_size, n)) == pytest.approx(
            1, abs=1e-12
        )
        more = sharpness * 1.001
        assert stability_lhs(more, more + more_std * spread, eta, batch_size, n) > 1
        assert float(break_even_learning_rate(sharpness, std, batch_size, n)) == pytest.approx(eta, abs=1e-12)
        kappa = sampling_factor(batch_size, n)
        assert float(sharpness + kappa * std**2 / sharpness) == pytest.approx(2 / eta, abs=1e-12)


def test_full_batch_breaks_even_at_two_over_the_learning_rate():
    assert float(break_even_sharpness(0.1, 50, 50, std=3.0)) == pytest.approx(20.0)
    assert float(break_even_sharpness(0.1, 50, 50, variation=3.0)) == pytest.approx(20.0)


def test_noise_too_large_for_any_sharpness_is_nan():
    assert np.isnan(break_even_sharpness(1.0, 1, 100, std=2.0))


def test_break_even_needs_one_description_of_the_noise():
    for settings in ({}, {"std": 1.0, "variation": 1.0}):
        with pytest.raises(LrjaxError, match="one of them"):
            break_even_sharpness(0.1, 1, 10, **settings)


def test_stability_of_many_points_is_one_jitted_program():
    curvatures = jnp.ones((3, 5)) * jnp.array([1.0, 2.0, 3.0])[:, None]
    found = jax.jit(jax.vmap(lambda c: stability_lhs(jnp.mean(c), c, 0.5, 4, 100)))(curvatures)
    np.testing.assert_allclose(found, [0.25, 0.0, 0.25], atol=1e-6)


CURVATURES = np.array([1.0, 3.0])
BAD = {
    "negative rate": (lambda: edge("gradient_descent", -0.1), "learning_rate must be 0 or more, not -0.1"),
    "negative rate of an array": (
        lambda: edge("adam", np.array([0.1, -2.0])),
        "learning_rate must be 0 or more, not -2",
    ),
    "NaN rate": (lambda: edge("adam", float("nan")), "learning_rate must be 0 or more, not nan"),
    "schedule": (lambda: edge("adam", optax.constant_schedule(0.1)), "must be a number or an array"),
    "momentum of one": (lambda: edge("heavy_ball", 0.1, momentum=1.0), "momentum must be from 0 to below 1, not 1.0"),
    "no momentum": (lambda: edge("nesterov", 0.1, momentum=None), "momentum must be from 0 to below 1, not None"),
    "b1 above one": (lambda: edge("adam", 0.1, b1=9), "b1 must be from 0 to below 1, not 9"),
    "negative decay": (lambda: edge("adamw", 0.1, weight_decay=-1.0), "weight_decay must be 0 or more"),
    "batch above N": (lambda: stability_lhs(2.0, CURVATURES, 0.1, 200, 100), "batch of 200 is more than the 100"),
    "empty batch": (lambda: break_even_learning_rate(2.0, 1.0, 0, 100), "batch_size must be 1 or more, not 0"),
    "one example": (lambda: sampling_factor(1, 1), "num_examples must be 2 or more, not 1"),
    "no curvatures": (
        lambda: stability_lhs(2.0, [], 0.1, 1, 100),
        r"curvatures must be \[n\], one an example, not \[0\]",
    ),
    "curvatures of points": (
        lambda: stability_lhs(2.0, np.ones((3, 2)), 0.1, 1, 100),
        r"not \[3, 2\]; map over points",
    ),
    "NaN curvatures": (lambda: stability_lhs(2.0, jnp.array([1.0, jnp.nan]), 0.1, 1, 100), "curvatures hold NaN"),
    "negative rate of the condition": (lambda: stability_lhs(2.0, CURVATURES, -0.1, 1, 100), "learning_rate must be"),
    "zero rate": (lambda: break_even_sharpness(0.0, 1, 100, std=1.0), "learning_rate must be above 0"),
    "negative noise": (lambda: break_even_sharpness(0.1, 1, 100, std=-1.0), "std or variation must be 0 or more"),
    "negative curvature": (lambda: break_even_learning_rate(-4.0, 1.0, 1, 100), "sharpness must be above 0, not -4.0"),
}


@pytest.mark.parametrize("name", BAD)
def test_numbers_without_a_threshold_are_refused_with_a_sentence(name):
    call, words = BAD[name]
    with pytest.raises(LrjaxError, match=words):
        call()


def test_rate_of_zero_has_no_edge_and_gaps_stay_gaps():
    assert edge("adam", 0.0) == np.inf
    np.testing.assert_array_equal(edge("gradient_descent", np.array([0.0, np.nan, 0.5])), [np.inf, np.nan, 4.0])


def test_integers_do_not_leave_their_range():
    size, total = np.int32(50_000), np.int32(100_000)
    assert sampling_factor(size, total) == pytest.approx(sampling_factor(50_000, 100_000))
    assert float(sampling_factor(jnp.int32(size), jnp.int32(total))) == pytest.approx(1e-5, rel=1e-4)
    found = break_even_learning_rate(np.int32(100_000), np.int32(100_000), 1, 100)
    assert found == pytest.approx(1e-5)
    assert float(stability_lhs(2, np.array([1, 3]), 0.5, 1, 100)) == pytest.approx(0.25)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_condition_and_rates_are_right_at_every_scale(scale):
    for convert in (np.asarray, jnp.asarray):
        curvatures = convert(CURVATURES * scale)
        assert float(stability_lhs(2 * scale, curvatures, 0.5 / scale, 1, 100)) == pytest.approx(0.25, rel=1e-5)
        sharpness = convert(4 * scale)
        assert float(break_even_learning_rate(sharpness, sharpness, 1, 100)) * scale == pytest.approx(0.25, rel=1e-5)
    assert float(break_even_sharpness(0.5 / scale, 1, 100, std=2 * scale)) / scale == pytest.approx(2.0, rel=1e-5)
