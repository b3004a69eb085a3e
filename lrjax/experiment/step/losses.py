"""Losses per example: (model output, label) -> loss."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


def square(output: jax.Array, y: jax.Array) -> jax.Array:
    """(f - y)^2, without a half (benign oscillation, section 2.3)."""
    return jnp.square(output - y)


def half_square(output: jax.Array, y: jax.Array) -> jax.Array:
    """(f - y)^2 / 2."""
    return jnp.square(output - y) / 2


def logistic(output: jax.Array, y: jax.Array) -> jax.Array:
    """log(1 + exp(-y f)) for labels of -1 and 1."""
    return jax.nn.softplus(-output * y)


# per example: (model output, label) -> loss
LOSSES: dict[str, Callable] = {
    "square": square,
    "half_square": half_square,
    "logistic": logistic,
    "cross_entropy": optax.softmax_cross_entropy_with_integer_labels,
}
