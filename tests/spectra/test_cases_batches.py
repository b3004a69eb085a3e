"""Whose batch is how large: padding, tokens, constants among the leaves, sums, time-major arrays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrjax import spectra
from lrjax.errors import LrjaxError
from tests.spectra import oracle
from tests.spectra.verdicts import refused, right_or_refused

RANDOM = np.random.default_rng(0)
X, W = np.float32(RANDOM.normal(size=(10, 3))), np.float32([0.3, 0.1, -0.4])
Y = np.float32(np.sin(X[:, 0]) + X[:, 1] ** 2)
X64, Y64, W64 = np.float64(X), np.float64(Y), np.float64(W)
WORDS = ("weight", "mean", "examples", "additive", "halves")
LENGTHS = ("in_axes", "length", "axis", "leaves")


def residuals(w, x, y):
    return (jnp.tanh(x @ w) - y) ** 2


def exact(weights=None):
    """The Hessian of the weighted mean over all examples."""
    share = np.ones(10) if weights is None else np.float64(weights)
    return oracle.hessian(lambda w: jnp.sum(share / share.sum() * residuals(w, X64, Y64)), W64)


def gradients(factor=1.0):
    return oracle.jacobian(lambda w: factor * residuals(w, X64, Y64), W64)


def dense(bound):
    return np.asarray(bound.matmat(jnp.eye(bound.size)))


def right(bound, matrix):
    np.testing.assert_allclose(dense(bound), matrix, atol=1e-4 * np.abs(matrix).max())


def padded(start, stop, to=8):
    more = to - (stop - start)
    fill = lambda a: np.concatenate([a[start:stop], np.zeros((more, *a.shape[1:]), a.dtype)])  # noqa: E731
    return {"m": np.float32(np.arange(to) < stop - start), "x": fill(X), "y": fill(Y)}


def masked_mean(w, b):
    return jnp.sum(b["m"] * residuals(w, b["x"], b["y"])) / jnp.sum(b["m"])


def mask_sum(b):
    return jnp.sum(b["m"])


PADDED = {
    "last": [padded(0, 8), padded(8, 10)],
    "first": [padded(0, 2), padded(2, 10)],
    "both": [padded(0, 5, 7), padded(5, 10, 7)],
    "alone": [padded(0, 10, 16)],
    "three": [padded(0, 8), padded(8, 9), padded(9, 10)],
}


@pytest.mark.parametrize("name", PADDED)
def test_padded_batches_are_right_with_their_weights(name):
    right(spectra.hessian(masked_mean).bind(W, PADDED[name], weight=mask_sum), exact())


@pytest.mark.parametrize("name", PADDED)
def test_padded_batches_are_right_or_refused_without(name):
    bind = spectra.hessian(masked_mean).bind
    right_or_refused(lambda: dense(bind(W, PADDED[name])), exact(), *WORDS, atol=1e-4)


def test_padded_batches_of_the_other_matrices():
    each = lambda w, b: residuals(w, b["x"], b["y"])  # noqa: E731
    told = dict(weight=lambda b: b["m"])
    right(spectra.empirical_fisher(each).bind(W, PADDED["last"], **told), oracle.second_moment(gradients()))
    covariance = oracle.second_moment(gradients(), centred=True)
    right(spectra.gradient_covariance(each).bind(W, PADDED["last"], **told), covariance)
    trace = spectra.covariance_trace(each, W, PADDED["last"], **told)
    np.testing.assert_allclose(trace, np.trace(covariance), rtol=1e-4)
    predict = lambda w, b: jnp.tanh(b["x"] @ w)  # noqa: E731
    of_outputs = lambda f, b: jnp.sum(b["m"] * (f - b["y"]) ** 2) / jnp.sum(b["m"])  # noqa: E731
    jacobian = oracle.jacobian(lambda w: jnp.tanh(X64 @ w), W64)
    gauss_newton = 2 * oracle.second_moment(jacobian)
    right(spectra.ggn(predict, of_outputs).bind(W, PADDED["last"], weight=mask_sum), gauss_newton)
    fisher = spectra.fisher(predict, distribution="gaussian").bind(W, PADDED["last"], **told)
    right(fisher, oracle.second_moment(jacobian))


def test_a_batch_of_padding_alone_is_right_or_refused():
    batches = [padded(0, 10, 12), padded(10, 10, 12)]
    right_or_refused(
        lambda: dense(spectra.hessian(masked_mean).bind(W, batches, weight=mask_sum)), exact(), rtol=1e-3, atol=1e-4
    )


MASK = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]], bool)
TOKENS = np.float32(RANDOM.normal(size=(6, 4, 3)))
TARGETS = np.float32(RANDOM.normal(size=(6, 4)))


def token_mean(w, b):
    return jnp.sum(b["mask"] * residuals(w, b["tokens"], b["targets"])) / jnp.sum(b["mask"])


@pytest.mark.parametrize("sizes", [(1, 5), (2, 2, 2), (3, 3), (5, 1), (6,)])
def test_means_over_valid_tokens(sizes):
    every = np.float64(TOKENS), np.float64(TARGETS)
    matrix = oracle.hessian(lambda w: jnp.sum(MASK * residuals(w, *every)) / MASK.sum(), W64)
    batches, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        batches.append({"mask": MASK[rows], "tokens": TOKENS[rows], "targets": TARGETS[rows]})
        start += size
    operator = spectra.hessian(token_mean)
    right(operator.bind(W, batches, weight=lambda b: jnp.sum(b["mask"])), matrix)
    right(operator.bind(W, batches, weight=lambda b: int(np.sum(b["mask"]))), matrix)
    right_or_refused(lambda: dense(operator.bind(W, batches)), matrix, *WORDS, atol=1e-4)


def test_weights_of_examples():
    weights = np.float32(RANDOM.uniform(0.1, 3.0, 10))
    batches = [{"w": weights[s], "x": X[s], "y": Y[s]} for s in (slice(0, 7), slice(7, 10))]
    loss = lambda w, b: jnp.sum(b["w"] * residuals(w, b["x"], b["y"])) / jnp.sum(b["w"])  # noqa: E731
    each = lambda w, b: residuals(w, b["x"], b["y"])  # noqa: E731
    right(spectra.hessian(loss).bind(W, batches, weight=lambda b: jnp.sum(b["w"])), exact(weights))
    right(spectra.hessian(loss).bind(W, batches, weight=lambda b: b["w"]), exact(weights))
    right_or_refused(lambda: dense(spectra.hessian(loss).bind(W, batches)), exact(weights), *WORDS, atol=1e-4)
    covariance = oracle.second_moment(gradients(), weights, centred=True)
    right(spectra.gradient_covariance(each).bind(W, batches, weight=lambda b: b["w"]), covariance)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), 0.0, np.ones(3)], ids=str)
def test_weights_that_are_none_are_refused(weight):
    refused(lambda: spectra.hessian(masked_mean).bind(W, PADDED["last"], weight=lambda b: weight), "weight")


def plain(first=None, **more):
    """8 + 2 examples in dicts, with a leaf that holds none."""
    return [more | {"x": X[s], "y": Y[s]} for s in (slice(0, 8), slice(8, 10))]


def plain_mean(w, b):
    return jnp.mean(residuals(w, b["x"], b["y"]))


# The leaf, its factor of the loss, and whether its shape alone tells that it holds no examples.
CONSTANTS = {
    "dropout_rng": (jax.random.PRNGKey(0), False),
    "class_weights": (np.float32([0.5, 1.0, 2.0]), False),
    "a_matrix": (np.float32(RANDOM.normal(size=(5, 2))), False),
    "a_scalar": (np.float32(0.1), True),
    "a_number": (0.5, True),
    "a_typed_key": (jax.random.key(0), True),
    "a_step": (np.int32(7), True),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_leaf_that_holds_no_examples_is_right_where_that_is_said(name):
    batches = plain(**{name: CONSTANTS[name][0]})
    bound = spectra.hessian(plain_mean).bind(W, batches, in_axes={name: None, "x": 0, "y": 0})
    right(bound, exact())
    assert bound.num_examples == 10


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_leaf_that_holds_no_examples_is_seen_by_its_shape_or_refused(name):
    leaf, seen = CONSTANTS[name]
    bind = lambda: spectra.hessian(plain_mean).bind(W, plain(**{name: leaf}))  # noqa: E731
    if seen:
        right(bind(), exact())
    else:
        refused(bind, *LENGTHS)


def test_one_axis_of_a_prefix_of_the_batch():
    batches = [{"inputs": b, "aux": {"rng": jax.random.PRNGKey(1), "temperature": np.ones(3)}} for b in plain()]
    loss = lambda w, b: plain_mean(w, b["inputs"])  # noqa: E731
    right(spectra.hessian(loss).bind(W, batches, in_axes={"inputs": 0, "aux": None}), exact())


LONG = np.float32([0.5, 1.0, 2.0, 3.0])
LABELS = np.arange(10) % 4


def class_losses(w, b):
    return b["c"][b["labels"]] * residuals(w, b["x"], b["y"])


def of_four(stop=8):
    """Batches of four, as many as there are classes."""
    return [{"c": LONG, "labels": LABELS[i : i + 4], "x": X[i : i + 4], "y": Y[i : i + 4]} for i in range(0, stop, 4)]


def test_a_constant_leaf_as_long_as_the_batch_is_not_taken_apart():
    rows = gradients(np.float64(LONG)[LABELS])[:8]
    norms, axes = np.sum(rows**2, axis=1), {"c": None, "labels": 0, "x": 0, "y": 0}
    near = dict(rtol=1e-4)
    np.testing.assert_allclose(spectra.gradient_norms(class_losses, W, of_four(), in_axes=axes), norms, **near)
    trace = np.trace(oracle.second_moment(rows, centred=True))
    np.testing.assert_allclose(spectra.covariance_trace(class_losses, W, of_four(), in_axes=axes), trace, **near)
    right(spectra.empirical_fisher(class_losses).bind(W, of_four(), in_axes=axes), oracle.second_moment(rows))
    right_or_refused(lambda: spectra.gradient_norms(class_losses, W, of_four()), norms, *LENGTHS, *WORDS)
    right_or_refused(lambda: spectra.covariance_trace(class_losses, W, of_four()), trace, *LENGTHS, *WORDS)


def test_a_positional_bias_as_long_as_the_batch_is_right_where_that_is_said():
    bias = np.float32([0.1, -0.2, 0.3, 0.4])
    losses = lambda w, b: residuals(w, b[1], b[2]) * (1 + jnp.sum(b[0] ** 2))  # noqa: E731
    batches, factor = [(bias, X[i : i + 4], Y[i : i + 4]) for i in (0, 4)], 1 + np.sum(np.float64(bias) ** 2)
    norms = np.sum(gradients(factor)[:8] ** 2, axis=1)
    measured = spectra.gradient_norms(losses, W, batches, in_axes=(None, 0, 0))
    np.testing.assert_allclose(measured, norms, rtol=1e-4)


def test_time_major_batches():
    tokens, targets = np.moveaxis(TOKENS, 0, 1), TARGETS.T
    batches = [(tokens[:, s], targets[:, s]) for s in (slice(0, 5), slice(5, 6))]
    loss = lambda w, b: jnp.mean(residuals(w, *b))  # noqa: E731
    every = np.float64(TOKENS), np.float64(TARGETS)
    matrix = oracle.hessian(lambda w: jnp.mean(residuals(w, *every)), W64)
    bound = spectra.hessian(loss).bind(W, batches, in_axes=1)
    assert bound.num_examples == 6
    right(bound, matrix)
    each = lambda w, b: jnp.mean(residuals(w, *b), axis=0)  # noqa: E731
    rows = oracle.jacobian(lambda w: jnp.mean(residuals(w, *every), axis=1), W64)
    norms = spectra.gradient_norms(each, W, batches, in_axes=1)
    np.testing.assert_allclose(norms, np.sum(rows**2, axis=1), rtol=1e-4)


def test_sums_over_the_batch():
    total = lambda w, b: jnp.sum(residuals(w, b["x"], b["y"]))  # noqa: E731
    operator = spectra.hessian(total)
    right(operator.bind(W, plain(), weight=lambda b: 1, num_examples=10), exact())
    right(operator.bind(W, plain(), weight=lambda b: 1, num_examples=1), 10 * exact())
    for batches in (plain(), plain()[:1]):
        refused(lambda batches=batches: dense(operator.bind(W, batches)), *WORDS)
    per_batch = lambda w, b: jnp.sum(residuals(w, b["x"], b["y"])) / 8  # noqa: E731 -- the usual batch size
    refused(lambda: dense(spectra.hessian(per_batch).bind(W, plain())), *WORDS)


def test_a_loss_over_pairs_of_the_batch_is_refused_or_allowed_by_name():
    def contrastive(w, b):
        z = jnp.tanh(b["x"] * w[None])
        return jnp.mean((z @ z.T) ** 2)

    refused(lambda: dense(spectra.hessian(contrastive).bind(W, plain())), *WORDS)
    bound = spectra.hessian(contrastive).bind(W, plain()[:1], additive=False)
    matrix = oracle.hessian(lambda w: contrastive(w, {"x": X64[:8]}), W64)
    right(bound, matrix)


@pytest.mark.parametrize("form", ["list", "tuple", "function", "loader"])
def test_the_forms_in_which_batches_come(form):
    class Loader:
        def __iter__(self):
            return iter(plain())

    source = {"list": plain(), "tuple": tuple(plain()), "function": lambda: iter(plain()), "loader": Loader()}[form]
    right(spectra.hessian(plain_mean).bind(W, source), exact())


def test_an_iterator_that_can_be_read_once_is_refused():
    refused(lambda: spectra.hessian(plain_mean).bind(W, iter(plain())), "iterator", "fresh")
    refused(lambda: spectra.hessian(plain_mean).bind(W, (b for b in plain())), "iterator", "fresh")


def test_no_weight_and_no_axis_is_forgotten_silently():
    """A leaf of another length in a later batch alone."""
    batches = [*plain(), {"x": X[:4], "y": Y[:3]}]
    with pytest.raises(LrjaxError):
        spectra.hessian(lambda w, b: jnp.mean(residuals(w, b["x"][:3], b["y"][:3]))).bind(W, batches)
