"""Dense curvature matrices in float64, made example by example and without lrjax: what measurements are compared with."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def in_float64(compute):
    """The function with float64 switched on, its result as numpy arrays."""

    @functools.wraps(compute)
    def precise(*args, **settings):
        with jax.enable_x64(True), jax.default_matmul_precision("highest"):
            return jax.tree.map(np.asarray, compute(*args, **settings))

    return precise


def double(tree):
    """The tree with real leaves as float64 and complex ones as complex128; keys, integers and booleans stay."""

    def one(leaf):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        array = np.asarray(leaf)
        if jnp.issubdtype(array.dtype, jnp.complexfloating):
            return array.astype(np.complex128)
        return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array

    return jax.tree.map(one, tree)


class Coordinates:
    """The chosen real numbers of a tree as one vector: the leaves in order, of a complex one the real part first."""

    def __init__(self, params, chosen=None):
        self.leaves, self.treedef = jax.tree.flatten(double(params))
        floating = [isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fc" for leaf in self.leaves]
        self.chosen = [real and (chosen is None or chosen[i]) for i, real in enumerate(floating)]
        parts = [
            part
            for leaf, mine in zip(self.leaves, self.chosen, strict=True)
            if mine
            for part in ((leaf.real, leaf.imag) if leaf.dtype.kind == "c" else (leaf,))
        ]
        self.start = np.concatenate([part.ravel() for part in parts])

    def fill(self, vector):
        """The whole tree with the chosen numbers replaced."""
        leaves, place = [], 0
        for leaf, mine in zip(self.leaves, self.chosen, strict=True):
            if not mine:
                leaves.append(leaf)
                continue
            parts = []
            for _ in range(2 if leaf.dtype.kind == "c" else 1):
                parts.append(vector[place : place + leaf.size].reshape(leaf.shape))
                place += leaf.size
            leaves.append(jax.lax.complex(*parts) if len(parts) == 2 else parts[0])
        return jax.tree.unflatten(self.treedef, leaves)


@in_float64
def hessian(loss, at):
    """[D, D] of a function of the vector `at`."""
    return jax.jit(jax.hessian(loss))(jnp.asarray(at))


@in_float64
def jacobian(outputs, at):
    """[..., D] of a function of the vector `at`."""
    return jax.jit(jax.jacobian(outputs))(jnp.asarray(at))


def second_moment(gradients, weights=None, centred=False):
    """Weighted mean of g_i g_i^T, or of their distances from the weighted mean: gradients [n, D], weights [n]."""
    gradients = np.asarray(gradients, np.float64)
    share = np.ones(len(gradients)) if weights is None else np.asarray(weights, np.float64)
    share = share / share.sum()
    rows = gradients - share @ gradients if centred else gradients
    return np.einsum("i,id,ie->de", share, rows, rows)


def sandwich(jacobians, blocks, weights=None):
    """Weighted mean of J_i^T M_i J_i: jacobians [n, C, D], blocks [n, C, C]."""
    share = np.ones(len(jacobians)) if weights is None else np.asarray(weights, np.float64)
    return np.einsum("i,icd,ick,ike->de", share / share.sum(), jacobians, blocks, jacobians)


def output_fisher(distribution, outputs):
    """[n, C, C], the Fisher information in the outputs [n, C] of each example."""
    outputs = np.asarray(outputs, np.float64)
    n, width = outputs.shape
    if distribution == "gaussian":
        return np.broadcast_to(np.eye(width), (n, width, width))
    if distribution == "bernoulli":
        p = 1 / (1 + np.exp(-outputs))
        return (p * (1 - p))[:, :, None] * np.eye(width)
    p = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True)
    return p[:, :, None] * np.eye(width) - p[:, :, None] * p[:, None, :]


def eigenvalues(dense):
    """Ascending."""
    return np.linalg.eigvalsh((dense + dense.T) / 2)
