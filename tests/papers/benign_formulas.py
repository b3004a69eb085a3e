"""Closed forms of the two-layer model and its cubic map that only tests compare with."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.papers.benign_osc.cubic_map import STABILITY_LIMIT

# Where the two chaotic bands merge, g(g(g(z_max))) = 1: above, orbits come arbitrarily close to z = 1.
BAND_MERGING = 1.36089377


def e_of_learning_rate(learning_rate: float, u_norm: float, width: int, kappa: float = 4.0) -> float:
    """e = kappa eta |u|^2 / m: the strong feature loses its stability at e = 1, whatever the loss and the width.

    Args:
        learning_rate: eta.
        u_norm: |u|.
        width: m, neurons of a class.
        kappa: 4 for the loss (f - y)^2, 2 for (f - y)^2 / 2. Never compare raw learning rates across the two.

    Example:
        The upper end of the window, 2m / (5 |u|^2), under either loss:

        >>> e_of_learning_rate(3.2, 1.0, 8), e_of_learning_rate(3.2, 1.0, 8, kappa=2.0)
        (1.6, 0.8)
    """
    return kappa * learning_rate * u_norm**2 / width


def learning_rate_of_e(e: float, u_norm: float, width: int, kappa: float = 4.0) -> float:
    """eta = e m / (kappa |u|^2), the inverse of `e_of_learning_rate`.

    Example:
        >>> learning_rate_of_e(1.25, 1.0, 8)
        2.5
    """
    return e * width / (kappa * u_norm**2)


def e_full_batch(learning_rate: float, u_norm: float, width: int, n_sy: int, n: int, kappa: float = 4.0) -> float:
    """e_gd = kappa eta |u|^2 n_sy / (n m): what e is for gradient descent on the mean loss of n examples.

    Args:
        learning_rate: eta of gradient descent.
        u_norm: |u|.
        width: m, neurons of a class.
        n_sy: strong examples of one label; only they move the strong feature of that label.
        n: examples.
        kappa: 4 for the loss (f - y)^2, 2 for (f - y)^2 / 2.

    Example:
        >>> e_full_batch(5.0, 1.0, 16, n_sy=28, n=64)
        0.546875
    """
    return e_of_learning_rate(learning_rate, u_norm, width, kappa) * n_sy / n


def accumulation_bound(log_growth: ArrayLike, sum_squares: ArrayLike, e: ArrayLike) -> NDArray[np.float64]:
    """Lower bound on S_y = sum_t (1 - z_t) over the visits of strong examples of label y.

    S_y >= (1/e) log(a_T / a_0) + e / (2 (1 + e)) sum_t (1 - z_t)^2. It follows from
    log(1 + x) <= x - x^2 / (2 (1 + max(x, 0))) for x = e (1 - z), and holds while every q = 1 + x > 0
    and every z >= 0. The second term grows linearly in T while SGD oscillates: the analogue of eq. (7) of the paper,
    which writes z - 1.

    Args:
        log_growth: log(a_T / a_0) = sum_t log(1 + e (1 - z_t)) of any active neuron, a = <w_{y,r}, y u>.
        sum_squares: sum_t (1 - z_t)^2.
        e: learning rate in units of the first instability.

    Example:
        One visit at z = 0, where S_y = 1:

        >>> bool(accumulation_bound(np.log(2.25), 1.0, 1.25) < 1.0)
        True
    """
    e = np.asarray(e, float)
    return np.asarray(log_growth, float) / e + e / (2.0 * (1.0 + e)) * np.asarray(sum_squares, float)


def sharpness_of_example(
    U: ArrayLike,
    V: ArrayLike,
    N: ArrayLike,
    *,
    width: int,
    u_norm: float,
    v_norm: float,
    xi_norm: float,
    kappa: float = 4.0,
) -> NDArray[np.float64]:
    """Top Hessian eigenvalue of the loss of one fitted example, y f = 1: (2 kappa / m)(U |u|^2 + V |v|^2 + N |xi|^2).

    Args:
        U, V, N: contributions of the strong feature, the weak feature and the noise to y f, any shape. Where neurons of
            the other class are active on the example, add theirs: gradients add in square.
        width: m, neurons of a class.
        u_norm, v_norm, xi_norm: |u|, |v|, |xi|.
        kappa: 4 for the loss (f - y)^2, 2 for (f - y)^2 / 2.

    Example:
        >>> round(float(sharpness_of_example(0.8, 0.2, 0.0, width=16, u_norm=1.0, v_norm=0.1, xi_norm=0.35)), 4)
        0.401
    """
    U, V, N = np.asarray(U, float), np.asarray(V, float), np.asarray(N, float)
    return 2.0 * kappa / width * (U * u_norm**2 + V * v_norm**2 + N * xi_norm**2)


def stability_of_example(
    U: ArrayLike, V: ArrayLike, N: ArrayLike, *, e: ArrayLike, eps: float, eps_xi: float
) -> NDArray[np.float64]:
    """eta lambda / 2 = e (U + eps V + eps_xi N) at a fitted example: stable below 1, and large-LR runs end near 1.

    lambda is that of `sharpness_of_example`; the arguments U, V and N are as there.

    Example:
        >>> round(float(stability_of_example(0.8, 0.2, 0.0, e=1.25, eps=0.01, eps_xi=0.12)), 4)
        1.0025
    """
    U, V, N = np.asarray(U, float), np.asarray(V, float), np.asarray(N, float)
    return np.asarray(e, float) * (U + eps * V + eps_xi * N)


def period_two_stable(e: float) -> bool:
    """Whether the cycle of period 2 attracts: abs(9 - 2 (1 + e)^2) < 1, that is 1 < e < sqrt(5) - 1.

    Example:
        >>> [period_two_stable(e) for e in (0.9, 1.1, 1.23, 1.24)]
        [False, True, True, False]
    """
    return e > STABILITY_LIMIT and abs(9.0 - 2.0 * (1.0 + e) ** 2) < 1.0
