"""Directions in which a loss landscape is cut: their forms, and their filter normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from lrjax.errors import by_path, check, path_of, refuse
from lrjax.spectra.selection import Tree

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

    FilterAxis = int | Callable[[str], int]

NORMALISATIONS = ("filter", "layer", None)
PARALLEL = 1e-5  # of 1 - |cos|


def _is_key(value: Any) -> bool:
    """A seed, a typed key, or a key of the old kind, uint32 [2]."""
    if isinstance(value, (int, np.integer)):
        return not isinstance(value, bool)
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return False
    old = dtype == np.uint32 and np.shape(value) == (2,)
    return old or (jnp.issubdtype(dtype, jax.dtypes.prng_key) and np.ndim(value) == 0)


def _key(value: Any) -> jax.Array:
    return jax.random.key(value) if isinstance(value, (int, np.integer)) else value


def _difference(direction: Tree, selected: Tree, whole: Tree) -> str:
    """The path at which a tree is not one like the parameters, selected or all; empty where it is."""
    given, ours, others = by_path(direction), by_path(selected), by_path(whole)
    names = others if len(given) > len(ours) else ours
    for path in sorted({*names, *given}):
        shapes = [str(list(np.shape(tree[path]))) if path in tree else "missing" for tree in (given, names)]
        if shapes[0] != shapes[1] and (path in ours or "missing" in shapes):
            return f"{path or 'the array'} is {shapes[0]}, in the parameters {shapes[1]}"
    return ""


def _row(direction: Any, selected: Tree, whole: Tree) -> jax.Array | None:
    """A direction as a flat vector [D]; None for what is no direction."""
    like = ravel_pytree(selected)[0]
    if _is_key(direction):
        return jax.random.normal(_key(direction), like.shape, like.dtype)
    if hasattr(direction, "dtype") and np.shape(direction) == like.shape:
        return jnp.asarray(direction, like.dtype)
    if _difference(direction, selected, whole):
        return None
    leaves = by_path(direction)  # by path: an OrderedDict has another order than a dict
    return jnp.concatenate([jnp.ravel(jnp.asarray(leaves[path], like.dtype)) for path in by_path(selected)])


def rows_of(directions: Any, selected: Tree, whole: Tree) -> Float[Array, "k D"]:
    """One or two directions as rows; a key alone gives two random ones.

    Raises:
        LrjaxError: none or more than two, other shapes than the parameters', zero, NaN, or two parallel ones.
    """
    if _is_key(directions):
        directions = tuple(jax.random.split(_key(directions)))
    size = ravel_pytree(selected)[0].size
    alone = _row(directions, selected, whole)  # first: parameters may be a tuple themselves
    several = alone is None and (isinstance(directions, tuple) or np.shape(directions)[1:] == (size,))
    members = tuple(directions) if several else (directions,)
    check(
        len(members) in (1, 2),
        f"a landscape has one or two directions, not {len(members)}; of several rows take two, such as `top.vectors[:2]`",
    )
    rows = []
    for number, member in enumerate(members):
        row = _row(member, selected, whole)
        if row is None:
            refuse(
                f"direction {number} is neither a vector [{size}], a key nor a tree like the parameters: "
                + _difference(member, selected, whole)
            )
        rows.append(row)
    return _independent(jnp.stack(rows))


def _independent(rows: jax.Array) -> jax.Array:
    lengths = np.asarray(jnp.max(jnp.abs(rows), axis=1))
    check(
        bool(np.all(np.isfinite(lengths) & (lengths > 0))),
        "a direction is zero, or holds NaN or infinity: the loss cannot be drawn along it",
    )
    if len(rows) == 2:
        units = rows / lengths[:, None]
        cosine = jnp.vdot(units[0], units[1]) / jnp.linalg.norm(units[0]) / jnp.linalg.norm(units[1])
        check(
            bool(jnp.abs(cosine) < 1 - PARALLEL),
            "the two directions are parallel and span a line, not a plane: give one of them, or another second one",
        )
    return rows


def norm(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Euclidean norms over the axes, which are kept; entries are scaled first, since squares of small ones vanish."""
    largest = jnp.max(jnp.abs(array), axis=axes, keepdims=True)
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sqrt(jnp.sum(jnp.square(array / scale), axis=axes, keepdims=True))


def normalised(
    rows: Float[Array, "k D"],
    selected: Tree,
    normalise: str | None,
    *,
    biases: bool = False,
    filter_axis: FilterAxis = -1,
) -> Float[Array, "k D"]:
    """Rows with the norm of each filter, or each layer, of the parameters: d <- d |w| / |d| (Li et al. 2018, section 4).

    Raises:
        LrjaxError: an unknown normalisation, an axis that a leaf does not have, or nothing is left of a direction.
    """
    check(normalise in NORMALISATIONS, f"normalise={normalise!r} is unknown; choose 'filter', 'layer' or None")
    if normalise is None:
        return rows
    unravel = ravel_pytree(selected)[1]

    def leaf(path: Any, weight: jax.Array, direction: jax.Array) -> jax.Array:
        if weight.ndim <= 1 and not biases:
            return jnp.zeros_like(direction)
        axes = tuple(range(weight.ndim))
        if normalise == "filter" and weight.ndim > 1:
            axis = filter_axis(path_of(path)) if callable(filter_axis) else filter_axis
            check(
                -weight.ndim <= axis < weight.ndim, f"filter_axis={axis}, but {path_of(path)} is {list(weight.shape)}"
            )
            axes = tuple(place for place in axes if place != axis % weight.ndim)
        length = norm(direction, axes)
        return direction / jnp.where(length > 0, length, 1) * norm(weight, axes)

    scaled = [ravel_pytree(jax.tree.map_with_path(leaf, selected, unravel(row)))[0] for row in rows]
    check(
        all(bool(jnp.any(row != 0)) for row in scaled),
        f"nothing is left of a direction after normalise={normalise!r}, which leaves out biases and filters of zero: "
        "give biases=True, or normalise=None",
    )
    return jnp.stack(scaled)
