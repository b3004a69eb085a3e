"""Output distributions p(y | outputs) of a model, and their Fisher information in output space."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, PRNGKeyArray, Shaped


class Distribution(NamedTuple):
    """p(y | outputs) of one example, and its Fisher information in output space.

    Attributes:
        log_prob: `(output, y) -> scalar`, the sum over all entries of one example.
        sample: `(key, output) -> y`.
        parameters: outputs -> the parameters of the distribution that `fisher` takes.
        fisher: `(parameters, u) -> F u`, F = E_y[grad log p grad log p^T] over outputs, block by block.
        axes: of outputs, at least: that of the examples, and those that make one variable, such as that of classes.

    References:
        Martens 2020, New insights and perspectives on the natural gradient method, section 9.

    Example:
        >>> normal = DISTRIBUTIONS["gaussian"]
        >>> float(normal.log_prob(jnp.array([1.0, 2.0]), jnp.array([1.0, 4.0])))  # up to a constant
        -2.0
        >>> logits = jnp.zeros((1, 2))
        >>> categorical = DISTRIBUTIONS["categorical"]
        >>> categorical.fisher(categorical.parameters(logits), jnp.array([[1.0, 0.0]])).tolist()  # diag(p) - p p^T
        [[0.25, -0.25]]
    """

    log_prob: Callable[[Float[Array, "..."], Shaped[Array, "..."]], Float[Array, ""]]
    sample: Callable[[PRNGKeyArray, Float[Array, "..."]], Shaped[Array, "..."]]
    parameters: Callable[[Float[Array, "n ..."]], Any]
    fisher: Callable[[Any, Float[Array, "n ..."]], Float[Array, "n ..."]]
    axes: int = 1


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


DISTRIBUTIONS: dict[str, Distribution] = {
    "categorical": Distribution(
        _categorical_log_prob, jax.random.categorical, jax.nn.softmax, _categorical_fisher, axes=2
    ),
    "bernoulli": Distribution(
        _bernoulli_log_prob,
        _bernoulli_sample,
        lambda logit: jax.nn.sigmoid(logit) * jax.nn.sigmoid(-logit),
        jnp.multiply,
    ),
    "gaussian": Distribution(_gaussian_log_prob, _gaussian_sample, lambda mean: mean, lambda mean, u: u),
}
"""Output distributions by name, for `fisher`.

The loss whose GGN equals the Fisher information is softmax cross-entropy for "categorical", sigmoid cross-entropy for
"bernoulli" and half the squared error for "gaussian", each the mean over examples of the sum over an example's entries.

References:
    Martens 2020, New insights and perspectives on the natural gradient method, section 9.
"""
