"""Directional curvature: of a matrix, of each example, and of each mini-batch along its own gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.bound import Bound
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.rules import GRADIENT_COVARIANCE, HESSIAN
from lrjax.spectra.selection import Selection, Tree, Where

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Float64


def _scaled(vectors: jax.Array, name: str) -> jax.Array:
    """Rows with a largest entry of one, so that squares of tiny gradients do not vanish."""
    largest = jnp.max(jnp.abs(vectors), axis=-1, keepdims=True)
    check(bool(jnp.all(jnp.isfinite(largest) & (largest > 0))), f"{name} is zero, NaN or infinite: it has no direction")
    return vectors / largest


def quadratic_form(bound: Bound, directions: Tree | Sequence[Tree]) -> Float64[np.ndarray, "k"]:
    """Rayleigh quotients v^T A v / v^T v along each direction; one pass over the data for all.

    Along the gradient, the update or an eigenvector of another matrix; A the Hessian gives the curvature there.

    Args:
        bound: a bound operator.
        directions: [k, D], one flat [D], or a list of flat vectors and trees like `bound.params`.

    Returns:
        [k], float64.

    Raises:
        LrjaxError: a direction of zero length, or of another size.

    References:
        Parlett 1998, The symmetric eigenvalue problem, section 1.5.

    Example:
        >>> from lrjax.spectra.bound import matrix
        >>> quadratic_form(matrix(np.diag([1.0, 3.0])), [jnp.array([2.0, 0.0]), jnp.array([1.0, 1.0])]).tolist()
        [1.0, 2.0]
    """
    several = isinstance(directions, (list, tuple)) and not hasattr(directions, "_fields")
    if not several:
        directions = directions if getattr(directions, "ndim", 0) == 2 else [directions]
    check(len(directions) > 0, "there are no directions")
    rows = _scaled(jnp.stack([bound.ravel(direction) for direction in directions]), "a direction")
    return np.asarray(jnp.sum(rows * bound.matmat(rows), axis=1) / jnp.sum(rows * rows, axis=1), np.float64)


def tangent_of(selection: Selection, selected: Tree, direction: Tree) -> jax.Array:
    """A direction as a flat vector: flat already, a tree of the selected parameters, or one of all parameters."""
    leaves = jax.tree.leaves(direction)
    whole = len(leaves) == len(selection.mask) and not all(selection.mask)
    vector = ravel_pytree(selection.split(direction)[0] if whole else direction)[0]
    like = ravel_pytree(selected)[0]
    check(
        vector.size == like.size,
        f"a direction here has {like.size} numbers, one a selected parameter, not {vector.size}",
    )
    return vector.astype(like.dtype)


@compiled(static=1)
def _second_derivatives(
    functions: Any, selection: Selection, selected: Tree, rest: Tree, batch: Tree, tangent: jax.Array
) -> jax.Array:
    direction = ravel_pytree(selected)[1](tangent)

    def slope(p: Tree) -> jax.Array:
        return jax.jvp(lambda q: functions[0](selection.merge(q, rest), batch), (p,), (direction,))[1]

    return jax.jvp(slope, (selected,), (direction,))[1]


def curvature_along(
    example_loss: Callable[[Tree, Tree], Float[Array, "n"]],
    params: Tree,
    direction: Tree,
    batches: validation.BatchSource,
    *,
    where: Where = None,
    normalise: bool = True,
    checks: bool = True,
) -> Float64[np.ndarray, "n"]:
    """Per-example curvatures H_i = d^2/de^2 l_i(theta + e d) at e = 0 along one direction d.

    Their mean is d^T H d, and their variance along the top eigenvector of H is s^2 in the stability condition of
    `lrjax.spectra.stability.stability_lhs`. Forward mode twice over the vector of losses: the memory of a few forward
    passes, no backward pass.

    Args:
        example_loss: `(params, batch) -> [n]`, a loss an example. Pass the same function object each time: the
            compiled program lives as long as it does.
        params: a pytree of any library.
        direction: flat [D], or a tree like `params`.
        batches: a list of batches, or a function that returns an iterator over them.
        where: the parameters that d moves: see `lrjax.spectra.selection.select`.
        normalise: give d the length one.
        checks: validate the losses first, as `bind` does; it costs a trace of them.

    Returns:
        [n], float64, in the order of the examples.

    Raises:
        LrjaxError: a direction of zero length or another size, NaN parameters, or losses that are not one an example.

    References:
        Wu et al. 2018, How SGD selects the global minima in over-parameterized learning.
        Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories, section 3.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [2.0, 5.0]])
        >>> curvature_along(lambda w, x: (x @ w) ** 2 / 2, jnp.zeros(2), jnp.array([3.0, 0.0]), [x]).tolist()
        [1.0, 4.0]
    """
    selection, selected, rest = validation.prepare(params, where, "curvature")
    tangent = tangent_of(selection, selected, direction)
    if normalise:
        tangent = _scaled(tangent, "the direction")
        tangent = tangent / jnp.linalg.norm(tangent)
    functions, curvatures = Functions(example_loss), []
    for batch, size in validation.iter_batches(batches):
        if checks and not curvatures:
            validation.loss(GRADIENT_COVARIANCE, functions, params, batch, size)
        with jax.default_matmul_precision("highest"):
            curvatures.append(_second_derivatives(functions, selection, selected, rest, batch, tangent))
    check(bool(curvatures), "there are no batches: the function gave an empty iterator")
    return np.concatenate([np.asarray(part, np.float64) for part in curvatures])


class BatchSharpness(NamedTuple):
    """Curvature of each mini-batch along its own gradient.

    Attributes:
        value: the mean over batches.
        stderr: of that mean, std / sqrt(number of batches); NaN for one batch.
        values: [b] float64, one a batch.

    References:
        Andreyev and Beneventano 2024, Edge of Stochastic Stability, arXiv 2412.20553.

    Example:
        >>> loss = lambda w, x: jnp.mean((x @ w) ** 2) / 2
        >>> batch_sharpness(loss, jnp.ones(2), [jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])]).value
        2.5
    """

    value: float
    stderr: float
    values: Float64[np.ndarray, "b"]


@compiled(static=1)
def _along_own_gradient(
    functions: Any, selection: Selection, selected: Tree, rest: Tree, batch: Tree
) -> tuple[jax.Array, jax.Array]:
    unravel = ravel_pytree(selected)[1]
    gradient, product = jax.linearize(jax.grad(lambda s: functions[0](selection.merge(s, rest), batch)), selected)
    flat = ravel_pytree(gradient)[0]
    largest = jnp.max(jnp.abs(flat))
    flat = flat / jnp.where(largest > 0, largest, 1)
    return jnp.vdot(flat, ravel_pytree(product(unravel(flat)))[0]) / jnp.vdot(flat, flat), largest


def batch_sharpness(
    loss_fn: Callable[[Tree, Tree], Float[Array, ""]],
    params: Tree,
    batches: validation.BatchSource,
    *,
    where: Where = None,
) -> BatchSharpness:
    """E_B[ g_B^T H_B g_B / |g_B|^2 ]: the curvature of each mini-batch along its own gradient.

    For SGD it rises to about 2 / learning rate and hovers there, while lambda_1 of the full-batch Hessian stays below.
    One linearised gradient a batch, which serves gradient and product alike.

    Args:
        loss_fn: `(params, batch) -> scalar`, the mean over the batch's examples; pass the same function object each
            time, as for `curvature_along`.
        params: a pytree of any library.
        batches: a list of mini-batches of the training batch size, or a function that returns an iterator over them.
        where: which parameters: see `lrjax.spectra.selection.select`.

    Returns:
        The mean over batches with its standard error, and the value of each.

    Raises:
        LrjaxError: a batch whose gradient is zero or NaN, NaN parameters, or a loss that is not a scalar.

    References:
        Andreyev and Beneventano 2024, Edge of Stochastic Stability, arXiv 2412.20553, definition of batch sharpness.

    Example:
        >>> loss = lambda w, x: jnp.mean((x @ w) ** 2) / 2
        >>> batch_sharpness(loss, jnp.ones(2), [jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])]).values.tolist()
        [1.0, 4.0]
    """
    selection, selected, rest = validation.prepare(params, where, "batch sharpness")
    functions, ratios, largest_entries = Functions(loss_fn), [], []
    for batch, size in validation.iter_batches(batches):
        if not ratios:
            validation.loss(HESSIAN, functions, params, batch, size)
        with jax.default_matmul_precision("highest"):
            ratio, largest = _along_own_gradient(functions, selection, selected, rest, batch)
        ratios.append(ratio)
        largest_entries.append(largest)
    check(bool(ratios), "there are no batches: the function gave an empty iterator")
    lengths = np.asarray(jnp.stack(largest_entries))
    check(
        bool(np.all(np.isfinite(lengths) & (lengths > 0))),
        "the gradient of a batch is zero or NaN: it has no direction",
    )
    values = np.asarray(jnp.stack(ratios), np.float64)
    stderr = float(np.std(values, ddof=1) / np.sqrt(values.size)) if values.size > 1 else float("nan")
    return BatchSharpness(float(values.mean()), stderr, values)
