"""Equilibrium of weight decay and normalisation: the angle of a step, the time to get there, the limit, in closed form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lrjax.errors import check

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def angular_update(
    learning_rate: ArrayLike, weight_decay: ArrayLike, momentum: float
) -> np.float64 | NDArray[np.float64]:
    r"""Angle by which scale-invariant weights turn in a step at equilibrium.

    .. math::
        \sqrt{2 \eta \lambda / (1 + \gamma)}

    Args:
        learning_rate: eta, a number or an array.
        weight_decay: lambda, a number or an array that broadcasts against it.
        momentum: gamma of the heavy ball, in [0, 1).

    Returns:
        Radians a step, float64, with the shape of the two arrays broadcast.

    Raises:
        LrjaxError: a momentum outside of [0, 1).

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, the lemma on |w_{t+1} - w_t|^2.
        Wan et al. (2021), Spherical Motion Dynamics, theorem 3.

    Example:
        >>> round(float(angular_update(0.1, 5e-4, 0.9)), 5)
        0.00725
    """
    _check_momentum(momentum)
    return np.sqrt(2 * np.asarray(learning_rate, np.float64) * np.asarray(weight_decay) / (1 + momentum))


def adamw_angular_update(
    learning_rate: ArrayLike, weight_decay: ArrayLike, b1: float
) -> np.float64 | NDArray[np.float64]:
    r"""Angle by which the weights of AdamW turn in a step at equilibrium, where gradients are noise.

    .. math::
        \sqrt{2 \eta \lambda (1 - \beta_1) / (1 + \beta_1)}

    A step is eta times an average of signs of noise, of mean square (1 - b1) / (1 + b1), over weights of `adamw_rms`. The decay
    is that of `optax.adamw`, decoupled and multiplied by the rate. A steady gradient turns weights further.

    Args:
        learning_rate: eta, a number or an array.
        weight_decay: lambda, a number or an array that broadcasts against it.
        b1: decay of the average of the gradients, in [0, 1).

    Returns:
        Radians a step, float64, with the shape of the two arrays broadcast. For a group of weights as for all of them.

    Raises:
        LrjaxError: b1 outside of [0, 1).

    References:
        Kosson et al. (2024), Rotational Equilibrium: How Weight Decay Balances Learning Across Neural Networks, table 1.

    Example:
        >>> round(float(adamw_angular_update(1e-3, 0.1, 0.9)), 5)
        0.00324
    """
    _check_momentum(b1, "b1")
    decayed = np.asarray(learning_rate, np.float64) * np.asarray(weight_decay)
    return np.sqrt(2 * decayed * (1 - b1) / (1 + b1))


def adamw_rms(learning_rate: ArrayLike, weight_decay: ArrayLike) -> np.float64 | NDArray[np.float64]:
    r"""Root mean square of the weights of AdamW at equilibrium, where gradients are noise.

    .. math::
        \sqrt{\eta / (2 \lambda)}

    The steps are correlated over 1 / (1 - b1) steps, and their sum over such a time does not depend on b1. The next term
    multiplies this by 1 + eta lambda (1/4 - b1 / (1 - b1^2)). A steady gradient makes weights longer.

    Args:
        learning_rate: eta, a number or an array.
        weight_decay: lambda, positive; a number or an array that broadcasts against it.

    Returns:
        In units of the weights, float64, with the shape of the two arrays broadcast. For a group of weights as for all of them.

    Raises:
        LrjaxError: a decay that is not positive.

    References:
        Kosson et al. (2024), Rotational Equilibrium: How Weight Decay Balances Learning Across Neural Networks, table 1.

    Example:
        >>> round(float(adamw_rms(1e-3, 0.1)), 4)
        0.0707
    """
    decay = np.asarray(weight_decay, np.float64)
    check(bool(np.all(decay > 0)), f"without decay there is no equilibrium: weight_decay is {np.min(decay):g}")
    return np.sqrt(np.asarray(learning_rate, np.float64) / (2 * decay))


def time_to_equilibrium(learning_rate: float, weight_decay: float, momentum: float) -> float:
    r"""Steps in which decay alone shrinks the squared norm of the weights by a factor of e.

    .. math::
        (1 - \gamma) / (2 \eta \lambda)

    Args:
        learning_rate: eta, positive.
        weight_decay: lambda, positive.
        momentum: gamma of the heavy ball, in [0, 1).

    Returns:
        Steps.

    Raises:
        LrjaxError: a rate or a decay that is not positive, or a momentum outside of [0, 1).

    References:
        Wan et al. (2021), Spherical Motion Dynamics, theorems 1 to 3.

    Example:
        >>> round(time_to_equilibrium(0.1, 5e-4, 0.9))
        1000
    """
    _check_momentum(momentum)
    check(
        learning_rate * weight_decay > 0,
        f"without decay there is no equilibrium: learning_rate * weight_decay is {learning_rate * weight_decay:g}",
    )
    return (1 - momentum) / (2 * learning_rate * weight_decay)


def limit_fraction(learning_rate: float, weight_decay: float, momentum: float) -> float:
    r"""eta * lambda over its largest admissible value.

    .. math::
        \eta \lambda / (1 - \sqrt{\gamma})^2

    Above 1 no run without weight decay equals a run at this constant rate and decay.

    Args:
        learning_rate: eta.
        weight_decay: lambda.
        momentum: gamma of the heavy ball, in [0, 1).

    Returns:
        The fraction; `texp_schedule` and, for long runs, `wd_free_plan` need at most 1.

    Raises:
        LrjaxError: a momentum outside of [0, 1).

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.12: its condition on the roots
        of x^2 - (1 + gamma - lambda eta) x + gamma.

    Example:
        >>> round(limit_fraction(0.1, 5e-4, 0.9), 3)
        0.019
    """
    _check_momentum(momentum)
    return learning_rate * weight_decay / (1 - math.sqrt(momentum)) ** 2


def _check_momentum(momentum: float, name: str = "momentum") -> None:
    check(0 <= momentum < 1, f"{name} must be in [0, 1), not {momentum}")
