"""tanh of a linear map of ten examples, with its dense matrices in float64."""

import jax.numpy as jnp
import numpy as np

from tests.spectra import oracle

RANDOM = np.random.default_rng(0)
X, W = np.float32(RANDOM.normal(size=(10, 3))), np.float32([0.3, 0.1, -0.4])
Y = np.float32(RANDOM.normal(size=10))
X64, Y64, W64 = np.float64(X), np.float64(Y), np.float64(W)
BATCH = [(X, Y)]


def residuals(w, b):
    return (jnp.tanh(b[0] @ w) - b[1]) ** 2


def mse(w, b):
    return jnp.mean(residuals(w, b))


EXACT = oracle.hessian(lambda w: mse(w, (X64, Y64)), W64)
JACOBIAN = oracle.jacobian(lambda w: jnp.tanh(X64 @ w), W64)
GRADIENTS = oracle.jacobian(lambda w: residuals(w, (X64, Y64)), W64)


def dense(bound):
    return np.asarray(bound.matmat(jnp.eye(bound.size)))


def right(bound, matrix=EXACT):
    np.testing.assert_allclose(dense(bound), matrix, atol=1e-4 * np.abs(matrix).max())
