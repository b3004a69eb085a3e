"""Losses as people write them: with aux, for one fixed shape of batch, of a tree of outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from tests.spectra import oracle
from tests.spectra.one_layer import BATCH, EXACT, GRADIENTS, JACOBIAN, W, Y, dense, mse, residuals, right
from tests.spectra.verdicts import refused, right_or_refused


def with_aux(function):
    return lambda w, b: (function(w, b), {"count": jnp.ones(()), "seen": [b[0]]})


AUX = {
    "hessian": (lambda **s: spectra.hessian(with_aux(mse), **s), EXACT),
    "ggn": (
        lambda **s: spectra.ggn(with_aux(lambda w, b: jnp.tanh(b[0] @ w)), lambda f, b: jnp.mean((f - b[1]) ** 2), **s),
        2 * oracle.second_moment(JACOBIAN),
    ),
    "fisher": (
        lambda **s: spectra.fisher(with_aux(lambda w, b: jnp.tanh(b[0] @ w)), distribution="gaussian", **s),
        oracle.second_moment(JACOBIAN),
    ),
    "empirical_fisher": (
        lambda **s: spectra.empirical_fisher(with_aux(residuals), **s),
        oracle.second_moment(GRADIENTS),
    ),
    "gradient_covariance": (
        lambda **s: spectra.gradient_covariance(with_aux(residuals), **s),
        oracle.second_moment(GRADIENTS, centred=True),
    ),
}


@pytest.mark.parametrize("name", AUX)
def test_a_loss_with_aux_is_right_where_that_is_said_and_else_told_so(name):
    make, matrix = AUX[name]
    right(make(has_aux=True).bind(W, BATCH), matrix)
    refused(lambda: dense(make().bind(W, BATCH)), "has_aux", "aux")


def test_a_loss_without_aux_that_is_said_to_have_it_is_refused():
    refused(lambda: dense(spectra.hessian(mse, has_aux=True).bind(W, BATCH)), "aux")


def micro_batched(w, b):
    """Two micro-batches of five, accumulated."""
    pieces = b[0].reshape(2, 5, 3), b[1].reshape(2, 5)
    return jnp.mean(jax.vmap(lambda x, y: mse(w, (x, y)))(*pieces))


def closed_over(w, b):
    return jnp.mean((jnp.tanh(b[0] @ w) - Y) ** 2)


def with_eye(w, b):
    return jnp.mean(jnp.eye(10) @ residuals(w, b))


def with_assert(w, b):
    assert b[0].shape == (10, 3), "compiled for batches of ten"
    return mse(w, b)


def scanned(w, b):
    steps = jax.lax.scan(
        lambda total, row: (total + mse(w, row), None), 0.0, (b[0].reshape(5, 2, 3), b[1].reshape(5, 2))
    )
    return steps[0] / 5


def divided_by_ten(w, b):
    return jnp.sum(residuals(w, b)) / (b[0].shape[0] if b[0].shape[0] == 10 else {}[b[0].shape[0]])


FIXED = [micro_batched, closed_over, with_eye, with_assert, scanned, divided_by_ten]


@pytest.mark.parametrize("loss", FIXED)
def test_no_check_fails_in_a_loss_with_a_fixed_batch_shape(loss):
    bound = spectra.hessian(loss).bind(W, BATCH)
    right(bound)
    assert bound.unchecked, "the loss could not be called on half a batch, and that is said"
    assert all(isinstance(text, str) and len(text.split()) > 5 for text in bound.unchecked)
    right(spectra.hessian(loss).bind(W, BATCH, checks=False))


def test_no_check_fails_in_losses_of_examples_with_a_fixed_batch_shape():
    each = lambda w, b: (jnp.tanh(b[0] @ w) - Y) ** 2  # noqa: E731
    right(spectra.empirical_fisher(each).bind(W, BATCH), oracle.second_moment(GRADIENTS))
    right(spectra.gradient_covariance(each).bind(W, BATCH), oracle.second_moment(GRADIENTS, centred=True))
    predict = lambda w, b: jnp.eye(10) @ jnp.tanh(b[0] @ w)  # noqa: E731
    right(spectra.fisher(predict, distribution="gaussian").bind(W, BATCH), oracle.second_moment(JACOBIAN))
    along = spectra.curvature_along(each, W, np.ones(3, np.float32), BATCH)
    unit = np.ones(3) / np.sqrt(3)
    np.testing.assert_allclose(along.mean(), unit @ EXACT @ unit, rtol=1e-4)
    sharpness = spectra.batch_sharpness(micro_batched, W, BATCH)
    g = GRADIENTS.mean(axis=0)
    np.testing.assert_allclose(sharpness.value, g @ EXACT @ g / (g @ g), rtol=1e-4)
    assert spectra.batch_gradients(micro_batched, W, BATCH * 2).shape == (2, 3)


def test_a_loss_that_raises_on_the_whole_batch_raises_its_own_error():
    def broken(w, b):
        raise KeyError("labels")

    with pytest.raises(KeyError, match="labels"):
        spectra.hessian(broken).bind(W, BATCH).matvec(W)


OF_THE_WHOLE = {
    "labels_in_a_closure": lambda w, b: (jnp.tanh(b[0] @ w) - Y) ** 2,
    "eye": lambda w, b: jnp.eye(10) @ residuals(w, b),
    "reshaped": lambda w, b: residuals(w, (b[0].reshape(2, 5, 3), b[1].reshape(2, 5))).reshape(10),
    "positions": lambda w, b: residuals(w, b) * (1 + jnp.arange(10.0) / 10),
}


@pytest.mark.parametrize("checks", [True, False])
@pytest.mark.parametrize("name", OF_THE_WHOLE)
def test_norms_of_examples_whose_loss_needs_the_whole_batch_are_right_or_refused(name, checks):
    """Each example is differentiated alone: a loss that knows where in the batch it is must not be given another's place."""
    factor = 1 + np.arange(10.0)[:, None] / 10 if name == "positions" else 1.0
    rows, words = GRADIENTS * factor, ("one example", "alone", "batch", "shape")
    loss = OF_THE_WHOLE[name]
    right_or_refused(lambda: spectra.gradient_norms(loss, W, BATCH), np.sum(rows**2, axis=1), *words)
    trace = np.trace(oracle.second_moment(rows, centred=True))
    right_or_refused(lambda: spectra.covariance_trace(loss, W, BATCH), trace, *words)
    bound = lambda: np.trace(dense(spectra.gradient_covariance(loss).bind(W, BATCH, checks=checks)))  # noqa: E731
    right_or_refused(bound, trace, *words)
