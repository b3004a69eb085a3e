"""What is called converged is right: products are compared with the recurrence, and streams with themselves."""

import contextlib
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from lrjax.errors import LrjaxError
from tests.spectra import oracle
from tests.spectra.verdicts import refused, right_or_refused

RANDOM = np.random.default_rng(0)
X, Y = np.float32(RANDOM.normal(size=(10, 3))), np.float32(RANDOM.normal(size=10))
W = np.float32([0.3, -0.2, 0.4])
STREAM = ("stream", "batches", "shuffles", "pass")


def mse(w, batch):
    return jnp.mean((jnp.tanh(batch[0] @ w) - batch[1]) ** 2)


def exact(x=X, y=Y):
    """The Hessian in float64."""
    x, y = np.float64(x), np.float64(y)
    return oracle.hessian(lambda w: mse(w, (x, y)), np.float64(W))


def top(bound):
    return spectra.lanczos(bound, 1).values[0]


def streamed(change, since=0):
    """A function that gives two batches, changed anew at every pass from number `since` on."""
    passes = itertools.count()

    def batches():
        number = next(passes)
        x, y = change(X, Y, np.random.default_rng(number)) if number >= since else (X, Y)
        return iter([(x[:6], y[:6]), (x[6:], y[6:])])

    return batches


CHANGES = {
    "fresh_noise": lambda x, y, random: (x + np.float32(0.3 * random.normal(size=x.shape)), y),
    "fresh_labels": lambda x, y, random: (x, np.float32(random.normal(size=y.shape))),
    "tiny_noise": lambda x, y, random: (x + np.float32(1e-3 * random.normal(size=x.shape)), y),
    "last_batch_only": lambda x, y, random: (np.r_[x[:6], x[6:] * np.float32(random.uniform(1, 2))], y),
    "flips": lambda x, y, random: (x * np.float32(random.choice([-1.0, 1.0], (len(x), 1))), y),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("operator", [spectra.hessian, spectra.gradient_covariance], ids=["hessian", "covariance"])
def test_a_stream_that_gives_other_examples_at_each_pass_is_refused(change, operator):
    losses = lambda w, b: (jnp.tanh(b[0] @ w) - b[1]) ** 2  # noqa: E731
    bind = operator(mse if operator is spectra.hessian else losses).bind
    refused(lambda: top(bind(W, streamed(CHANGES[change]))), *STREAM)


@pytest.mark.parametrize("measure", ["trace", "frobenius", "density", "extreme_values", "matvec"])
def test_every_algorithm_refuses_it(measure):
    measures = {
        "trace": lambda bound: spectra.trace(bound, 0, num_probes=2, method="hutchinson"),
        "frobenius": lambda bound: spectra.frobenius(bound, 0, num_probes=2),
        "density": lambda bound: spectra.density(bound, 0, num_probes=2, num_steps=2),
        "extreme_values": lambda bound: spectra.extreme_values(bound, 1),
        "matvec": lambda bound: bound.matvec(W),
    }
    bind = spectra.hessian(mse).bind
    refused(lambda: measures[measure](bind(W, streamed(CHANGES["fresh_noise"]))), *STREAM)


@pytest.mark.parametrize("since", [2, 3, 4])
def test_a_stream_that_changes_later_is_not_called_converged(since):
    try:
        bound = spectra.hessian(mse).bind(W, streamed(CHANGES["fresh_noise"], since))
        found = spectra.lanczos(bound, 1)
    except LrjaxError:
        return
    right = oracle.eigenvalues(exact())[-1]
    assert not found.converged[0] or abs(found.values[0] - right) < 1e-3 * right


def test_a_loader_that_shuffles_is_right_where_that_is_said():
    def permuted(x, y, random):
        order = random.permutation(len(x))
        return x[order], y[order]

    bound = spectra.hessian(mse).bind(W, streamed(permuted), shuffles=True)
    np.testing.assert_allclose(top(bound), oracle.eigenvalues(exact())[-1], rtol=1e-3)
    unsaid = lambda: top(spectra.hessian(mse).bind(W, streamed(permuted)))  # noqa: E731
    right_or_refused(unsaid, oracle.eigenvalues(exact())[-1], "shuffles")


def half_precision(dtype):
    def loss(p, batch):
        hidden = jnp.tanh(batch[0].astype(dtype) @ p["w"].astype(dtype)) @ p["v"].astype(dtype)
        return jnp.mean((hidden.astype(jnp.float32) - batch[1]) ** 2)

    return loss


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("verify", [True, "all"])
def test_residuals_are_those_of_products_where_the_model_computes_in_half_precision(dtype, k, verify):
    random = np.random.default_rng(5)
    p = {"w": np.float32(random.normal(size=(3, 8))), "v": np.float32(random.normal(size=8))}
    bound = spectra.hessian(half_precision(dtype)).bind(p, [(X, Y)])
    found = spectra.lanczos(bound, k, tol=1e-4, verify=verify)
    vectors = np.asarray(found.vectors, np.float64)
    true = np.linalg.norm(np.asarray(bound.matmat(found.vectors)) - found.values[:, None] * vectors, axis=1)
    honest = true <= 3 * np.maximum(found.residuals, 1e-4 * np.abs(found.values))
    assert honest.all(), f"residuals {found.residuals}, true {true}"
    assert (true <= 3e-4 * np.abs(found.values))[found.converged].all()


def product_of(a):
    return lambda rows: jnp.asarray(rows) @ jnp.asarray(a, jnp.float32).T


A = np.diag([5.0, 3.0, 2.0, 1.0, 0.5])
SKEW = np.triu(np.ones((5, 5)), 1)
CROOKED = {
    "triangular": product_of(A + SKEW),
    "rotation": product_of(A + 2 * (SKEW - SKEW.T)),
    "slightly_crooked": product_of(A + 0.2 * SKEW),
    "affine": lambda rows: product_of(A)(rows) + 1.0,
    "nonlinear": lambda rows: product_of(A)(rows) * jnp.abs(rows) * 3,
    "random": lambda rows: product_of(A)(rows) + jnp.asarray(RANDOM.normal(size=rows.shape), jnp.float32),
}


@pytest.mark.parametrize("name", CROOKED)
def test_a_map_that_is_not_linear_and_symmetric_is_not_called_converged(name):
    try:
        found = spectra.lanczos(spectra.from_function(CROOKED[name], 5), 1, tol=1e-4)
    except LrjaxError:
        return
    assert not found.converged[0], f"{found.values} +- {found.residuals}"


def test_a_symmetric_map_is_called_converged():
    found = spectra.lanczos(spectra.from_function(product_of(A), 5), 2, tol=1e-4)
    np.testing.assert_allclose(found.values, [5.0, 3.0], rtol=1e-5)
    assert found.converged.all()


def test_a_derivative_rule_that_makes_no_symmetric_matrix_is_not_called_converged():
    @jax.custom_jvp
    def gate(w):
        return jnp.tanh(w)

    gate.defjvp(lambda primals, tangents: (gate(primals[0]), tangents[0] * jnp.cumsum(jnp.cos(3 * primals[0]))))
    bound = spectra.hessian(lambda w, b: jnp.mean((b[0] @ gate(w) - b[1]) ** 2)).bind(W, [(X, Y)])
    dense = np.asarray(bound.matmat(jnp.eye(3)))
    assert np.abs(dense - dense.T).max() > 0.1 * np.abs(dense).max()
    with contextlib.suppress(LrjaxError):
        assert not spectra.lanczos(bound, 1, tol=1e-4).converged[0]


@pytest.mark.parametrize(("verify", "more"), [(False, 0), (True, 1), ("all", 2)])
def test_verifying_costs_one_product_or_one_a_pair_and_they_are_counted(verify, more):
    bound = spectra.matrix(A)
    found = spectra.lanczos(bound, 2, verify=verify)
    assert found.products == bound.products
    plain = spectra.lanczos(spectra.matrix(A), 2, verify=False)
    assert found.products == plain.products + more
    np.testing.assert_allclose(found.values, [5.0, 3.0], rtol=1e-5)


def test_the_multiplicity_that_could_be_seen_is_told():
    twice = spectra.matrix(np.diag([5.0, 5.0, 3.0, 1.0, 0.5]))
    assert spectra.lanczos(twice, 2).multiplicity == 1
    both = spectra.lanczos(twice, 2, block=2)
    assert both.multiplicity == 2
    np.testing.assert_allclose(both.values, [5.0, 5.0], rtol=1e-5)


def test_the_warm_start_of_another_problem_does_not_mislead():
    before = spectra.lanczos(spectra.hessian(mse).bind(W, [(X, Y)]), 1)
    bound = spectra.hessian(mse).bind(W, [(X[::-1] ** 3, Y)])
    right = oracle.eigenvalues(exact(X[::-1] ** 3))[-1]
    np.testing.assert_allclose(spectra.lanczos(bound, 1, start=before.vectors).values[0], right, rtol=1e-3)
