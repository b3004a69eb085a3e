"""L gradients as the rows of a matrix, in the scale of their entries: squares then neither vanish nor overflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check, path_of, refuse
from lrjax.spectra.selection import Tree

REACH = 500  # powers of two whose squares float64 holds


def _several(gradients: Any) -> bool:
    return isinstance(gradients, Iterator) or (isinstance(gradients, tuple) and not hasattr(gradients, "_fields"))


def _shapes(tree: Tree) -> dict[str, tuple[int, ...]]:
    return {path_of(path): np.shape(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


def _stacked(trees: Sequence[Tree]) -> Tree:
    """Leaves [L, ...] of L trees.

    Raises:
        LrjaxError: trees that differ, or arrays that may as well be the stacked gradients of a tuple of parameters.
    """
    check(len(trees) > 0, "there are no gradients; give L of them, stacked or in a tuple")
    first = _shapes(trees[0])
    for number, tree in enumerate(trees):
        other = _shapes(tree)
        names = [name for name in first | other if first.get(name) != other.get(name)]
        if names:
            name = names[0]
            has = " and ".join(str(list(s[name])) if name in s else "nothing" for s in (first, other))
            refuse(
                f"the gradients of a tuple or iterator must have the same leaves, but gradients 0 and {number} have {has} "
                f"at {name or 'their array'}; stacked gradients [L, ...] of several parameters go in a list or a dict"
            )
    return jax.tree.map(_stack, *trees)


def _stack(*leaves: Any) -> Any:
    return (np if all(not isinstance(leaf, jax.Array) for leaf in leaves) else jnp).stack(leaves)


def _leaves(gradients: Any) -> list[tuple[str, Any]]:
    """(path, array [L, ...]) of the gradients in any of the forms that `gram` takes."""
    if _several(gradients):
        trees = list(gradients)
        arrays = isinstance(gradients, tuple) and all(hasattr(tree, "ndim") for tree in trees)
        check(
            not (arrays and trees and min(tree.ndim for tree in trees) > 1),
            f"a tuple of {len(trees)} arrays of two axes or more may be so many gradients or the stacked gradients of a "
            "tuple of parameters: write jnp.stack(gradients) for the first, list(gradients) for the second",
        )
        gradients = _stacked(trees)
    elif isinstance(gradients, list):
        check(
            not gradients or not all(_array(leaf) and leaf.ndim == 1 for leaf in gradients),
            "a list is a tree of stacked gradients, and these would be of scalars; put vectors of one gradient each in a "
            "tuple, or stack those of scalars with jnp.stack(gradients, axis=1)",
        )
    leaves = [(path_of(path) or "the array", leaf) for path, leaf in jax.tree.leaves_with_path(gradients)]
    check(bool(leaves), "there are no gradients; give L of them, stacked or in a tuple")
    counts = sorted({np.shape(leaf)[0] if np.ndim(leaf) else 0 for _, leaf in leaves})
    check(
        len(counts) == 1 and counts != [0],
        f"stacked gradients must share their first axis, L, but these have {counts}; put L separate gradients in a tuple",
    )
    check(
        len(leaves) > 1 or np.ndim(leaves[0][1]) > 1,
        "gradients must be [L, D]; put vectors of one gradient each in a tuple",
    )
    return leaves


def _array(leaf: Any) -> bool:
    return hasattr(leaf, "shape")


def gradient_rows(gradients: Any) -> jax.Array | np.ndarray:
    """[L, D], float32 or wider, from any of the forms that `gram` takes; float64 on the host stays there.

    Raises:
        LrjaxError: what is not L gradients of the same parameters, or not of real numbers.
    """
    leaves = _leaves(gradients)
    for name, leaf in leaves:
        dtype = leaf.dtype if _array(leaf) else np.asarray(leaf).dtype
        real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
        remedy = "give real and imaginary parts as arrays of their own" if dtype.kind == "c" else "leave them out"
        check(real, f"the gradients of {name} are {dtype}, not real numbers; {remedy}")
    arrays = [leaf for _, leaf in leaves]
    host = any(not isinstance(leaf, jax.Array) and np.asarray(leaf).dtype.itemsize > 4 for leaf in arrays)
    if host:
        rows = np.concatenate([np.asarray(leaf, np.float64).reshape(len(leaf), -1) for leaf in arrays], axis=1)
    else:
        dtype = jnp.promote_types(jnp.result_type(*arrays), jnp.float32)
        rows = jnp.concatenate([jnp.asarray(leaf, dtype).reshape(len(leaf), -1) for leaf in arrays], axis=1)
    check(rows.shape[1] > 0, "the gradients hold no numbers: their parameters are of size zero")
    return rows


def scaled(rows: Any, axis: int | None = 1) -> tuple[Any, Any]:
    """(rows, exponents): largest entries of each row (or, with axis None, of all) from a half to one; zero stays zero."""
    xp: Any = np if isinstance(rows, np.ndarray) else jnp
    largest = xp.max(xp.abs(rows), axis=axis, keepdims=True)
    exponents = xp.where(xp.isfinite(largest) & (largest > 0), xp.frexp(largest)[1], 0)
    half, one = exponents // 2, xp.ones_like(largest)  # in two steps, as 2^-exponents may not be a normal number
    return rows * xp.ldexp(one, -half) * xp.ldexp(one, half - exponents), exponents


def _parts(rows: Any, center: bool) -> tuple[Any, ...]:
    xp: Any = np if isinstance(rows, np.ndarray) else jnp
    holes = ~xp.all(xp.isfinite(rows), axis=1)
    shared = xp.zeros((1, 1), int)
    if center:
        # Before the products: a mean that outweighs the noise would take its digits with it.
        rows, shared = scaled(rows, None)
        rows = rows - xp.mean(rows, axis=0, keepdims=True)
    rows, exponents = scaled(rows)
    return rows, exponents + shared, holes


@jax.jit
def _products(rows: jax.Array) -> jax.Array:
    return jnp.matmul(rows, rows.T, precision="highest")


def inner_products(gradients: Any, center: bool) -> tuple[jax.Array, np.ndarray, np.ndarray]:
    """Inner products of L gradients, with their mean subtracted where `center`, whatever their scale.

    Returns:
        `(rows [L, D], exponents [L, 1], products [L, L])`: the gradients are rows * 2^exponents; the products, in float64,
        are those of the gradients.

    Raises:
        LrjaxError: as `gradient_rows`; NaN or infinity; gradients whose squares float64 cannot hold.

    Example:
        >>> rows, exponents, products = inner_products(jnp.array([[3e30, 4e30], [0.0, 1e30]]), center=False)
        >>> (products / 1e60).round(4).tolist()
        [[25.0, 4.0], [4.0, 1.0]]
    """
    given = gradient_rows(gradients)
    check(len(given) >= 2, f"a covariance needs two gradients or more, not {len(given)}")
    parts = _parts(given, center) if isinstance(given, np.ndarray) else _jitted_parts(given, center)
    exponents, holes = (np.asarray(part) for part in parts[1:])
    bad = np.flatnonzero(holes)
    check(bad.size == 0, f"gradient {bad[:1]} holds NaN or infinity; look at the parameters and the loss")
    exponents = exponents.astype(np.int64)
    check(
        bool(np.all(np.abs(exponents) < REACH)),
        "the gradients are too large or too small for their squares in float64; rescale the loss",
    )
    rows = jnp.asarray(parts[0])
    products = np.asarray(_products(rows), np.float64)
    zero = np.diag(products) == 0
    exponents[zero] = exponents[~zero].min(initial=0)  # so that zero gradients do not set the scale
    return rows, exponents, np.ldexp(products, exponents + exponents.T)


_jitted_parts = jax.jit(_parts, static_argnums=1)
