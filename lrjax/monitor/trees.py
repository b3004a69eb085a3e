"""Arithmetic on trees of parameters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from lrjax.spectra.frameworks import Tree


def like(tree: Tree, values: Tree) -> Tree:
    """The leaves of `values` in the structure of `tree`."""
    return jax.tree.unflatten(jax.tree.structure(tree), jax.tree.leaves(values))


def moved(params: Tree, update: Tree, multiple: Any = 1.0) -> Tree:
    """theta + c u, in the dtypes of the parameters.

    Example:
        >>> moved({"w": jnp.array([1.0])}, {"w": jnp.array([0.5])}, 2.0)["w"].item()
        2.0
    """
    return jax.tree.map(lambda p, u: (p + multiple * u).astype(jnp.asarray(p).dtype), params, update)


def inner_product(left: Tree, right: Tree) -> jax.Array:
    """Sum over all leaves of left times right, float32 at least.

    Example:
        >>> inner_product({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, 4.0])}).item()
        11.0
    """
    terms = [jnp.sum(wide(a) * wide(b)) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)]
    return jnp.sum(jnp.stack(terms)) if terms else jnp.zeros(())


def wide(leaf: Any) -> jax.Array:
    """float32 at least."""
    leaf = jnp.asarray(leaf)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
