"""Every algorithm goes with the scale of the matrix, as far as float32 goes; beyond, it refuses and says how to rescale."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from tests.spectra import oracle
from tests.spectra.verdicts import refused, right_or_refused


def slowly(*values):
    """Cases between the extremes, among the slow tests."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


SCALES = (1e-25, *slowly(1e-12, 1e12), 1e25)
SQUARED = (1e-15, 1e-7, 1e15)  # of losses, for matrices of products of gradients
BEYOND = (1e-45, *slowly(1e-42, 1e-38, 1e37), 1e38)
WORDS = ("infinity", "scale", "small", "large", "underflow", "overflow", "float32", "zero")
D = 12
SPECTRUM = np.r_[50.0, 30.0, 10.0, np.linspace(2.0, 0.5, D - 3)]
Q = np.linalg.qr(np.random.default_rng(0).normal(size=(D, D)))[0]
POSITIVE = (Q * SPECTRUM) @ Q.T
INDEFINITE = (Q * np.r_[SPECTRUM[:-1], -20.0]) @ Q.T
KEY = jax.random.key(0)
RANDOM = np.random.default_rng(1)
X, Y = RANDOM.normal(size=(40, D)), RANDOM.integers(0, 3, 40)
START = np.random.default_rng(2).normal(size=D)
PARAMS = {"w": jnp.asarray(0.3 * RANDOM.normal(size=(D, 3)), jnp.float32)}
BATCHES = [
    (jnp.asarray(X[:24], jnp.float32), jnp.asarray(Y[:24])),
    (jnp.asarray(X[24:], jnp.float32), jnp.asarray(Y[24:])),
]


def single(a):
    with np.errstate(over="ignore", under="ignore"):
        return np.asarray(a).astype(np.float32)


def positive(c):
    return spectra.matrix(single(c * POSITIVE), psd=True)


def indefinite(c):
    return spectra.matrix(single(c * INDEFINITE))


def trace_of(method, bound, num_probes=6):
    found = spectra.trace(bound, KEY, num_probes=num_probes, method=method)
    return [found.value, found.stderr]


def density_of(bound):
    found = spectra.density(bound, KEY, num_probes=3, num_steps=6)
    return [found.nodes.max(), found.nodes.min(), found.moment(1).value, found.moment(1).stderr]


def deflated(bound):
    found = spectra.density(bound, KEY, num_probes=3, num_steps=6, deflate=spectra.lanczos(bound, 2))
    return [found.atoms.max(), found.nodes.max(), found.moment(1).value]


def frobenius_of(bound, num_probes=6):
    found = spectra.frobenius(bound, KEY, num_probes=num_probes)
    return [found.value, found.stderr]


LINEAR = {
    "lanczos": lambda b: spectra.lanczos(b, 2, tol=1e-5).values,
    "lanczos_lowest": lambda b: spectra.lanczos(b, 1, which="SA", tol=1e-5).values,
    "lanczos_block": lambda b: spectra.lanczos(b, 2, block=2, tol=1e-5).values,
    "lanczos_restarted": lambda b: spectra.lanczos(b, 1, basis=6, max_steps=60, tol=1e-5).values,
    "lanczos_unverified": lambda b: spectra.lanczos(b, 1, verify=False, tol=1e-5).values,
    "extreme_values": lambda b: spectra.extreme_values(b, 1, tol=1e-5).values,
    "density": density_of,
    "density_deflated": deflated,
    "hutchinson": lambda b: trace_of("hutchinson", b),
    "hutch++": lambda b: trace_of("hutch++", b),
    "xtrace": lambda b: trace_of("xtrace", b),
    "xnystrace": lambda b: trace_of("xnystrace", b),
    "exact_trace": lambda b: trace_of("xtrace", b, D),
    "diagonal": lambda b: np.r_[spectra.diagonal(b, KEY, num_probes=6)[:2]],
    "exact_diagonal": lambda b: spectra.diagonal(b, KEY, num_probes=D).value,
    "frobenius": frobenius_of,
    "exact_frobenius": lambda b: frobenius_of(b, D)[:1],
    "quadratic_form": lambda b: spectra.quadratic_form(b, jnp.asarray(START, jnp.float32)),
}


@pytest.mark.parametrize("c", SCALES)
@pytest.mark.parametrize("name", LINEAR)
def test_an_algorithm_goes_with_the_scale_of_the_matrix(name, c):
    plain, scaled = (np.asarray(LINEAR[name](positive(factor)), np.float64) for factor in (1.0, c))
    np.testing.assert_allclose(scaled / c, plain, rtol=1e-4, atol=1e-5 * np.abs(plain).max())


@pytest.mark.parametrize("c", [1e-30, *SCALES, 1e30])
def test_extreme_eigenvalues_are_right_at_every_scale(c):
    for form in (spectra.lanczos, spectra.extreme_values):
        both = form(indefinite(c), 1, tol=1e-5).values[0], form(indefinite(c), 1, which="SA", tol=1e-5).values[0]
        np.testing.assert_allclose(both, [50 * c, -20 * c], rtol=1e-5)


@pytest.mark.parametrize("c", SCALES)
def test_residuals_convergence_and_effective_rank_at_every_scale(c):
    found = spectra.lanczos(indefinite(c), 2)
    assert found.converged.all()
    assert (found.residuals < 1e-2 * 50 * c).all()
    rank = [spectra.effective_rank(indefinite(factor), KEY, num_probes=k) for factor in (1.0, c) for k in (6, D)]
    np.testing.assert_allclose(rank[2:], rank[:2], rtol=1e-4)


@pytest.mark.parametrize(
    "name", ["lanczos", "extreme_values", "density", "exact_trace", "exact_frobenius", "hutchinson"]
)
@pytest.mark.parametrize("c", BEYOND)
def test_a_matrix_beyond_float32_is_right_or_refused(name, c):
    right = c * np.asarray(LINEAR[name](positive(1.0)), np.float64)
    # Below the normal numbers a matrix has few digits left itself.
    right_or_refused(lambda: LINEAR[name](positive(c)), right, *WORDS, rtol=1e-2, atol=1e-5 * np.abs(right).max())


def test_the_zero_matrix_is_not_taken_for_an_underflow():
    zero = spectra.matrix(np.zeros((D, D)), psd=True)
    right_or_refused(lambda: spectra.lanczos(zero, 1).values, [0.0], "zero")
    right_or_refused(lambda: spectra.trace(zero, KEY, num_probes=6).value, 0.0, "zero")


@pytest.mark.parametrize("c", [1e-25, 1e-12, 1.0, 1e25])
def test_a_matrix_that_is_not_symmetric_is_refused_at_every_scale(c):
    crooked = POSITIVE + np.triu(POSITIVE, 1) / 2
    refused(lambda: spectra.matrix(single(c * crooked)), "symmetric")


@pytest.mark.parametrize("c", [1e-30, 1e-20, 1e20, 1e30])
def test_a_start_and_a_direction_have_no_scale(c):
    small = jnp.asarray(c * START, jnp.float32)
    np.testing.assert_allclose(spectra.lanczos(indefinite(1.0), 1, start=small).values, [50.0], rtol=1e-4)
    quotient = START @ INDEFINITE @ START / (START @ START)
    np.testing.assert_allclose(spectra.quadratic_form(indefinite(1.0), small), [quotient], rtol=1e-4)


def outputs(params, batch):
    return jnp.tanh(batch[0] @ params["w"])


def each(f, batch):
    return jax.nn.logsumexp(f, axis=1) - jnp.sum(f * jax.nn.one_hot(batch[1], 3, dtype=f.dtype), axis=1)


def example_losses(c):
    return lambda params, batch: c * each(outputs(params, batch), batch)


def mean_loss(c):
    return lambda params, batch: c * jnp.mean(each(outputs(params, batch), batch))


def gaussian_outputs(c):
    return lambda params, batch: c * outputs(params, batch)


BY_LOSS = {
    "hessian": lambda c: spectra.hessian(mean_loss(c)),
    "ggn": lambda c: spectra.ggn(outputs, lambda f, batch: c * jnp.mean(each(f, batch))),
    "preconditioned": lambda c: spectra.preconditioned(spectra.hessian(mean_loss(c)), {"w": jnp.full((D, 3), 4.0)}),
}
BY_SQUARE = {
    "empirical_fisher": lambda c: spectra.empirical_fisher(example_losses(c)),
    "gradient_covariance": lambda c: spectra.gradient_covariance(example_losses(c)),
    "fisher": lambda c: spectra.fisher(gaussian_outputs(c), distribution="gaussian"),
}


@functools.cache
def exact_top(name):
    """lambda_1 at scale one, from the dense float64 matrix."""
    at, batch = np.asarray(PARAMS["w"], np.float64).ravel(), (X.astype(np.float32).astype(np.float64), Y)
    tree = lambda v: {"w": v.reshape(D, 3)}  # noqa: E731
    if name in ("hessian", "preconditioned"):
        dense = oracle.hessian(lambda v: mean_loss(1.0)(tree(v), batch), at) / (4 if name == "preconditioned" else 1)
    elif name in ("ggn", "fisher"):
        jacobian = oracle.jacobian(lambda v: outputs(tree(v), batch), at)
        values = oracle.in_float64(outputs)(tree(at), batch)
        kind = "categorical" if name == "ggn" else "gaussian"
        dense = oracle.sandwich(jacobian, oracle.output_fisher(kind, values))
    else:
        gradients = oracle.jacobian(lambda v: example_losses(1.0)(tree(v), batch), at)
        dense = oracle.second_moment(gradients, centred=name == "gradient_covariance")
    return oracle.eigenvalues(dense)[-1]


@pytest.mark.parametrize("c", [1e-25, 1.0, 1e25])
@pytest.mark.parametrize("name", BY_LOSS)
def test_lambda_1_goes_with_the_loss(name, c):
    bound = BY_LOSS[name](c).bind(PARAMS, BATCHES)
    found = spectra.lanczos(bound, 1, tol=1e-5)
    np.testing.assert_allclose(found.values[0], c * exact_top(name), rtol=1e-5)
    assert found.converged[0]


@pytest.mark.parametrize("c", [1e-15, 1.0, 1e15])
@pytest.mark.parametrize("name", BY_SQUARE)
def test_lambda_1_of_products_of_gradients_goes_with_the_square_of_the_loss(name, c):
    found = spectra.lanczos(BY_SQUARE[name](c).bind(PARAMS, BATCHES), 1, tol=1e-5)
    np.testing.assert_allclose(found.values[0], c**2 * exact_top(name), rtol=1e-5)
    assert found.converged[0]


@pytest.mark.parametrize("c", [1e-45, 1e-40, 1e-37, 1e38])
@pytest.mark.parametrize("name", BY_LOSS)
def test_a_loss_beyond_float32_is_right_or_refused(name, c):
    top = lambda: spectra.lanczos(BY_LOSS[name](c).bind(PARAMS, BATCHES), 1).values[0]  # noqa: E731
    right_or_refused(top, c * exact_top(name), *WORDS)


@pytest.mark.parametrize("c", [1e-30, 1e-21, 1e-19, 1e20, 1e30])
@pytest.mark.parametrize("name", BY_SQUARE)
def test_products_of_gradients_beyond_float32_are_right_or_refused(name, c):
    top = lambda: spectra.lanczos(BY_SQUARE[name](c).bind(PARAMS, BATCHES), 1).values[0]  # noqa: E731
    right_or_refused(top, c**2 * exact_top(name), *WORDS)


GRADIENTS = np.random.default_rng(3).normal(size=(6, 9))


def gram_of(c):
    found = spectra.gram(jnp.asarray(c * GRADIENTS, jnp.float32))
    return [found.trace, *found.values]


OF_EXAMPLES = {
    "gram": (2, gram_of),
    "gradient_norms": (2, lambda c: spectra.gradient_norms(example_losses(c), PARAMS, BATCHES)),
    "covariance_trace": (2, lambda c: spectra.covariance_trace(example_losses(c), PARAMS, BATCHES)),
    "curvature_along": (1, lambda c: spectra.curvature_along(example_losses(c), PARAMS, PARAMS, BATCHES)),
    "batch_sharpness": (1, lambda c: spectra.batch_sharpness(mean_loss(c), PARAMS, BATCHES).values),
}


@pytest.mark.parametrize("name", OF_EXAMPLES)
@pytest.mark.parametrize("c", [1e-15, 1e15, 1e-25, 1e25])
def test_measurements_of_examples_go_with_their_power_of_the_loss(name, c):
    power, measure = OF_EXAMPLES[name]
    plain, power_of_c = np.asarray(measure(1.0), np.float64), float(c) ** power
    near = dict(rtol=1e-4, atol=1e-5 * np.abs(plain).max())
    if power == 2 and c in (1e-25, 1e25):  # its square is beyond float32
        right_or_refused(lambda: np.asarray(measure(c), np.float64) / power_of_c, plain, *WORDS, **near)
    else:
        np.testing.assert_allclose(np.asarray(measure(c), np.float64) / power_of_c, plain, **near)


@pytest.mark.parametrize("unit", [1e-9, 1e-12, 1e10])
def test_units_inside_the_loss_are_squared_and_still_right(unit):
    """Case A1: targets in small units."""
    random = np.random.default_rng(4)
    x, p = random.normal(size=(40, 12)), {"w": 0.3 * random.normal(size=(12, 5)), "v": 0.3 * random.normal(size=5)}
    y = np.sin(x[:, 0])

    def loss(p, batch):
        return jnp.mean((unit * (jnp.tanh(batch[0] @ p["w"]) @ p["v"]) - unit * batch[1]) ** 2)

    coordinates = oracle.Coordinates(p)
    right = oracle.eigenvalues(oracle.hessian(lambda v: loss(coordinates.fill(v), (x, y)), coordinates.start))
    params, batch = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (p, (x, y)))
    bound = spectra.hessian(loss).bind(params, [batch])
    found = spectra.lanczos(bound, 1)
    np.testing.assert_allclose(found.values[0], right[-1], rtol=1e-3)
    np.testing.assert_allclose(spectra.extreme_values(bound, 1).values[0], right[-1], rtol=1e-3)
    exact = spectra.frobenius(bound, KEY, num_probes=bound.size)
    np.testing.assert_allclose(exact.value, np.linalg.norm(right), rtol=1e-3)
    nodes = spectra.density(bound, KEY, num_probes=2, num_steps=20).nodes
    assert right[0] * 1.01 <= nodes.min()
    assert nodes.max() <= right[-1] * 1.01
