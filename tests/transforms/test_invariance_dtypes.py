"""scale_invariance by the dtype that is computed in, at any size of the loss, on any leaves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.transforms.invariance import scale_invariance
from lrjax.transforms.precision import computed_dtype

X = np.random.default_rng(0).normal(size=(32, 5))
Y = np.sin(X[:, 0])
PARAMS = {"a": X[:5].copy(), "b": X[5:10].copy()}


def norm(h):
    h = h - h.mean(0, keepdims=True)
    return h / jnp.sqrt((h * h).mean(0, keepdims=True))


def loss(params, scale=1.0, inside=None):
    """Invariant to the scale of a and of b."""
    cast = lambda a: jnp.asarray(a) if inside is None else jnp.asarray(a).astype(inside)  # noqa: E731
    h = jax.nn.relu(norm(cast(X) @ cast(params["a"])))
    h = norm(h @ cast(params["b"]))
    return (scale * jnp.mean((jnp.tanh(h[:, 0]) - cast(Y)) ** 2)).astype(jnp.float32)


def depends(params, *args):
    return loss(params, *args) + args[0] * 0.1 * jnp.mean(jnp.asarray(params["a"], jnp.float32) ** 2)


def groups(report):
    return [group.paths for group in report.groups]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, jnp.bfloat16, jnp.float16])
def test_verdict_is_the_same_for_weights_of_every_dtype(dtype):
    params = jax.tree.map(lambda a: a.astype(dtype), PARAMS)
    report = scale_invariance(loss, params)
    report.require()
    assert groups(report) == [("a",), ("b",)]
    assert [o.path for o in scale_invariance(lambda p: depends(p, 1.0), params).obstacles] == ["a"]


@pytest.mark.parametrize("inside", [jnp.bfloat16, jnp.float16])
def test_half_precision_inside_the_loss_sets_the_tolerance(inside):
    report = scale_invariance(lambda p: loss(p, 1.0, inside), PARAMS)
    assert report.invariant
    assert report.dtype == jnp.dtype(inside).name
    assert f"as the loss computes in {report.dtype}" in str(report)
    assert [o.path for o in scale_invariance(lambda p: depends(p, 1.0, inside), PARAMS).obstacles] == ["a"]


@pytest.mark.parametrize("inside", [jnp.bfloat16, jnp.float16])
def test_arrays_that_scale_jointly_are_found_in_half_precision(inside):
    def joint(params):
        h = (jnp.asarray(X) @ params["a"]).astype(inside)
        h = h + (jnp.asarray(X[:, ::-1].copy()) @ params["b"]).astype(inside)
        return jnp.mean((jnp.tanh(norm(h)[:, 0]) - Y) ** 2).astype(jnp.float32)

    assert groups(scale_invariance(joint, PARAMS)) == [("a", "b")]


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_size_of_the_loss_does_not_matter(scale):
    assert groups(scale_invariance(lambda p: loss(p, scale), PARAMS)) == [("a",), ("b",)]
    assert [o.path for o in scale_invariance(lambda p: depends(p, scale), PARAMS).obstacles] == ["a"]


def test_randomness_is_blamed_only_where_two_calls_differ():
    rng = np.random.default_rng(0)
    with pytest.raises(LrjaxError, match=r"at one call and .* at the next with the same arguments"):
        scale_invariance(lambda p: loss(p) * rng.uniform(), PARAMS)

    def hidden(params):
        return loss(params) + jnp.sum(jax.lax.stop_gradient(params["a"]) ** 2)

    with pytest.raises(LrjaxError, match="does gradient flow through all of it") as error:
        scale_invariance(hidden, jax.tree.map(jnp.asarray, PARAMS))
    assert "dropout" not in str(error.value)


def test_leaves_that_are_no_floats_are_constants():
    constants = {"i": jnp.arange(3), "t": True, "key": jax.random.key(0), "n": None, "z": jnp.zeros(0), "f": jnp.sin}
    params = {**PARAMS, **constants}
    report = scale_invariance(loss, params)
    assert report.paths == ("a", "b")
    labels = report.labels(params)
    assert labels["a"] == labels["b"] == "si"
    assert labels["i"] == labels["t"] == labels["z"] == "other"


def test_complex_weights_have_a_scale():
    params = {"c": jnp.array([3 + 1j, 4 - 2j])}
    invariant = scale_invariance(lambda p: jnp.abs(p["c"][0]) / jnp.sqrt(jnp.sum(jnp.abs(p["c"]) ** 2)), params)
    assert invariant.invariant
    assert not scale_invariance(lambda p: jnp.sum(jnp.abs(p["c"]) ** 2), params).invariant


@pytest.mark.parametrize(
    ("function", "params", "message"),
    [
        (loss, {"i": jnp.arange(3), "z": jnp.zeros(0)}, "no array of floats"),
        (loss, {**PARAMS, "rate": 0.5}, "plain number 'rate'"),
        (lambda p: (loss(p), 1), PARAMS, "return the loss alone"),
        (lambda p: jnp.ones(3) * loss(p), PARAMS, r"one real number, not float32 of shape \(3,\)"),
        (lambda p: 0.0 * loss(p), PARAMS, "zero at every point"),
        (lambda p: loss(p) / 0.0, PARAMS, "the loss is not finite"),
        (lambda p: loss(p) + jnp.sqrt(0.0 * p["a"][0, 0]), PARAMS, "gradient of the loss in a is not finite"),
    ],
)
def test_what_has_no_scale_is_refused_in_a_sentence(function, params, message):
    with pytest.raises(LrjaxError, match=message):
        scale_invariance(function, params)


def test_dtype_is_found_inside_loops_and_branches_and_only_on_the_way_from_the_parameters():
    low = lambda w: w.astype(jnp.bfloat16).astype(jnp.float32)  # noqa: E731
    w = jnp.ones(3, jnp.float32)
    inside = [
        lambda w: jax.jit(low)(w),
        lambda w: jax.lax.scan(lambda c, _: (low(c), None), w, None, 2)[0],
        lambda w: jax.lax.cond(w[0] > 0, low, lambda w: w, w),
        lambda w: jax.lax.fori_loop(0, 2, lambda _, w: low(w), w),
        lambda w: jax.checkpoint(low)(w),
    ]
    assert {computed_dtype(function, w).name for function in inside} == {"bfloat16"}
    assert computed_dtype(lambda w, x: w * low(x), w, w).name == "float32"
