"""What a model's outputs say of the labels: the distributions behind the Fisher information."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Distribution(NamedTuple):
    """p(y | outputs) of one example, and its Fisher information in output space.

    Attributes:
        log_prob: `(output, y) -> scalar`, the sum over all entries of one example.
        sample: `(key, output) -> y`.
        parameters: outputs -> what `fisher` needs of them.
        fisher: `(parameters, u) -> F u`, F = E_y[grad log p grad log p^T] over outputs, block by block.
    """

    log_prob: Callable
    sample: Callable
    parameters: Callable
    fisher: Callable


def _categorical_log_prob(logits: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.sum(jnp.take_along_axis(jax.nn.log_softmax(logits), y[..., None], axis=-1))


def _categorical_fisher(p: jax.Array, u: jax.Array) -> jax.Array:
    """(diag(p) - p p^T) u, without forming it; centred first, so that nothing cancels."""
    return p * (u - jnp.sum(p * u, axis=-1, keepdims=True))


def _bernoulli_log_prob(logit: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.sum(y * jax.nn.log_sigmoid(logit) + (1 - y) * jax.nn.log_sigmoid(-logit))


def _bernoulli_sample(key: jax.Array, logit: jax.Array) -> jax.Array:
    return jax.random.bernoulli(key, jax.nn.sigmoid(logit)).astype(logit.dtype)


def _gaussian_log_prob(mean: jax.Array, y: jax.Array) -> jax.Array:
    return -jnp.sum(jnp.square(y - mean)) / 2


def _gaussian_sample(key: jax.Array, mean: jax.Array) -> jax.Array:
    return mean + jax.random.normal(key, mean.shape, mean.dtype)


# name -> Distribution; the loss whose GGN equals the Fisher information is, in this order, softmax cross-entropy,
# sigmoid cross-entropy and half the squared error, each the mean over examples of the sum over an example's entries
DISTRIBUTIONS: dict[str, Distribution] = {
    "categorical": Distribution(_categorical_log_prob, jax.random.categorical, jax.nn.softmax, _categorical_fisher),
    "bernoulli": Distribution(
        _bernoulli_log_prob,
        _bernoulli_sample,
        lambda logit: jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit),
        jnp.multiply,
    ),
    "gaussian": Distribution(_gaussian_log_prob, _gaussian_sample, lambda mean: mean, lambda mean, u: u),
}
