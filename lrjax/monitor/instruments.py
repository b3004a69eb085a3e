"""The instruments of the monitor, each usable alone: a formula, its source, and what it costs.

=====================  ==================================================================  ================================
instrument             formula                                                             cost
=====================  ==================================================================  ================================
`gain`                 r = (L_B(theta) - L_B(theta + u)) / (-g.u)                          one gradient, one forward pass
`along`                L, its slope and its curvature along u, so rho = u.Hu / (-g.u)      about four forward passes
`valley_gap`           (L(theta) - L(mean theta)) / L(theta)                               two forward passes, one copy
`update_sizes`         RMS of u, RMS of u over RMS of theta, angle, by group               none
`decay_clock`          1 / c, c the share of theta that decay takes in a step              none
`noise_of_pair`        |G|^2 = g_1.g_2 and Tr S = n |g_1 - g_2|^2 / 2                      one more gradient
`critical_multiple`    largest c with L_B(theta + c u) <= L_B(theta)                       about 10 forward passes
`gradient_curvature`   v.Hv / v.Pv along v = P^(-1) g                                      one gradient, one product
=====================  ==================================================================  ================================

g = grad L_B(theta) on the batch B, u the update of a virtual step, P the preconditioner of Adam, or 1. Batch sharpness, the
mean of `gradient_curvature` with P = 1 over batches, is `lrjax.spectra.batch_sharpness`; the largest eigenvalue of H, or of
P^(-1/2) H P^(-1/2), is by `lrjax.spectra.lanczos` on `hessian` and `preconditioned`, about 12 products from a warm start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check
from lrjax.monitor.critical import critical_multiple as critical_multiple
from lrjax.monitor.trees import inner_product, moved, wide
from lrjax.monitor.virtual_step import value_of
from lrjax.spectra.frameworks import Tree

ROUNDINGS = 32  # a change of the loss below this many roundings of it is not resolved


class Gain(NamedTuple):
    """How much of the predicted decrease a step gets.

    Attributes:
        ratio: r; NaN where the change of the loss is within its rounding, or u does not point downhill.
        change: L_B(theta + u) - L_B(theta).
        slope: g.u, the change that the gradient predicts.
        resolved: whether the change is above the rounding of the loss.
    """

    ratio: Any
    change: Any
    slope: Any
    resolved: Any


def gain(before: Any, after: Any, slope: Any) -> Gain:
    r"""Gain ratio r = (L_B(theta) - L_B(theta + u)) / (-g.u): near 1 for steps that are small for this landscape.

    On a quadratic r = 1 - rho / 2 with rho = u.Hu / (-g.u); SGD that is stationary has rho near 2, so r near 0, whatever its
    rate, which is no sign of a rate that is too high.

    Args:
        before: L_B(theta).
        after: L_B(theta + u).
        slope: g.u, of the same batch.

    Returns:
        The `Gain`; arrays of the arguments' shape.

    References:
        Conn, Gould & Toint 2000, Trust-region methods, section 6.1: the ratio of actual to predicted reduction.

    Example:
        >>> round(float(gain(1.0, 0.82, -0.2).ratio), 4)
        0.9
    """
    before, after, slope = (jnp.asarray(value) for value in (before, after, slope))
    eps = jnp.finfo(before.dtype).eps
    resolved = jnp.abs(after - before) > ROUNDINGS * eps * jnp.maximum(jnp.abs(before), jnp.abs(after))
    ratio = jnp.where(resolved & (slope < 0), (before - after) / jnp.where(slope < 0, -slope, 1), jnp.nan)
    return Gain(ratio, after - before, slope, resolved)


class Line(NamedTuple):
    """A loss along a step: its value, first and second derivative at the start."""

    loss: Any
    slope: Any
    curvature: Any

    @property
    def rho(self) -> Any:
        """u.Hu / (-g.u); NaN where u does not point downhill."""
        return jnp.where(self.slope < 0, self.curvature / jnp.where(self.slope < 0, -self.slope, 1), jnp.nan)


def along(loss_fn: Callable, params: Tree, update: Tree, batch: Tree, *, has_aux: bool = False) -> Line:
    """L, g.u and u.Hu along a step u, by forward mode twice: no difference of losses, so no rounding of one.

    Losses without a forward mode (`jax.custom_vjp`) are differentiated in reverse mode twice, at more cost.

    Args:
        loss_fn: `(params, batch) -> scalar`.
        params: theta.
        update: u, a tree like the parameters.
        batch: one batch.
        has_aux: whether `loss_fn` returns `(scalar, auxiliary data)`.

    Returns:
        The `Line`.

    References:
        Pearlmutter 1994, Fast exact multiplication by the Hessian, Neural Computation 6(1).

    Example:
        >>> line = along(lambda w, _: jnp.sum(w**2), jnp.array([3.0]), jnp.array([-1.0]), None)
        >>> line.loss.item(), line.slope.item(), line.curvature.item(), round(line.rho.item(), 4)
        (9.0, -6.0, 2.0, 0.3333)
    """

    def at(multiple: jax.Array) -> jax.Array:
        return value_of(loss_fn, moved(params, update, multiple), batch, has_aux)

    zero, one = jnp.zeros(()), jnp.ones(())
    try:
        slope_at = lambda t: jax.jvp(at, (t,), (one,))  # noqa: E731 -- (loss, slope)
        (loss, slope), (_, curvature) = jax.jvp(slope_at, (zero,), (one,))
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        loss, slope = jax.value_and_grad(at)(zero)
        curvature = jax.grad(jax.grad(at))(zero)
    return Line(loss, slope, curvature)


def valley_gap(loss: Any, average_loss: Any) -> Any:
    """(L(theta) - L(mean theta)) / L(theta): the part of the loss that is oscillation between the walls of a valley.

    The mean is over about the last twentieth of the run. What averaging takes away, a decayed learning rate takes away too.

    Args:
        loss: L(theta) on a fixed set of examples.
        average_loss: L of the mean parameters on the same set.

    Returns:
        The gap, a share of L(theta); negative where the loss fell while the mean was taken.

    References:
        Sandler et al. 2023, Training trajectories, mini-batch losses and the curious role of the learning rate, arXiv
        2301.02312: averaging and a decayed rate reach the same.

    Example:
        >>> valley_gap(0.5, 0.4)
        0.2
    """
    return round((loss - average_loss) / loss, 12) if isinstance(loss, float) else (loss - average_loss) / loss


class Sizes(NamedTuple):
    """A step by group: arrays with an entry a group.

    Attributes:
        names: of the groups.
        update: RMS of u.
        weights: RMS of theta.
        angle: radians by which the group's parameters turn in the step.
    """

    names: tuple[str, ...]
    update: Any
    weights: Any
    angle: Any

    @property
    def relative(self) -> Any:
        """RMS of u over RMS of theta; NaN for parameters of zero."""
        return jnp.where(self.weights > 0, self.update / jnp.where(self.weights > 0, self.weights, 1), jnp.nan)


def update_sizes(params: Tree, update: Tree, groups: Sequence[str]) -> Sizes:
    """RMS of the update, of the parameters, and the angle between theta and theta + u, by group.

    Args:
        params: theta.
        update: u, a tree like the parameters.
        groups: the group of each leaf, from `lrjax.monitor.groups_of`.

    Returns:
        The `Sizes`, groups in the order of their first leaf.

    Example:
        >>> sizes = update_sizes({"a": jnp.ones(4), "b": jnp.ones(2)}, {"a": 0.1 * jnp.ones(4), "b": jnp.zeros(2)}, ("a", "b"))
        >>> sizes.update.round(3).tolist(), sizes.angle.round(3).tolist()
        ([0.10000000149011612, 0.0], [0.0, 0.0])
    """
    names = tuple(dict.fromkeys(groups))
    theta, step = jax.tree.leaves(params), jax.tree.leaves(update)
    check(
        len(theta) == len(groups),
        f"groups has {len(groups)} entries for {len(theta)} leaves; make it by groups_of(params)",
    )
    rows = []
    for name in names:
        members = [index for index, group in enumerate(groups) if group == name]
        part, change = [theta[index] for index in members], [step[index] for index in members]
        count = max(sum(int(np.size(leaf)) for leaf in part), 1)
        square, size, cross = inner_product(part, part), inner_product(change, change), inner_product(part, change)
        # The part of u across theta, so that small angles keep their digits.
        across = jnp.sqrt(jnp.maximum(size - cross**2 / jnp.where(square > 0, square, 1), 0))
        angle = jnp.arctan2(across, jnp.sqrt(square) + cross / jnp.sqrt(jnp.where(square > 0, square, 1)))
        rows.append((jnp.sqrt(size / count), jnp.sqrt(square / count), angle))
    columns = [jnp.stack(column) for column in zip(*rows, strict=True)]
    return Sizes(names, *columns)


def noise_of_pair(first: Tree, second: Tree, batch_size: int = 1) -> tuple[jax.Array, jax.Array]:
    """Unbiased Tr(Sigma) and |G|^2 from the gradients of two independent batches of n examples at the same parameters.

    |G|^2 = g_1.g_2 and Tr(Sigma) = n |g_1 - g_2|^2 / 2: the estimator of McCandlish et al. for batches of n and 2 n. Average
    each over measurements *before* taking the ratio, which is biased otherwise.

    Args:
        first: gradient of a batch.
        second: gradient of another.
        batch_size: n; 1 gives the noise of a batch instead of an example's.

    Returns:
        `(noise, signal)`.

    References:
        McCandlish et al. 2018, An empirical model of large-batch training, arXiv 1812.06162, appendix A.1.

    Example:
        >>> noise, signal = noise_of_pair(jnp.array([3.0, 1.0]), jnp.array([3.0, -1.0]), 2)
        >>> noise.item(), signal.item()
        (4.0, 8.0)
    """
    difference = jax.tree.map(lambda a, b: wide(a) - wide(b), first, second)
    return batch_size * inner_product(difference, difference) / 2, inner_product(first, second)


def gradient_curvature(
    loss_fn: Callable, params: Tree, gradient: Tree, batch: Tree, diagonal: Tree | None = None, *, has_aux: bool = False
) -> jax.Array:
    """v.Hv / v.Pv along v = P^(-1) g: the curvature of the preconditioned loss along its own gradient.

    With P = 1 it is the sharpness of the batch along its gradient. Above 2 / eta a step of this batch raises its own loss on
    the quadratic; before spikes of Adam it rises above that line.

    Args:
        loss_fn: `(params, batch) -> scalar`.
        params: theta.
        gradient: g of the same batch.
        batch: one batch.
        diagonal: P, a tree like the parameters, from `lrjax.spectra.preconditioner`; None for 1.
        has_aux: whether `loss_fn` returns `(scalar, auxiliary data)`.

    Returns:
        The curvature, NaN for a gradient of zero.

    References:
        Bai et al. 2025, Adaptive preconditioners trigger loss spikes in Adam, arXiv 2506.04805 (read as an abstract).

    Example:
        >>> loss = lambda w, _: jnp.sum(jnp.array([1.0, 4.0]) * w**2) / 2
        >>> gradient_curvature(loss, jnp.ones(2), jnp.array([0.0, 4.0]), None).item()
        4.0
        >>> gradient_curvature(loss, jnp.ones(2), jnp.array([0.0, 4.0]), None, jnp.array([1.0, 2.0])).item()
        2.0
    """
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(wide(leaf)), initial=0) for leaf in jax.tree.leaves(gradient)]))
    scaled = jax.tree.map(lambda g: wide(g) / jnp.where(largest > 0, largest, 1), gradient)
    divided = scaled if diagonal is None else jax.tree.map(lambda g, p: g / p, scaled, diagonal)
    line = along(loss_fn, params, divided, batch, has_aux=has_aux)
    square = inner_product(scaled, divided)
    return jnp.where(square > 0, line.curvature / jnp.where(square > 0, square, 1), jnp.nan)
