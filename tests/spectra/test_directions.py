"""Curvature along directions and per-example norms, against closed forms and dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax.errors import LrjaxError
from lrjax.spectra.binding import bind
from lrjax.spectra.bound import matrix
from lrjax.spectra.directions import batch_sharpness, curvature_along, quadratic_form
from lrjax.spectra.example_gradients import covariance_trace, gradient_norms
from lrjax.spectra.operators import hessian

GENERATOR = np.random.default_rng(0)
X, Y = GENERATOR.normal(size=(11, 4)), GENERATOR.integers(0, 2, 11) * 2.0 - 1.0
BATCHES = [{"x": X[s], "y": Y[s]} for s in (slice(0, 5), slice(5, 10), slice(10, 11))]
PARAMS = {"b": jnp.array(0.3), "w": jnp.array([0.5, -1.0, 0.2, 0.8])}
DIRECTION = {"b": jnp.array(2.0), "w": jnp.array([1.0, 0.5, -1.0, 0.3])}


@jax.jit
def linear(params, batch):
    return (batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2 / 2


@jax.jit
def logistic(params, batch):
    return jnp.log1p(jnp.exp(-batch["y"] * (batch["x"] @ params["w"] + params["b"])))


@jax.jit
def network(params, batch):
    hidden = jnp.tanh(batch["x"] * params["w"][None] + params["b"])
    return (jnp.sum(hidden, axis=1) - batch["y"]) ** 2


def closed_forms(direction):
    """loss -> (per-example gradients [n, D], curvatures along the unit direction [n]); D is b, then w."""
    features = np.concatenate([np.ones((11, 1)), X], axis=1)
    unit = direction / np.linalg.norm(direction)
    output = features @ np.array([0.3, 0.5, -1.0, 0.2, 0.8])
    p = 1 / (1 + np.exp(Y * output))
    return {
        linear: (features * (output - Y)[:, None], (features @ unit) ** 2),
        logistic: (-features * (Y * p)[:, None], (features @ unit) ** 2 * p * (1 - p)),
    }


@pytest.mark.x64
@pytest.mark.parametrize("loss", [linear, logistic])
def test_curvatures_and_norms_are_the_closed_form(loss):
    flat = np.array([2.0, 1.0, 0.5, -1.0, 0.3])
    gradients, curvatures = closed_forms(flat)[loss]
    np.testing.assert_allclose(curvature_along(loss, PARAMS, DIRECTION, BATCHES), curvatures, rtol=1e-10)
    np.testing.assert_allclose(curvature_along(loss, PARAMS, flat, BATCHES), curvatures, rtol=1e-10)
    np.testing.assert_allclose(gradient_norms(loss, PARAMS, BATCHES, chunk=3), np.sum(gradients**2, axis=1), rtol=1e-10)
    centred = gradients - gradients.mean(axis=0)
    assert covariance_trace(loss, PARAMS, BATCHES) == pytest.approx(np.sum(centred**2) / 11, rel=1e-10)


@pytest.mark.x64
def test_mean_curvature_is_the_quadratic_form_of_the_hessian():
    bound = bind(hessian(lambda params, batch: jnp.mean(network(params, batch))), PARAMS, BATCHES)
    along = curvature_along(network, PARAMS, DIRECTION, BATCHES)
    assert along.shape == (11,)
    assert along.mean() == pytest.approx(quadratic_form(bound, DIRECTION)[0], rel=1e-10)
    unscaled = curvature_along(network, PARAMS, DIRECTION, BATCHES, normalise=False)
    np.testing.assert_allclose(unscaled, along * (4 + 2.34), rtol=1e-10)


@pytest.mark.x64
def test_where_moves_the_selected_parameters_alone():
    part = {"b": None, "w": DIRECTION["w"]}
    expected = curvature_along(linear, PARAMS, {"b": jnp.array(0.0), "w": DIRECTION["w"]}, BATCHES)
    for direction in (DIRECTION, part, DIRECTION["w"]):
        found = curvature_along(linear, PARAMS, direction, BATCHES, where="w")
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    gradients = closed_forms(np.ones(5))[linear][0]
    norms = gradient_norms(linear, PARAMS, BATCHES, where="w")
    np.testing.assert_allclose(norms, np.sum(gradients[:, 1:] ** 2, axis=1), rtol=1e-12)


def test_one_pass_serves_all_directions_and_their_length_does_not_matter():
    dense = np.array([[2.0, 1.0], [1.0, -3.0]])
    bound = matrix(dense)
    vectors = np.array([[1.0, 0.0], [1e-25, 1e-25], [0.0, -2e10]])
    for directions in (vectors, tuple(vectors)):
        np.testing.assert_allclose(quadratic_form(bound, directions), [2.0, 0.5, -3.0], rtol=1e-6)
    assert bound.products == 6
    np.testing.assert_allclose(quadratic_form(bound, vectors[0]), [2.0])


@pytest.mark.x64
def test_batch_sharpness_is_the_mean_of_each_batch_along_its_own_gradient():
    found = batch_sharpness(lambda params, batch: jnp.mean(linear(params, batch)), PARAMS, BATCHES)
    gradients = closed_forms(np.ones(5))[linear][0]
    features = np.concatenate([np.ones((11, 1)), X], axis=1)
    expected = []
    for s in (slice(0, 5), slice(5, 10), slice(10, 11)):
        g, h = gradients[s].mean(axis=0), features[s].T @ features[s] / len(features[s])
        expected.append(g @ h @ g / (g @ g))
    np.testing.assert_allclose(found.values, expected, rtol=1e-10)
    assert found.value == pytest.approx(np.mean(expected))
    assert found.stderr == pytest.approx(np.std(expected, ddof=1) / np.sqrt(3))


def test_trace_survives_a_mean_gradient_far_above_the_noise():
    noise = np.round(np.random.default_rng(1).normal(size=(9, 6)) * 8) / 8
    rows = jnp.asarray(noise + 2.0**18, jnp.float32)
    centred = noise - noise.mean(axis=0)
    found = covariance_trace(lambda w, x: x @ w, jnp.zeros(6), [rows[:4], rows[4:]])
    assert found == pytest.approx(np.sum(centred**2) / 9, rel=1e-2)
    naive = np.mean(gradient_norms(lambda w, x: x @ w, jnp.zeros(6), [rows])) - np.sum(np.mean(rows, axis=0) ** 2)
    assert abs(naive - np.sum(centred**2) / 9) > 1


def test_a_convolution_gives_the_same_in_any_chunk():
    images = jnp.asarray(np.random.default_rng(2).normal(size=(5, 6, 6, 2)), jnp.float32)
    kernel = jnp.asarray(np.random.default_rng(3).normal(size=(3, 3, 2, 4)), jnp.float32)

    def loss(kernel, x):
        maps = jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.mean(jax.nn.relu(maps), axis=(1, 2, 3))

    norms = gradient_norms(loss, kernel, [images[:3], images[3:]], chunk=2)
    gradient = jax.jit(jax.grad(lambda p, x: loss(p, x)[0]))
    np.testing.assert_allclose(norms, [np.sum(np.square(gradient(kernel, x[None]))) for x in images], rtol=1e-5)


def zero(params, batch):
    return 0.0 * linear(params, batch)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: curvature_along(linear, PARAMS, jnp.zeros(5), BATCHES), "zero, NaN"),
        (lambda: curvature_along(linear, PARAMS, jnp.ones(4), BATCHES), "no leaf b"),
        (lambda: curvature_along(linear, PARAMS, DIRECTION, []), "no batches"),
        (
            lambda: curvature_along(lambda p, b: jnp.mean(linear(p, b)), PARAMS, DIRECTION, BATCHES),
            "one loss an example",
        ),
        (lambda: curvature_along(linear, {**PARAMS, "b": jnp.nan}, DIRECTION, BATCHES), "b hold NaN"),
        (lambda: gradient_norms(lambda p, b: linear(p, b) - jnp.mean(b["x"]), PARAMS, BATCHES), "others of its batch"),
        (lambda: gradient_norms(linear, PARAMS, BATCHES, chunk=0), "chunk"),
        (lambda: quadratic_form(matrix(np.eye(2)), (jnp.zeros(2),)), "zero, NaN"),
        (lambda: quadratic_form(matrix(np.eye(2)), ()), "no directions"),
        (lambda: quadratic_form(matrix(np.eye(2)), jnp.ones(3)), "2 numbers"),
        (lambda: batch_sharpness(linear, PARAMS, BATCHES), "scalar"),
        (lambda: batch_sharpness(lambda p, b: jnp.mean(zero(p, b)), PARAMS, BATCHES), "zero or NaN"),
        (lambda: batch_sharpness(linear, PARAMS, lambda: iter([])), "empty iterator"),
    ],
)
def test_bad_input_is_refused_with_a_sentence(call, words):
    with pytest.raises(LrjaxError, match=words):
        call()
