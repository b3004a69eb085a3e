"""Normalisation against flax's own, at eps 0, and the frozen head."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.models import layers
from lrjax.models.layers import KINDS, FrozenDense, Norm, moments, norm_layer

PEERS = {
    "batch": nn.BatchNorm(momentum=0.9, use_fast_variance=False),
    "group": nn.GroupNorm(num_groups=4, use_fast_variance=False, epsilon=1e-5),
    "layer": nn.GroupNorm(num_groups=1, use_fast_variance=False, epsilon=1e-5),
    "instance": nn.InstanceNorm(use_fast_variance=False, epsilon=1e-5),
}


class FirstMeanOff:
    """Values whose own mean is off by a part of it, as the order in which a machine adds may have it; their differences
    from a number are right."""

    def __init__(self, values, part):
        self.values, self.part = values, part

    def __getattr__(self, name):
        return getattr(self.values, name)

    def mean(self, axes, keepdims):
        return (1 + self.part) * self.values.mean(axes, keepdims=keepdims)

    def __sub__(self, pivot):
        return self.values - pivot


@pytest.fixture
def first_mean_off(monkeypatch):
    """A function that sets the part by which the first mean of every `Norm` is off."""

    def set_part(part):
        monkeypatch.setattr(layers, "moments", lambda x, *rest: moments(FirstMeanOff(x, part()), *rest))

    return set_part


@pytest.fixture
def x():
    return jnp.asarray(np.random.default_rng(0).normal(2.0, 3.0, size=(6, 5, 4, 8)), jnp.float32)


@pytest.mark.parametrize("kind", PEERS)
def test_norm_is_that_of_flax(kind, x):
    rng = np.random.default_rng(1)
    params = {
        "scale": jnp.asarray(rng.normal(size=8), jnp.float32),
        "bias": jnp.asarray(rng.normal(size=8), jnp.float32),
    }
    stats = {"mean": jnp.full(8, 0.5), "var": jnp.full(8, 2.0)} if kind == "batch" else {}
    variables = {"params": params, "batch_stats": stats}
    ours, ours_state = Norm(kind, groups=4).apply(variables, x, train=True, mutable=["batch_stats"])
    mode = {"use_running_average": False} if kind == "batch" else {}
    theirs, theirs_state = PEERS[kind].apply(variables, x, mutable=["batch_stats"], **mode)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    for name, value in ours_state.get("batch_stats", {}).items():
        np.testing.assert_allclose(value, theirs_state["batch_stats"][name], rtol=1e-5)
    if kind == "batch":
        evaluated = Norm(kind).apply(variables, x, train=False)
        np.testing.assert_allclose(
            evaluated, PEERS[kind].apply(variables, x, use_running_average=True), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("kind", PEERS)
def test_norm_without_eps_forgets_the_scale_and_leaves_dead_channels_at_zero(kind, x):
    x = x.at[..., :2].set(0.0)  # with two channels a group, a dead group
    layer = Norm(kind, affine=False, eps=0.0, groups=4)

    @jax.jit
    def output(x):
        return layer.apply(variables, x, train=True, mutable=["batch_stats"])[0]

    variables = layer.init(jax.random.key(0), x, train=True)
    y = output(x)
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(output(x) ** 3)))(x)
    assert np.isfinite(gradient).all()
    if kind != "layer":
        np.testing.assert_array_equal(y[..., :2], 0.0)
    for power in (-20, 30):  # a power of two: equal to the last bit
        np.testing.assert_array_equal(output(x * 2.0**power), y)


@pytest.mark.parametrize("part", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_and_hessian_products_are_those_of_the_textbook_formula(kind, part, x, first_mean_off):
    first_mean_off(lambda: part)
    layer = Norm(kind, groups=4)
    variables = layer.init(jax.random.key(0), x, train=True)
    params = jax.tree.map(lambda p: p + jnp.linspace(0.5, 2.0, p.size), variables["params"])

    def ours(params, x):
        return layer.apply(variables | {"params": params}, x, train=True, mutable=["batch_stats"])[0]

    def textbook(params, x):
        axes, view = KINDS[kind](x, 4)
        away = view - view.mean(axes, keepdims=True)
        y = away / jnp.sqrt(jnp.square(away).mean(axes, keepdims=True) + 1e-5)
        scale, bias = (params[name].reshape(1, 1, 1, -1) for name in ("scale", "bias"))
        return y.reshape(x.shape) * scale + bias

    weights = jnp.sin(jnp.arange(x.size, dtype=x.dtype)).reshape(x.shape)
    tangents = (jax.tree.map(jnp.cos, params), jnp.cos(x))

    @functools.partial(jax.jit, static_argnums=0)
    def derivatives(function, *at):
        gradient = jax.grad(lambda params, x: jnp.sum(weights * function(params, x) ** 3), (0, 1))
        return jax.jvp(gradient, at, tangents)

    found, wanted = (jax.tree.leaves(derivatives(function, params, x)) for function in (ours, textbook))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max())


def _away_from_zero(rng):
    return 1000.0 + 0.01 * rng.normal(size=(64, 4, 4))


def _one_large_pixel(rng):
    values = rng.normal(size=(64, 4, 4))
    values[0, 0, 0] = 1e5  # the first of all: a pivot which is one element would be far off
    return values


def _dead(rng):
    return np.full((64, 4, 4), 0.1)


@pytest.mark.parametrize("part", [0.0, 1e-7, -1e-6, 1e-5])
@pytest.mark.parametrize("values", [_away_from_zero, _one_large_pixel, _dead])
def test_the_moments_depend_neither_on_the_first_mean_nor_on_the_order(values, part):
    rng = np.random.default_rng(0)
    channel = np.asarray(values(rng)[..., None], np.float32)
    for ordered in (channel, channel[::-1, ::-1, ::-1], rng.permutation(channel.ravel()).reshape(channel.shape)):
        pivot, mean, var = moments(FirstMeanOff(jnp.asarray(ordered), part), (0, 1, 2))
        exact = ordered.astype(np.float64)
        # A sum of float32 is good to the rounding of its largest partial sum, which the deviations make.
        np.testing.assert_allclose(pivot + mean, exact.mean(keepdims=True), rtol=2e-7, atol=1e-6 * exact.std())
        np.testing.assert_allclose(var, exact.var(keepdims=True), rtol=1e-4, atol=1e-30)


CONSTANTS = (0.1, -1 / 3, 7.7e-5, 1000.1, 3e7)


@pytest.mark.parametrize("count", [1024, 4099])
@pytest.mark.parametrize("kind", PEERS)
def test_equal_numbers_give_zeros_and_finite_derivatives_however_far_off_their_first_mean(kind, count, first_mean_off):
    layer = Norm(kind, affine=False, eps=0.0, groups=2)
    variables = layer.init(jax.random.key(0), jnp.ones((1, count, 4)), train=True)

    def loss(x):
        y, _ = layer.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.exp(y)), y

    @jax.jit
    def derivatives(x, part):
        first_mean_off(lambda: part)
        return jax.jvp(jax.grad(loss, has_aux=True), (x,), (jnp.ones_like(x),))

    for constant in CONSTANTS:
        x = jnp.full((1, count, 4), constant)
        for part in (0.0, 1e-7, -1e-6, 1e-5):
            (gradient, y), (product, _) = derivatives(x, part)
            np.testing.assert_array_equal(y, 0.0)
            np.testing.assert_array_equal(gradient, 0.0)
            np.testing.assert_array_equal(product, 0.0)


@pytest.mark.parametrize("count", [1024, 4099, 131072])
def test_equal_numbers_have_no_variance_where_sums_are_taken_one_by_one(count, monkeypatch):
    def one_by_one(x, axes):
        return jnp.asarray(np.cumsum(np.asarray(x), dtype=np.float32)[-1:] / np.float32(count))

    monkeypatch.setattr(layers, "_mean", one_by_one)
    assert one_by_one(np.full(count, 0.1, np.float32), (0,)) != np.float32(0.1)
    for constant in CONSTANTS:
        pivot, mean, var = moments(jnp.full(count, constant), (0,))
        np.testing.assert_allclose(pivot + mean, constant, rtol=1e-5)
        assert var == 0.0


def test_a_channel_of_equal_numbers_is_dead_on_devices_that_disagree_about_its_mean(first_mean_off):
    layer = Norm(affine=False, eps=0.0, axis_name="devices")
    variables = layer.init(jax.random.key(0), jnp.ones((1, 64, 1)), train=True)
    first_mean_off(lambda: 1e-6 * jax.lax.axis_index("devices"))
    y, state = jax.vmap(
        lambda part: layer.apply(variables, part, train=True, mutable=["batch_stats"]), axis_name="devices"
    )(jnp.full((3, 1, 64, 1), 0.1))
    np.testing.assert_array_equal(y, 0.0)
    np.testing.assert_allclose(state["batch_stats"]["mean"], 0.01, rtol=1e-6)


def test_eps_in_the_state_is_the_eps(x):
    variables = {"batch_stats": {"mean": jnp.zeros(8), "var": jnp.ones(8)}}
    state = {"norm_eps": {"eps": jnp.float32(0.7)}}
    from_state = Norm(eps_in_state=True, affine=False).apply({**variables, **state}, x, train=False)
    constant = Norm(eps=0.7, affine=False).apply(variables, x, train=False)
    np.testing.assert_array_equal(from_state, constant)
    fresh = Norm(eps=0.25, eps_in_state=True, affine=False).init(jax.random.key(0), x, train=True)
    assert fresh["norm_eps"]["eps"] == 0.25


def test_statistics_over_an_axis_are_those_of_the_whole_batch(x):
    whole, grouped = Norm(), Norm(axis_name="devices")
    variables = whole.init(jax.random.key(0), x, train=True)
    expected, expected_state = whole.apply(variables, x, train=True, mutable=["batch_stats"])
    outputs, states = jax.vmap(
        lambda part: grouped.apply(variables, part, train=True, mutable=["batch_stats"]), axis_name="devices"
    )(x.reshape(2, 3, *x.shape[1:]))
    np.testing.assert_allclose(outputs.reshape(x.shape), expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-5), states, expected_state)


def test_bfloat16_norm_takes_its_statistics_in_float32(x):
    layer = Norm(dtype="bfloat16")
    variables = layer.init(jax.random.key(0), x, train=True)
    y, state = layer.apply(variables, x.astype("bfloat16"), train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves((variables, state))} == {jnp.dtype("float32")}


def test_frozen_head_has_no_parameters_and_unit_gain():
    variables = FrozenDense(400).init(jax.random.key(0), jnp.ones((2, 300)))
    assert list(variables) == ["frozen"]
    np.testing.assert_allclose(np.std(variables["frozen"]["kernel"]), 300**-0.5, rtol=0.02)


def test_unknown_norm_is_answered_with_the_nearest_valid_one():
    with pytest.raises(LrjaxError, match="did you mean 'batch'"):
        norm_layer({"norm": "batchnorm"}, kind="none")
