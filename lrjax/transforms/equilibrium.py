"""What weight decay and normalisation settle on: angles, times and limits in closed form."""

import math
from typing import Any

import numpy as np


def angular_update(learning_rate: Any, weight_decay: Any, momentum: float) -> Any:
    r"""The angle by which scale-invariant weights turn in a step at equilibrium, sqrt(2 eta lambda / (1 + gamma)), in radians.

    Source: Li & Arora 2020 (their lemma on |w_{t+1} - w_t|^2); Wan et al. 2021, Spherical Motion Dynamics, theorem 3.

    Example:
        >>> round(float(angular_update(0.1, 5e-4, 0.9)), 5)
        0.00725
    """
    return np.sqrt(2 * np.asarray(learning_rate) * weight_decay / (1 + momentum))


def time_to_equilibrium(learning_rate: float, weight_decay: float, momentum: float) -> float:
    """Steps in which decay alone would shrink |w|^2 by e, (1 - gamma) / (2 eta lambda).

    Example:
        >>> round(time_to_equilibrium(0.1, 5e-4, 0.9))
        1000
    """
    return (1 - momentum) / (2 * learning_rate * weight_decay)


def headroom(learning_rate: float, weight_decay: float, momentum: float) -> float:
    """eta lambda as a share of the most that has an exponential twin, (1 - sqrt(gamma))^2.

    Example:
        >>> round(headroom(0.1, 5e-4, 0.9), 3)
        0.019
    """
    return learning_rate * weight_decay / (1 - math.sqrt(momentum)) ** 2
