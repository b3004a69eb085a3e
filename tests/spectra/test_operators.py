"""Every operator against closed forms in numpy, its identities, and finite differences."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from lrjax.errors import LrjaxError
from lrjax.models.linen import batch_norm, from_linen
from lrjax.spectra import bind, empirical_fisher, fisher, ggn, gradient_covariance, hessian
from lrjax.spectra.distributions import DISTRIBUTIONS
from tests.spectra import problems
from tests.spectra.problems import NUM_SAMPLES, PROBLEMS, N, cast, difference, split

PRECISIONS = [
    pytest.param(np.float32, 1e-5, id="float32"),
    pytest.param(np.float64, 1e-10, id="float64", marks=pytest.mark.x64),
]


@pytest.fixture(scope="module", autouse=True)
def _quickly_compiled():
    with problems.quick_compilation():
        yield


def matrices(table, params, batch):
    """Name -> dense matrix, from the pure `matvec` under jit and vmap; traceable."""
    flat, unravel = ravel_pytree(params)

    def rows(operator):
        return jax.vmap(lambda v: ravel_pytree(operator.matvec(params, unravel(v), batch))[0])(
            jnp.eye(flat.size, dtype=flat.dtype)
        )

    return {name: rows(operator) for name, operator in table.items()}


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_operator_is_the_closed_form(name, dtype, tolerance):
    problem, key = PROBLEMS[name](), jax.random.key(7)
    table = problems.operator_table(problem.predict, problem.losses, problem.distribution, key)

    @jax.jit
    def compute(params, batch):
        outputs = problem.predict(params, batch)
        drawn = problems.drawn_labels(problem.distribution, key, outputs, NUM_SAMPLES)
        return matrices(table, params, batch), drawn

    found, drawn = compute(cast(problem.params, dtype), cast(problem.batch, dtype))
    closed = problems.closed_forms(problem, drawn)
    assert found.keys() == closed.keys()
    for which, matrix in found.items():
        assert matrix.dtype == dtype
        assert difference(matrix, closed[which]) <= tolerance, which
        assert difference(matrix, matrix.T) <= tolerance, which
        if table[which].psd:
            assert np.linalg.eigvalsh(matrix).min() >= -tolerance * np.abs(matrix).max(), which


def test_the_closed_forms_tell_the_operators_apart():
    """Otherwise one operator in place of another would pass."""
    drawn = np.random.default_rng(0).normal(size=(N, NUM_SAMPLES, problems.OUTPUTS))
    closed = problems.closed_forms(problems.two_layer_linear(), drawn)
    del closed["fisher"]  # here the GGN, by definition
    for name, other in itertools.combinations(closed, 2):
        assert difference(closed[name], closed[other]) > 0.01, (name, other)


@pytest.mark.x64
def test_hessian_is_ggn_plus_the_curvature_of_the_network_weighted_by_the_slopes():
    params, batch = problems.mlp_params(np.float64), problems.mlp_batch(np.float64)
    table = problems.operator_table(problems.mlp_predict, problems.softmax_losses, "categorical", jax.random.key(0))
    table = {name: table[name] for name in ("hessian", "ggn")}
    flat, unravel = ravel_pytree(params)

    @jax.jit
    def compute(params, batch):
        second = jax.hessian(lambda p: problems.mlp_predict(unravel(p), batch))(flat)
        return matrices(table, params, batch), problems.mlp_predict(params, batch), second

    found, outputs, second = compute(params, batch)
    slopes, _ = problems.output_derivatives("categorical", np.asarray(outputs), np.asarray(batch[1]))
    residual = np.einsum("ic,icab->ab", slopes, np.asarray(second)) / N
    assert np.abs(residual).max() > 0.05 * np.abs(found["hessian"]).max()
    assert difference(found["ggn"] + residual, found["hessian"]) <= 1e-10


def summed(losses):
    """The loss of an example with several outputs of one kind: the sum over them."""
    return lambda outputs, batch: jnp.mean(jnp.sum(losses(outputs, batch[1]), axis=1))


# distribution -> the loss that matches it, labels of two entries an example, the shape of an example's outputs
MATCHING = {
    "categorical": (
        summed(lambda f, y: -jnp.take_along_axis(jax.nn.log_softmax(f), y[..., None], axis=-1)[..., 0]),
        np.random.default_rng(0).integers(0, 3, (N, 2)),
        (2, 3),
    ),
    "bernoulli": (
        summed(lambda f, y: jnp.logaddexp(0.0, f) - y * f),
        np.random.default_rng(0).integers(0, 2, (N, 2)).astype(np.float32),
        (2,),
    ),
    "gaussian": (summed(lambda f, y: (f - y) ** 2 / 2), np.zeros((N, 2), np.float32), (2,)),
}


def squared_score_moments(distribution, outputs, u):
    """Mean and variance over y ~ p of (score . u)^2; outputs [n, 2, ...], u [k, n, 2, ...]."""
    if distribution == "gaussian":
        second = np.sum(u**2, axis=2)
        return second, 2 * second**2
    if distribution == "bernoulli":
        p = 1 / (1 + np.exp(-outputs))
        p, values = np.stack([1 - p, p], axis=-1), np.stack([-p * u, (1 - p) * u], axis=-1)
    else:
        p = np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)
        values = u - np.sum(p * u, axis=-1, keepdims=True)
    joint = p[:, 0, :, None] * p[:, 1, None, :]  # both labels of an example
    squares = (values[:, :, 0, :, None] + values[:, :, 1, None, :]) ** 2
    second = np.sum(joint * squares, axis=(2, 3))
    return second, np.sum(joint * squares**2, axis=(2, 3)) - second**2


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_fisher_is_the_ggn_of_the_matching_loss_and_the_limit_of_monte_carlo(distribution):
    """With two outputs an example. Monte Carlo: v F v along 20 directions, within four of its standard errors."""
    loss, labels, shape = MATCHING[distribution]
    samples, width = 2000, int(np.prod(shape))
    params = 0.5 * jax.random.normal(jax.random.key(1), (problems.FEATURES, width))
    rows = jax.random.normal(jax.random.key(2), (20, *params.shape))
    batch = (problems.mlp_batch()[0], jnp.asarray(labels))

    def predict(params, batch):
        return jnp.sin(batch[0] @ params).reshape(-1, *shape)

    exact = {"ggn": ggn(predict, loss), "fisher": fisher(predict, distribution=distribution)}
    drawn = fisher(predict, jax.random.key(3), distribution=distribution, num_samples=samples)

    @jax.jit
    def compute(params, batch, rows):
        u = jax.vmap(lambda v: jax.jvp(lambda p: predict(p, batch), (params,), (v,))[1])(rows)
        products = jax.vmap(lambda v: drawn.matvec(params, v, batch))(rows)
        return matrices(exact, params, batch), predict(params, batch), u, products

    found, outputs, u, products = jax.tree.map(lambda a: np.asarray(a, float), compute(params, batch, rows))
    assert difference(found["fisher"], found["ggn"]) <= 1e-5
    expected, variance = squared_score_moments(distribution, outputs, u)
    expected, error = expected.mean(axis=1), np.sqrt(variance.mean(axis=1) / (N * samples))
    flat = np.asarray(rows).reshape(20, -1)
    np.testing.assert_allclose(np.einsum("ka,ab,kb->k", flat, found["fisher"], flat), expected, rtol=1e-4)
    distance = np.abs(np.sum(flat * products.reshape(20, -1), axis=1) - expected)
    assert (error < 0.02 * expected).all()  # so that a wrong factor is many standard errors away
    assert (distance < 4 * error).all()
    assert (distance > 0.1 * error).any()  # drawn, not exact


def test_a_fisher_without_samples_is_refused():
    with pytest.raises(LrjaxError, match="num_samples must be >= 1, got 0"):
        fisher(jnp.dot, jax.random.key(0), num_samples=0)


def test_an_unknown_distribution_is_refused_with_the_names():
    with pytest.raises(LrjaxError, match=r"unknown distribution 'poisson'.*categorical"):
        fisher(problems.affine, distribution="poisson")


def small_mlp():
    def loss(params, batch):
        return jnp.mean(problems.softmax_losses(problems.mlp_predict(params, batch), batch))

    return loss, problems.mlp_params(np.float64), problems.mlp_batch(np.float64)


def small_cnn():
    random = np.random.default_rng(0)
    params = {"conv": 0.5 * random.normal(size=(3, 3, 1, 2)), "dense": 0.5 * random.normal(size=(18, 3))}
    batch = (random.normal(size=(5, 6, 6, 1)), random.integers(0, 3, 5))

    def loss(params, batch):
        layout = ("NHWC", "HWIO", "NHWC")
        hidden = jnp.tanh(
            jax.lax.conv_general_dilated(batch[0], params["conv"], (2, 2), "SAME", dimension_numbers=layout)
        )
        return jnp.mean(problems.softmax_losses(hidden.reshape(5, 18) @ params["dense"], batch))

    return loss, cast(params, np.float64), cast(batch, np.float64)


@pytest.mark.x64
@pytest.mark.parametrize("network", [small_mlp, small_cnn])
def test_hessian_products_are_finite_differences_of_the_gradient(network):
    loss, params, batch = network()
    bound = bind(hessian(loss), params, [batch], checks=False)
    flat, unravel = ravel_pytree(params)
    gradient = jax.jit(lambda p: ravel_pytree(jax.grad(loss)(unravel(p), batch))[0])
    step, v = 1e-5, jax.random.normal(jax.random.key(1), (bound.size,))
    slope = (gradient(flat + step * v) - gradient(flat - step * v)) / (2 * step)
    assert difference(bound.matvec(v), np.asarray(slope)) <= 1e-6


class NormedNet(nn.Module):
    """Dense, BatchNorm, tanh, dense."""

    @nn.compact
    def __call__(self, x, *, train):
        x = batch_norm(nn.Dense(4, name="first")(x), "norm", train=train)
        return nn.Dense(problems.OUTPUTS, name="last")(jnp.tanh(x))


@pytest.fixture(scope="module")
def normed():
    """`train` -> (Hessian, gradient covariance) of a network with BatchNorm; its parameters and three batches."""
    model, batch = from_linen(NormedNet()), problems.mlp_batch()
    params, state = jax.jit(model.init)(jax.random.key(0, impl="rbg"), batch[0])
    apply = jax.jit(model.apply, static_argnames="train")

    def operators(train):
        def example_loss(params, batch):
            return problems.softmax_losses(apply(params, state, batch[0], train=train)[0], batch)

        return hessian(lambda params, batch: jnp.mean(example_loss(params, batch))), gradient_covariance(example_loss)

    return operators, params, split(batch, (9, 9, 9))


def test_hessian_takes_the_statistics_of_each_fixed_batch_or_the_running_ones(normed):
    operators, params, batches = normed
    fixed, running = operators(True)[0], operators(False)[0]
    together = jax.tree.map(lambda *parts: jnp.concatenate(parts), *batches)

    @jax.jit
    def references(params, v):
        losses = {
            "fixed": lambda p: sum(problems.differentiated(fixed, p, batch) for batch in batches) / len(batches),
            "running": lambda p: problems.differentiated(running, p, together),
        }
        return {name: jax.jvp(jax.grad(loss), (params,), (v,))[1] for name, loss in losses.items()}

    bound = bind(fixed, params, batches, checks=False)
    v = jax.random.normal(jax.random.key(1), (bound.size,), bound.dtype)
    expected = {name: np.asarray(bound.ravel(hv)) for name, hv in references(params, bound.unravel(v)).items()}
    assert difference(bound.matvec(v), expected["fixed"]) <= 1e-5
    assert difference(bind(running, params, batches, checks=False).matvec(v), expected["running"]) <= 1e-5
    assert difference(expected["running"], expected["fixed"]) > 0.01
    whole = bind(fixed, params, [together], checks=False).matvec(v)
    assert difference(whole, expected["fixed"]) > 0.01  # one batch has other statistics than three


def test_gradients_of_examples_need_running_statistics(normed):
    operators, params, batches = normed
    for make in (gradient_covariance, empirical_fisher):
        with pytest.raises(LrjaxError, match=r"depends on the others of its batch \(BatchNorm.*use running statistics"):
            bind(make(operators(True)[1].functions[0]), params, batches)
    assert bind(operators(False)[1], params, batches).num_examples == N
