"""The fast convolution and pooling against XLA's own, in value, derivatives of every order and kind, and under vmap."""

from functools import partial
from itertools import product

import flax.linen as nn
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import PartitionSpec as P

from lrjax.models.conv import cpu as convolution_cpu
from lrjax.models.conv.convolution import NHWC, conv, conv_general_dilated
from lrjax.models.conv.pooling import max_pool

# Up to 16 features XLA:CPU is left its own loop.
#       image, kernel, strides, padding, dilation
CONFIGS = {
    "same_3x3": ((6, 5, 4, 4), (3, 3), (1, 1), "SAME", (1, 1)),
    "valid_3x3": ((6, 5, 18, 17), (3, 3), (1, 1), "VALID", (1, 1)),
    "few_channels_in": ((6, 5, 1, 18), (3, 3), (1, 1), "SAME", (1, 1)),
    "valid_5x5": ((7, 6, 3, 2), (5, 5), (1, 1), "VALID", (1, 1)),
    "projection": ((6, 5, 3, 4), (1, 1), (2, 2), "SAME", (1, 1)),
    "same_stride_2": ((6, 5, 17, 18), (3, 3), (2, 2), "SAME", (1, 1)),
    "explicit_stride_2": ((6, 6, 3, 4), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    "dilated": ((7, 6, 17, 18), (3, 2), (1, 1), "SAME", (2, 3)),
    "tiles": ((6, 8, 32, 32), (3, 3), (1, 1), "SAME", (1, 1)),
    "tiles_of_odd_sizes": ((5, 6, 33, 32), (3, 3), (1, 1), ((2, -1), (0, 1)), (1, 1)),
    "everything_differs": ((9, 8, 18, 17), (3, 2), (2, 3), ((1, 2), (-1, 3)), (3, 2)),
}
SEEDS = np.random.default_rng(0)


def pair(config, dtype=jnp.float32):
    """(fast, native, x, kernel) of one configuration."""
    (height, width, channels, features), kernel, strides, padding, dilation = config
    x = jnp.asarray(SEEDS.normal(size=(2, height, width, channels)), dtype)
    w = jnp.asarray(SEEDS.normal(size=(*kernel, channels, features)), dtype)
    fast = partial(conv, strides=strides, padding=padding, dilation=dilation)
    return fast, lambda x, w: lax.conv_general_dilated(x, w, strides, padding, None, dilation, NHWC), x, w


def directions(*arrays):
    return tuple(jnp.asarray(SEEDS.normal(size=a.shape), a.dtype) for a in arrays)


def assert_equal_to_rounding(actual, desired, rounding=2e-5):
    for a, d in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True):
        assert a.shape == d.shape
        assert a.dtype == d.dtype
        scale = np.abs(np.asarray(d, np.float64)).max()
        np.testing.assert_allclose(np.asarray(a, np.float64), d, rtol=0, atol=rounding * scale)


def derivatives(function, x, w, v, u):
    """Value, J v, gradients, a Hessian-vector product, and J^T as the transpose of a jvp."""

    def loss(x, w):
        return jnp.sum(jnp.sin(function(x, w)))

    tangent = jax.jvp(function, (x, w), (v, u))
    gradient, linear = jax.linearize(jax.grad(loss, argnums=(0, 1)), x, w)
    transposed = jax.linear_transpose(lambda v, u: jax.jvp(function, (x, w), (v, u))[1], v, u)(jnp.cos(tangent[1]))
    return tangent, gradient, linear(v, u), transposed


@pytest.mark.parametrize("name", CONFIGS)
def test_every_derivative_equals_that_of_lax(name):
    fast, native, x, w = pair(CONFIGS[name])
    v, u = directions(x, w)
    run = jax.jit(lambda *args: (derivatives(fast, *args), derivatives(native, *args)))
    assert_equal_to_rounding(*run(x, w, v, u))


@pytest.mark.x64
@pytest.mark.parametrize("name", ["everything_differs", "tiles_of_odd_sizes"])
def test_float64_is_kept_and_exact(name):
    fast, native, x, w = pair(CONFIGS[name], jnp.float64)
    v, u = directions(x, w)
    run = jax.jit(lambda *args: (derivatives(fast, *args), derivatives(native, *args)))
    assert_equal_to_rounding(*run(x, w, v, u), rounding=1e-13)


@pytest.mark.x64
def test_tiles_round_no_worse_than_twice_the_direct_sum():
    fast, native, x, w = pair(((16, 16, 64, 64), *CONFIGS["tiles"][1:]), jnp.float64)
    small = (x.astype(jnp.float32), w.astype(jnp.float32))

    def all_of(function, x, w):
        y, pull = jax.vjp(function, x, w)
        return y, *pull(jnp.cos(y))

    exact, tiled, direct = (
        jax.jit(partial(all_of, f))(*args) for f, args in ((native, (x, w)), (fast, small), (native, small))
    )
    for e, t, d in zip(exact, tiled, direct, strict=True):
        assert np.std(t - e) < 2 * np.std(d - e)


@pytest.mark.parametrize("name", ["same_3x3", "explicit_stride_2", "tiles"])
def test_bfloat16_is_kept_and_rounded_once(name):
    fast, native, x, w = pair(CONFIGS[name], jnp.bfloat16)
    y = fast(x, w)
    assert y.dtype == jnp.bfloat16
    exact = native(x.astype(jnp.float32), w.astype(jnp.float32))
    np.testing.assert_array_less(np.abs(y.astype(jnp.float32) - exact), 2.0**-8 * np.abs(exact) + 1e-5)
    gradients = jax.grad(lambda x, w: fast(x, w).sum().astype(jnp.float32), argnums=(0, 1))(x, w)
    assert [g.dtype for g in gradients] == [jnp.bfloat16] * 2


@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_any_window_has_the_gradients_of_lax(data):
    axis = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(-1, 3), st.integers(-1, 3))
    rows, columns = data.draw(axis), data.draw(axis)
    kernel, strides, dilation, low, high = zip(rows, columns, strict=True)
    reach = [(k - 1) * d + 1 - a - b for k, d, a, b in zip(kernel, dilation, low, high, strict=True)]
    height, width = (max(2, r) + data.draw(st.integers(0, 3)) for r in reach)
    channels, features = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    padding = tuple(zip(low, high, strict=True))
    fast, native, x, w = pair(((height, width, channels, features), kernel, strides, padding, dilation))
    u, v = directions(x, w)

    def all_of(function):
        y, pull = jax.vjp(function, x, w)
        return y, pull(jnp.cos(y)), jax.jvp(function, (x, w), (u, v))[1]

    assert_equal_to_rounding(*jax.jit(lambda: (all_of(fast), all_of(native)))())


@pytest.mark.parametrize("name", ["same_3x3", "explicit_stride_2", "tiles"])
@pytest.mark.parametrize("axes", [(0, None), (None, 3), (1, 0)], ids=["images", "kernels", "both"])
def test_vmap_equals_that_of_lax(name, axes):
    fast, native, x, w = pair(CONFIGS[name])
    (x,), (w,) = (
        directions(x if axes[0] is None else jnp.stack([x] * 3, axes[0])),
        directions(w if axes[1] is None else jnp.stack([w] * 3, axes[1])),
    )

    def product(function):
        def of(x, w):
            gradient = jax.grad(lambda x, w: jnp.sum(jnp.sin(function(x, w))), argnums=(0, 1))
            return function(x, w), *jax.jvp(gradient, (x, w), (jnp.cos(x), jnp.cos(w)))

        return jax.vmap(of, axes)(x, w)

    assert_equal_to_rounding(*jax.jit(lambda: (product(fast), product(native)))())


def test_nested_vmap_and_vmapped_directions_equal_those_of_lax():
    fast, native, x, w = pair(CONFIGS["valid_3x3"])
    x, w = jnp.stack([x, 2 * x]), jnp.stack([w, 1 - w, w / 3])
    v, u = directions(x[0], w)

    def nested(function):
        table = jax.vmap(jax.vmap(function, (None, 0)), (0, None))(x, w)
        gradient = jax.grad(lambda w: jnp.sum(jnp.sin(function(x[0], w))))
        return table, jax.vmap(jax.linearize(gradient, w[0])[1])(u), jax.vmap(partial(function, v))(u)

    assert_equal_to_rounding(*jax.jit(lambda: (nested(fast), nested(native)))())


def test_scan_over_micro_batches_sums_to_the_whole():
    fast, native, x, w = pair(CONFIGS["same_3x3"])

    def gradient(function, x):
        return jax.grad(lambda w: jnp.sum(jnp.sin(function(x, w))))(w)

    def body(total, x):
        return total + gradient(fast, x), None

    total, _ = jax.jit(lambda: lax.scan(body, jnp.zeros_like(w), x[:, None]))()
    assert_equal_to_rounding(total, gradient(native, x))


def test_inside_shard_map_a_shared_kernel_gets_the_sum_of_its_gradients():
    fast, native, x, w = pair(CONFIGS["same_3x3"])
    mesh = jax.make_mesh((1,), ("lanes",), axis_types=(jax.sharding.AxisType.Auto,))

    def gradient(function):
        def local(x, w):
            return jax.grad(lambda x, w: lax.psum(jnp.sum(jnp.sin(function(x, w))), "lanes"), argnums=(0, 1))(x, w)

        return jax.shard_map(local, mesh=mesh, in_specs=(P("lanes"), P()), out_specs=(P("lanes"), P()))(x, w)

    assert_equal_to_rounding(jax.jit(gradient, static_argnums=0)(fast), gradient(native))


def lowered(function, platform, *args):
    return jax.jit(function).trace(*args).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("name", ["valid_3x3", "same_stride_2"])
def test_only_a_cpu_is_given_anything_but_the_native_operation(name):
    fast, native, x, w = pair(CONFIGS[name])

    def of(function):
        return lambda x, w: jax.grad(lambda x, w: jnp.sum(function(x, w) ** 2), argnums=(0, 1))(x, w)

    assert "convolution" not in lowered(of(fast), "cpu", x, w)
    for platform in ("tpu", "cuda"):
        count = lowered(of(fast), platform, x, w).count("stablehlo.convolution")
        assert count == lowered(of(native), platform, x, w).count("stablehlo.convolution") == 3


@pytest.mark.parametrize("name", ["valid_3x3", "tiles", "projection"])
def test_the_derivative_along_both_arguments_takes_as_many_matrix_products_as_the_value(name):
    fast, _, x, w = pair(CONFIGS[name])

    def products(function, *args):
        return lowered(function, "cpu", *args).count("dot_general")

    one = products(fast, x, w)
    assert one > 0
    both = products(lambda x, w, v, u: jax.jvp(fast, (x, w), (v, u)), x, w, *directions(x, w))
    assert both == 2 * one  # the value and its derivative: three times as many if the two terms stood apart


def test_with_few_features_a_cpu_keeps_its_own_loop_one_lane_after_the_other():
    fast, _, x, w = pair(CONFIGS["same_3x3"])
    assert lowered(fast, "cpu", x, w).count("stablehlo.convolution") == 1
    lanes = lowered(jax.vmap(fast), "cpu", jnp.stack([x, x]), jnp.stack([w, w]))
    assert "feature_group_count = 2" not in lanes
    assert "batch_group_count = 2" not in lanes
    assert "stablehlo.while" in lanes


PLAIN = ["same_3x3", "valid_3x3", "same_stride_2", "everything_differs"]
TILES = ["tiles", "tiles_of_odd_sizes"]


@pytest.mark.parametrize(
    ("name", "near"), [*product(PLAIN, (1, 3000)), *product(TILES, (1, 50_000))]
)  # bytes: one image, and a few, of six
def test_the_gradient_of_a_kernel_in_parts_of_a_batch_equals_that_of_the_whole(name, near, monkeypatch):
    monkeypatch.setattr(convolution_cpu, "NEAR", near)
    fast, native, x, w = pair(CONFIGS[name])
    x = jnp.concatenate([x, -x, x[::-1] ** 2])

    def gradient(function):
        return jax.grad(lambda w: jnp.sum(jnp.sin(function(x, w))))

    assert "stablehlo.while" in lowered(gradient(fast), "cpu", w)
    assert_equal_to_rounding(jax.jit(gradient(fast))(w), gradient(native)(w))


@pytest.mark.parametrize("far", [1, 50_000])  # bytes: one image, and two, of six
@pytest.mark.parametrize("name", TILES)
def test_tiles_in_parts_of_a_batch_equal_those_of_the_whole(name, far, monkeypatch):
    fast, native, x, w = pair(CONFIGS[name])
    x = jnp.concatenate([x, -x, x[::-1] ** 2])
    assert "stablehlo.while" not in lowered(fast, "cpu", x, w)
    monkeypatch.setattr(convolution_cpu, "FAR", far)
    jax.clear_caches()
    assert "stablehlo.while" in lowered(fast, "cpu", x, w)
    assert_equal_to_rounding(jax.jit(fast)(x, w), native(x, w))
    lanes = jnp.stack([w, 2 * w])
    assert_equal_to_rounding(jax.jit(jax.vmap(fast, (None, 0)))(x, lanes), jax.vmap(native, (None, 0))(x, lanes))
    loss = [lambda x, f=f: jnp.sum(jnp.sin(f(x, w))) for f in (fast, native)]
    assert_equal_to_rounding(*(jax.jit(jax.grad(own))(x) for own in loss))


@pytest.mark.parametrize(
    ("shape", "kernel", "options"),
    [
        ((2, 6, 6, 4), (3, 3, 2, 4), {"groups": 2}),
        ((2, 3, 3, 4), (5, 5, 4, 4), {"padding": "VALID"}),
        ((0, 6, 6, 4), (3, 3, 4, 4), {"padding": 1}),
    ],
    ids=["groups", "no_output", "no_images"],
)
def test_what_has_no_fast_form_is_left_to_lax(shape, kernel, options):
    x, w = directions(np.zeros(shape, np.float32), np.zeros(kernel, np.float32))
    padding = [(1, 1)] * 2 if options.get("padding") == 1 else options.get("padding", "SAME")
    native = lax.conv_general_dilated(
        x, w, (1, 1), padding, dimension_numbers=NHWC, feature_group_count=options.get("groups", 1)
    )
    np.testing.assert_array_equal(conv(x, w, **options), native)


def test_operands_of_different_dtypes_are_an_error():
    with pytest.raises(TypeError, match="same dtypes"):
        conv(jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 2, 2)))


def test_linen_layer_keeps_its_parameters():
    x = directions(np.zeros((2, 6, 6, 3), np.float32))[0]
    fast = nn.Conv(4, (3, 3), strides=2, padding=1, conv_general_dilated_cls=lambda: conv_general_dilated)
    native = nn.Conv(4, (3, 3), strides=2, padding=1)
    (y, params), (z, expected) = (layer.init_with_output(jax.random.key(1), x) for layer in (fast, native))
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert_equal_to_rounding(y, z)


@pytest.mark.parametrize("window", [(2, 2), (3, 2)])
def test_max_pool_and_its_derivatives_equal_those_of_linen_bit_for_bit_with_ties(window):
    x = jnp.maximum(directions(np.zeros((2, 7, 6, 3), np.float32))[0], 0).at[0, :4].set(1.0)
    (v,) = directions(x)

    def all_of(function):
        def loss(x):
            return jnp.sum(jnp.sin(function(x, window, strides=window)))

        y, tangent = jax.jvp(lambda x: function(x, window, strides=window), (x,), (v,))
        return y, tangent, *jax.jvp(jax.grad(loss), (x,), (v,))

    fast, native = jax.jit(lambda: (all_of(max_pool), all_of(nn.max_pool)))()
    for a, b in zip(fast, native, strict=True):
        np.testing.assert_array_equal(a, b)


def test_max_pool_of_a_nan_is_nan_wherever_it_stands():
    x = jnp.zeros((4, 2, 2, 1)).reshape(4, 4).at[jnp.arange(4), jnp.arange(4)].set(jnp.nan).reshape(4, 2, 2, 1)
    assert np.isnan(max_pool(x, (2, 2), strides=(2, 2))).all()


@pytest.mark.parametrize(("strides", "padding"), [((1, 1), "VALID"), ((2, 2), "SAME"), (None, "VALID")])
def test_overlapping_or_padded_windows_are_pooled_by_linen(strides, padding):
    x = directions(np.zeros((2, 5, 5, 3), np.float32))[0]
    np.testing.assert_array_equal(max_pool(x, (2, 2), strides, padding), nn.max_pool(x, (2, 2), strides, padding))
