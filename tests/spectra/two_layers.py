"""A network of two layers in a dict, its Hessian in float64, and comparisons with it: for the tests of parameters."""

import jax.numpy as jnp
import numpy as np

from lrjax import spectra
from tests.spectra import oracle

RANDOM = np.random.default_rng(0)
X, Y = np.float32(RANDOM.normal(size=(10, 3))), np.float32(RANDOM.normal(size=(10, 1)))
X64, Y64 = np.float64(X), np.float64(Y)
BATCHES = [(X[:6], Y[:6]), (X[6:], Y[6:])]
HIDDEN, OUT = np.float32(RANDOM.normal(size=(3, 4))), np.float32(RANDOM.normal(size=(4, 1)))
PARAMS = {"hidden": jnp.asarray(HIDDEN), "out": jnp.asarray(OUT)}


def loss(p, b):
    return jnp.mean((jnp.tanh(b[0] @ p["hidden"]) @ p["out"] - b[1]) ** 2)


OPERATOR = spectra.hessian(loss)
COORDINATES = oracle.Coordinates(PARAMS)
EXACT = oracle.hessian(lambda v: loss(COORDINATES.fill(v), (X64, Y64)), COORDINATES.start)


def dense(bound):
    return np.asarray(bound.matmat(jnp.eye(bound.size)))


def right(bound, matrix):
    assert bound.size == len(matrix)
    np.testing.assert_allclose(dense(bound), matrix, atol=1e-4 * np.abs(matrix).max())


def same_spectrum(bound, matrix):
    assert bound.size == len(matrix)
    values = oracle.eigenvalues(matrix)
    np.testing.assert_allclose(oracle.eigenvalues(dense(bound)), values, atol=1e-4 * np.abs(values).max())
