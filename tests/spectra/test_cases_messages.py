"""Refusals name the real cause, and natural code that used to fail raw works."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lrjax import spectra
from tests.spectra import oracle
from tests.spectra.one_layer import BATCH, EXACT, GRADIENTS, JACOBIAN, W64, X64, W, X, Y, dense, mse, residuals, right
from tests.spectra.verdicts import refused, right_or_refused


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_preconditioner_that_is_not_positive_is_refused_as_such(bad):
    diagonal = np.float32([1.0, bad, 2.0])
    refused(
        lambda: dense(spectra.preconditioned(spectra.hessian(mse), diagonal).bind(W, BATCH)),
        "preconditioner", "diagonal", "positive",
    )  # fmt: skip


def test_a_preconditioner_of_a_tree_names_the_leaf():
    params = {"a": W[:2], "b": W[2:]}
    loss = lambda p, b: mse(jnp.concatenate([p["a"], p["b"]]), b)  # noqa: E731
    diagonal = {"a": np.ones(2, np.float32), "b": np.zeros(1, np.float32)}
    refused(lambda: spectra.preconditioned(spectra.hessian(loss), diagonal).bind(params, BATCH), "b")
    unselected = spectra.preconditioned(spectra.hessian(loss), diagonal).bind(params, BATCH, "a")
    right(unselected, EXACT[:2, :2])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_matrix_that_is_not_finite_is_refused_as_such(bad):
    a = np.eye(3)
    a[1, 1] = bad
    refused(lambda: spectra.matrix(a), "NaN", "finite", "infinity")
    a = np.eye(3)
    a[0, 2] = a[2, 0] = bad
    refused(lambda: spectra.matrix(a), "NaN", "finite", "infinity")


def test_a_matrix_of_the_wrong_shape_is_refused_by_its_shape():
    refused(lambda: spectra.matrix(np.ones((2, 3))), "square")
    refused(lambda: spectra.matrix(np.array([[1.0, 2.0], [0.0, 1.0]])), "symmetric")
    refused(lambda: spectra.matrix(np.eye(2) + 0j * np.eye(2)), "complex", "real")


@pytest.mark.parametrize("number", [0, 7, np.int64(7), np.uint32(3)])
def test_integers_are_taken_where_keys_are(number):
    a = spectra.matrix(np.diag(np.arange(1.0, 9.0)), psd=True)
    key = jax.random.key(int(number))
    assert spectra.trace(a, number, num_probes=4).value == spectra.trace(a, key, num_probes=4).value
    assert spectra.frobenius(a, number, num_probes=4).value == spectra.frobenius(a, key, num_probes=4).value
    assert spectra.effective_rank(a, number, num_probes=4).value == spectra.effective_rank(a, key, num_probes=4).value
    np.testing.assert_array_equal(
        spectra.diagonal(a, number, num_probes=4).value, spectra.diagonal(a, key, num_probes=4).value
    )
    one, other = (spectra.density(a, k, num_probes=2, num_steps=3).nodes for k in (number, key))
    np.testing.assert_array_equal(one, other)
    assert spectra.lanczos(a, 1, key=number).values == spectra.lanczos(a, 1, key=key).values
    assert spectra.extreme_values(a, 1, key=number).values == spectra.extreme_values(a, 1, key=key).values


def test_keys_of_the_old_kind_and_integers_for_drawn_labels():
    predict = lambda w, b: b[0] @ w.reshape(3, 1) * np.float32([[1.0, 2.0]])  # noqa: E731
    bound = lambda key: dense(spectra.fisher(predict, key).bind(W, BATCH))  # noqa: E731
    np.testing.assert_array_equal(bound(5), bound(jax.random.key(5)))
    np.testing.assert_array_equal(bound(jax.random.PRNGKey(5)), bound(jax.random.key(5)))
    a = spectra.matrix(np.diag([1.0, 2.0, 3.0]))
    traces = [spectra.trace(a, k, num_probes=2, method="hutchinson").value for k in (jax.random.PRNGKey(1), 1)]
    assert traces[0] == traces[1]


@pytest.mark.parametrize(
    "key",
    ["seed", 1.5, np.ones(3), True, jax.random.split(jax.random.key(0))],
    ids=["text", "float", "array", "boolean", "two_keys"],
)
def test_what_is_no_key_is_refused(key):
    refused(lambda: spectra.trace(spectra.matrix(np.diag([1.0, 2.0, 3.0])), key, num_probes=2), "key")


UNBOUND = {
    "lanczos": lambda a: spectra.lanczos(a, 1),
    "extreme_values": lambda a: spectra.extreme_values(a, 1),
    "trace": lambda a: spectra.trace(a, 0, num_probes=2),
    "density": lambda a: spectra.density(a, 0, num_probes=2, num_steps=2),
    "diagonal": lambda a: spectra.diagonal(a, 0, num_probes=2),
    "frobenius": lambda a: spectra.frobenius(a, 0, num_probes=2),
    "effective_rank": lambda a: spectra.effective_rank(a, 0, num_probes=3),
    "quadratic_form": lambda a: spectra.quadratic_form(a, W),
}


@pytest.mark.parametrize("name", UNBOUND)
@pytest.mark.parametrize("operator", [spectra.hessian(mse), mse, np.eye(3)], ids=["operator", "loss", "array"])
def test_what_is_not_bound_is_refused_with_the_remedy(name, operator):
    refused(lambda: UNBOUND[name](operator), "bind", "matrix")


def test_outputs_that_are_no_array_are_refused():
    predict = lambda w, b: {"logits": b[0] @ w.reshape(3, 1)}  # noqa: E731
    refused(lambda: dense(spectra.fisher(predict).bind(W, BATCH)), "outputs", "array")
    several = lambda w, b: (b[0] @ w.reshape(3, 1), w)  # noqa: E731
    refused(lambda: dense(spectra.fisher(several).bind(W, BATCH)), "outputs", "aux", "array")
    whole = lambda w, b: jnp.argmax(b[0] * w[None], axis=1)  # noqa: E731
    for operator in (spectra.ggn(whole, lambda f, b: jnp.mean(f * 1.0)), spectra.fisher(whole)):
        refused(lambda operator=operator: dense(operator.bind(W, BATCH)), "outputs", "float", "integer", "int32")


def test_outputs_of_a_tree_are_right_in_the_ggn():
    predict = lambda w, b: {"a": jnp.tanh(b[0] @ w), "n": [b[0] @ w]}  # noqa: E731
    loss = lambda f, b: jnp.mean((f["a"] - b[1]) ** 2) + 0 * jnp.sum(f["n"][0])  # noqa: E731
    right(spectra.ggn(predict, loss).bind(W, BATCH), 2 * oracle.second_moment(JACOBIAN))


def test_one_output_an_example_is_no_categorical_distribution():
    logit = lambda w, b: b[0] @ w  # noqa: E731
    for batches in (BATCH, [(X[:5], Y[:5]), (X[5:], Y[5:])]):
        refused(lambda batches=batches: dense(spectra.fisher(logit).bind(W, batches)), "bernoulli", "categorical")
    refused(lambda: dense(spectra.fisher(logit, 0).bind(W, BATCH)), "bernoulli", "categorical")
    p = 1 / (1 + np.exp(-X64 @ W64))
    exact = oracle.second_moment(X64 * np.sqrt(p * (1 - p))[:, None])
    right(spectra.fisher(logit, distribution="bernoulli").bind(W, BATCH), exact)
    right(spectra.fisher(logit, distribution="bernoulli").bind(W, [(X[:7], Y[:7]), (X[7:], Y[7:])]), exact)
    column = lambda w, b: b[0] @ w[:, None]  # noqa: E731
    right_or_refused(lambda: dense(spectra.fisher(column).bind(W, BATCH)), np.zeros((3, 3)), "categorical", "bernoulli")


def test_outputs_that_are_not_one_an_example_are_refused():
    pooled = lambda w, b: jnp.mean(b[0], axis=0) * w  # noqa: E731
    for distribution in ("categorical", "gaussian"):
        operator = spectra.fisher(pooled, distribution=distribution)
        refused(lambda operator=operator: dense(operator.bind(W, BATCH)), "example", "outputs")


NOT_FINITE = {
    "nan": lambda w, b: mse(w, b) + jnp.nan,
    "inf": lambda w, b: mse(w, b) + jnp.inf,
    "masked_nan": lambda w, b: mse(w, b) + jax.lax.stop_gradient(0.0 * jnp.log(-jnp.ones(()))),
}


@pytest.mark.parametrize("name", NOT_FINITE)
def test_a_loss_that_is_not_finite_is_refused_though_its_derivatives_are(name):
    loss = NOT_FINITE[name]
    words = ("NaN", "finite", "infinity")
    refused(lambda: dense(spectra.hessian(loss).bind(W, BATCH)), *words)
    refused(lambda: spectra.batch_sharpness(loss, W, BATCH), *words)
    each = lambda w, b: residuals(w, b) + (loss(w, b) - mse(w, b))  # noqa: E731
    refused(lambda: dense(spectra.gradient_covariance(each).bind(W, BATCH)), *words)
    refused(lambda: spectra.gradient_norms(each, W, BATCH), *words)
    refused(lambda: spectra.curvature_along(each, W, W, BATCH), *words)


def test_one_example_that_is_not_finite_in_a_later_batch_is_refused():
    x = X.copy()
    x[9, 0] = np.nan
    batches = [(x[:5], Y[:5]), (x[5:], Y[5:])]
    refused(lambda: dense(spectra.hessian(mse).bind(W, batches)), "NaN", "finite", "infinity")
    refused(lambda: spectra.lanczos(spectra.hessian(mse).bind(W, batches), 1), "NaN", "finite", "infinity")
    refused(lambda: spectra.gradient_norms(residuals, W, batches), "NaN", "finite", "infinity")


@pytest.mark.parametrize("method", ["xtrace", "xnystrace", "hutch++", "hutchinson"])
def test_a_loss_of_1e20_has_a_trace(method):
    big = lambda w, b: 1e20 * mse(w, b)  # noqa: E731
    bound = spectra.hessian(big).bind(W, BATCH) if method != "xnystrace" else spectra.matrix(1e20 * np.eye(3), psd=True)
    exact = np.trace(EXACT) if method != "xnystrace" else 3.0
    found = spectra.trace(bound, 0, num_probes=3, method=method)
    np.testing.assert_allclose(found.value, 1e20 * exact, rtol=1e-4)


def test_second_moments_of_a_part_of_the_parameters():
    params = {"a": jnp.asarray(W[:2]), "b": jnp.asarray(W[2:])}
    loss = lambda p, b: mse(jnp.concatenate([p["a"], p["b"]]), b)  # noqa: E731
    tx = optax.masked(optax.adam(1e-3), {"a": True, "b": False})
    state = tx.init(params)
    _, state = tx.update(jax.grad(loss)(params, BATCH[0]), state, params)
    adam = spectra.adam_state(state)
    diagonal = spectra.adam_preconditioner(adam.nu, adam.count, b2=0.999, eps=1e-8)
    operator = spectra.preconditioned(spectra.hessian(loss), diagonal)
    refused(lambda: dense(operator.bind(params, BATCH)), "b", "where", "masked", "preconditioner")
    root = np.abs(np.mean(GRADIENTS, axis=0))[:2]
    right(operator.bind(params, BATCH, "a"), EXACT[:2, :2] / np.sqrt(np.outer(root, root)))


def test_results_and_bound_operators_print_what_they_hold():
    bound = spectra.hessian(mse).bind(W, BATCH)
    text = repr(bound)
    assert all(part in text for part in ("hessian", "3", "10"))
    assert len(text) < 500
    assert len(repr(spectra.lanczos(bound, 1))) < 1000
    operator = bound.as_linear_operator()
    assert operator.shape == (3, 3)
    np.testing.assert_allclose(operator @ np.eye(3), EXACT, atol=1e-4 * np.abs(EXACT).max())
    np.testing.assert_allclose(operator @ W64, EXACT @ W64, atol=1e-4 * np.abs(EXACT).max())
