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


def _check_momentum(momentum: float) -> None:
    check(0 <= momentum < 1, f"momentum must be in [0, 1), not {momentum}")
