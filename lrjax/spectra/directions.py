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
from lrjax.spectra.batches import Batches
from lrjax.spectra.bound import Bound
from lrjax.spectra.differentiation import needs_reverse
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.normalised import Normalised
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.results import readable, to_dict
from lrjax.spectra.rules import GRADIENT_COVARIANCE, HESSIAN, linearised
from lrjax.spectra.selection import Selection, like_selected, named_leaves
from lrjax.spectra.sources import BatchSource
from lrjax.spectra.where import Where

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
        directions: one flat [D] or a tree like `bound.params`; several as [k, D] or as a tuple of vectors and trees. A list is
            a tree, like the parameters that it may hold.

    Returns:
        [k], float64.

    Raises:
        LrjaxError: a direction of zero length, or of another size.

    References:
        Parlett 1998, The symmetric eigenvalue problem, section 1.5.

    Example:
        >>> from lrjax.spectra.bound import matrix
        >>> quadratic_form(matrix(np.diag([1.0, 3.0])), (jnp.array([2.0, 0.0]), jnp.array([1.0, 1.0]))).tolist()
        [1.0, 2.0]
    """
    unit = Normalised(bound)
    one = jax.tree.structure(directions) == jax.tree.structure(bound.params) and isinstance(bound.params, tuple)
    if isinstance(directions, tuple) and not hasattr(directions, "_fields") and not one:
        several: Sequence[Tree] = directions
    else:
        rows = (
            isinstance(directions, (jax.Array, np.ndarray))
            and directions.ndim == 2
            and directions.shape[1] == unit.size
        )
        several = list(directions) if rows else [directions]
    check(len(several) > 0, "there are no directions")
    rows = _scaled(jnp.stack([bound.ravel(direction) for direction in several]), "a direction")
    forms = jnp.sum(rows * unit.matmat(rows), axis=1) / jnp.sum(rows * rows, axis=1)
    return np.asarray(forms, np.float64) * unit.scale


def tangent_of(selected: Tree, direction: Tree, known: frozenset[str] = frozenset()) -> Float[Array, "D"]:
    """A direction as a flat vector: flat already, a tree like the selected parameters, or one like all parameters."""
    like = ravel_pytree(selected)[0]
    if isinstance(direction, (jax.Array, np.ndarray)) and direction.ndim == 1 and direction.size == like.size:
        return jnp.asarray(direction, like.dtype)
    leaves = like_selected(selected, direction, "a direction", known)
    return jnp.concatenate([jnp.asarray(leaf, like.dtype).reshape(-1) for leaf in leaves])


def _slope(function: Callable, at: jax.Array, reverse: bool) -> jax.Array:
    """The derivative of a vector function of one number."""
    if not reverse:
        return jax.jvp(function, (at,), (jnp.ones_like(at),))[1]
    values, pull = jax.vjp(function, at)
    return jax.vjp(lambda u: pull(u)[0], jnp.zeros_like(values))[1](jnp.ones_like(at))[0]


@compiled(static=2)
def _second_derivatives(
    functions: Any, selection: Selection, reverse: bool, selected: Tree, rest: Tree, batch: Tree, tangent: jax.Array
) -> jax.Array:
    direction = ravel_pytree(selected)[1](tangent)

    def losses(step: jax.Array) -> jax.Array:
        moved = jax.tree.map(lambda p, d: p + step * d, selected, direction)
        return functions[0](selection.merge(moved, rest), batch)

    return _slope(lambda step: _slope(losses, step, reverse), jnp.zeros((), tangent.dtype), reverse)


def curvature_along(
    example_loss: Callable[[Tree, Tree], Any],
    params: Tree,
    direction: Tree,
    batches: BatchSource,
    *,
    where: Where = None,
    in_axes: Tree = 0,
    normalise: bool = True,
    differentiation: str = "auto",
    has_aux: bool = False,
    checks: bool = True,
) -> Float64[np.ndarray, "n"]:
    """Per-example curvatures H_i = d^2/de^2 l_i(theta + e d) at e = 0 along one direction d.

    Their mean is d^T H d, and their variance along the top eigenvector of H is s^2 in the stability condition of
    `lrjax.spectra.stability.stability_lhs`. Forward mode twice over the vector of losses: the memory of a few forward
    passes, no backward pass.

    Args:
        example_loss: `(params, batch) -> [n]`, a loss an example. Pass the same function object each time: the
            compiled program lives as long as it does.
        params: a pytree of any library, or a module.
        direction: flat [D], or a tree like `params`.
        batches: a list of batches, or a function that returns an iterator over them.
        where: the parameters that d moves: see `lrjax.spectra.selection.select`.
        in_axes: where the examples of a batch lie, as in `bind`.
        normalise: give d the length one.
        differentiation: "forward_over_reverse" here is forward mode twice; "reverse_over_reverse", through the whole of
            reverse mode twice, is for losses without a forward mode; "auto" takes the first that works.
        has_aux: whether `example_loss` returns `(losses, auxiliary data)`.
        checks: validate the losses first, as `bind` does.

    Returns:
        [n], float64, in the order of the examples.

    Raises:
        LrjaxError: a direction of zero length, another structure or another shape; NaN parameters; losses that are not one an
            example, or without a second derivative; curvatures that are not finite.

    References:
        Wu et al. 2018, How SGD selects the global minima in over-parameterized learning.
        Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories, section 3.

    Example:
        >>> x = jnp.array([[1.0, 0.0], [2.0, 5.0]])
        >>> curvature_along(lambda w, x: (x @ w) ** 2 / 2, jnp.zeros(2), jnp.array([3.0, 0.0]), [x]).tolist()
        [1.0, 4.0]
    """
    selection, selected, rest = validation.prepare(params, where, "curvature")
    tangent = tangent_of(selected, direction, frozenset(named_leaves(params)))
    if normalise:
        tangent = _scaled(tangent, "the direction")
        tangent = tangent / jnp.linalg.norm(tangent)
    functions, curvatures = Functions(example_loss, has_aux=has_aux), []
    look = validation.Inspection(GRADIENT_COVARIANCE, functions, (selection, selected, rest)) if checks else None
    data = Batches(batches, in_axes=in_axes, look=look)
    with jax.default_matmul_precision("highest"):
        arguments = selected, rest, data.first, tangent
        trace = lambda reverse: _second_derivatives.of(functions, selection, reverse).trace(*arguments)  # noqa: E731
        reverse = needs_reverse(functions, differentiation, trace)
        for _, batch, _, _ in data:
            curvatures.append(_second_derivatives(functions, selection, reverse, selected, rest, batch, tangent))
    values = np.concatenate([np.asarray(part, np.float64) for part in curvatures])
    good = bool(np.all(np.isfinite(values)))
    check(
        good, "the curvature of an example is not finite: its loss has no second derivative there, or leaves the range"
    )
    return values


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

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


@compiled(static=2)
def _along_own_gradient(
    functions: Any, selection: Selection, reverse: bool, selected: Tree, rest: Tree, batch: Tree
) -> tuple[jax.Array, jax.Array]:
    unravel = ravel_pytree(selected)[1]
    slope = jax.grad(lambda s: functions[0](selection.merge(s, rest), batch))
    gradient, product = linearised(slope, selected, reverse)
    flat = ravel_pytree(gradient)[0]
    largest = jnp.max(jnp.abs(flat))
    flat = flat / jnp.where(largest > 0, largest, 1)
    return jnp.vdot(flat, ravel_pytree(product(unravel(flat)))[0]) / jnp.vdot(flat, flat), largest


def batch_sharpness(
    loss_fn: Callable[[Tree, Tree], Any],
    params: Tree,
    batches: BatchSource,
    *,
    where: Where = None,
    differentiation: str = "auto",
    has_aux: bool = False,
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
        differentiation: as in `bind`.
        has_aux: whether `loss_fn` returns `(scalar, auxiliary data)`.

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
    functions, ratios, largest_entries = Functions(loss_fn, has_aux=has_aux), [], []
    look = validation.Inspection(HESSIAN, functions, (selection, selected, rest), additive=False)
    # Each mini-batch is one sample, whatever it holds.
    data = Batches(batches, weight=lambda batch: 1.0, look=look)
    with jax.default_matmul_precision("highest"):
        arguments = selected, rest, data.first
        trace = lambda reverse: _along_own_gradient.of(functions, selection, reverse).trace(*arguments)  # noqa: E731
        reverse = needs_reverse(functions, differentiation, trace)
        for _, batch, _, _ in data:
            ratio, largest = _along_own_gradient(functions, selection, reverse, selected, rest, batch)
            ratios.append(ratio)
            largest_entries.append(largest)
    lengths, values = np.asarray(jnp.stack(largest_entries)), np.asarray(jnp.stack(ratios), np.float64)
    check(
        bool(np.all(np.isfinite(lengths) & (lengths > 0))),
        "the gradient of a batch is zero or NaN: it has no direction",
    )
    check(
        bool(np.all(np.isfinite(values))), "the curvature of a batch along its gradient is not finite: rescale the loss"
    )
    stderr = float(np.std(values, ddof=1) / np.sqrt(values.size)) if values.size > 1 else float("nan")
    return BatchSharpness(float(values.mean()), stderr, values)
