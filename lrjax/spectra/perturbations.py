"""Directions in which a loss landscape is cut: their forms, and their filter normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from lrjax.errors import LrjaxError, check, path_of
from lrjax.spectra.directions import tangent_of
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.random_vectors import as_key

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


def _row(direction: Any, selected: Tree, known: frozenset[str]) -> jax.Array:
    if _is_key(direction):
        like = ravel_pytree(selected)[0]
        return jax.random.normal(as_key(direction), like.shape, like.dtype)
    return tangent_of(selected, direction, known)


def rows_of(directions: Any, selected: Tree, known: frozenset[str] = frozenset()) -> Float[Array, "k D"]:
    """One or two directions as rows; a key alone gives two random ones.

    Raises:
        LrjaxError: none or more than two, other shapes than the parameters', zero, NaN, or two parallel ones.
    """
    if _is_key(directions):
        directions = tuple(jax.random.split(as_key(directions)))
    try:  # as one direction first: parameters may be a tuple themselves, or an array of two axes
        return _independent(_row(directions, selected, known)[None])
    except LrjaxError:
        rows = getattr(directions, "ndim", 0) == 2 and directions.shape[1] == ravel_pytree(selected)[0].size
        if not isinstance(directions, tuple) and not rows:
            raise
    check(
        len(directions) in (1, 2),
        f"a landscape has one or two directions, not {len(directions)}; of several rows take two, such as `top.vectors[:2]`",
    )
    return _independent(jnp.stack([_row(direction, selected, known) for direction in directions]))


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
