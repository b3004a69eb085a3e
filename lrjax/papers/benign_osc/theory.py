"""Predictions for the weak feature: how far oscillation carries it, how fast, and where small learning rates leave it.

The model: f(x) = (1/m) sum_{j, r, p} j max(<w_{j,r}, x_p>, 0)^2 on patches (y u, y v, xi), squared loss, plain SGD.
For a label y, U, V and N are what the strong feature u, the weak feature v and the noise xi of an example add to y f;

    e = kappa eta |u|^2 / m,    eps = |v|^2 / |u|^2,    eps_xi = sigma_p^2 (d - 2) / |u|^2,    kn = eps_xi / eps.

kappa is 4 for the loss (f - y)^2 and 2 for (f - y)^2 / 2. The mechanism, a sum of 1 - y f that grows linearly while SGD
oscillates, is that of Lu et al. 2024 (arXiv 2310.17074, Section 3); the closed forms are derived from the model, to
first order in eps, and are not statements of the paper.
"""

from math import log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.errors import LrjaxError
from lrjax.papers.benign_osc.cubic_map import STABILITY_LIMIT


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


def capacity(e: ArrayLike) -> NDArray[np.float64]:
    """K = 1 - 1/e, the share of y f that oscillation moves from the strong to the weak feature; 0 for e <= 1.

    Example:
        >>> capacity([0.9, 1.25]).round(4).tolist()
        [0.0, 0.2]
    """
    return 1.0 - 1.0 / np.maximum(np.asarray(e, float), STABILITY_LIMIT)


def single_example_end(e: ArrayLike, eps: ArrayLike) -> NDArray[np.float64]:
    """Where V ends on one noise-free strong example: (1 - 1/e) / (1 - eps).

    The fitted point U + V = 1 is stable once e (U + eps V) <= 1; the run drifts along it until then: a floor.

    Example:
        >>> single_example_end([1.1, 1.25], 0.01).round(4).tolist()
        [0.0918, 0.202]
    """
    return capacity(e) / (1.0 - np.asarray(eps, float))


def logistic_weak(t: ArrayLike, v0: float, e: float, eps: float) -> NDArray[np.float64]:
    """V after t visits: the solution of dV/dt = eps (e - 1) V (1 - V/K), K = 1 - 1/e, V(0) = v0.

    Averaged over the cycle of period 2; a good approximation up to e = 1.25, too slow for a chaotic strong feature.

    Args:
        t: visits of strong examples of this label, any shape.
        v0: V at the start, positive.
        e: above 1.
        eps: |v|^2 / |u|^2.

    Raises:
        LrjaxError: for e <= 1, where nothing oscillates and V stays, and for v0 <= 0.

    Example:
        >>> logistic_weak([0.0, 1e6], 1e-5, 1.25, 0.01).round(5).tolist()
        [1e-05, 0.2]
    """
    _check_oscillates(e, v0)
    k = float(capacity(e))
    return k / (1.0 + (k / v0 - 1.0) * np.exp(-eps * (e - 1.0) * np.asarray(t, float)))


def half_capacity_time(v0: float, e: float, eps: float) -> float:
    """Visits until V = K/2 on the logistic curve: log(K/v0 - 1) / (eps (e - 1)).

    Raises:
        LrjaxError: for e <= 1, and for v0 outside (0, K/2], where the time has passed already.

    Example:
        >>> round(half_capacity_time(1e-5, 1.25, 0.01))
        3961
    """
    _check_oscillates(e, v0)
    k = float(capacity(e))
    if v0 > 0.5 * k:
        raise LrjaxError(f"V starts at {v0}, above half its capacity K/2 = {0.5 * k:.4g}; start smaller or raise e.")
    return log(k / v0 - 1.0) / (eps * (e - 1.0))


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


def small_lr_weak_end(v0: float, sigma_0: float, xi_norm: float, n_wy: int, kn: float) -> float:
    """Where V ends when the learning rate is small: v0 (2 / (sigma_0 |xi|)^2)^(n_wy / kn).

    The strong examples are fitted at once, and the residual stays 1 on the weak ones until their noise memorises them:
    then log(V_T / V_0) = (n_wy / kn) log(N_T / N_0) with N_0 = (sigma_0 |xi|)^2 / 2 and N_T = 1. The content of
    Proposition 6 of the paper, with its order of magnitude made explicit.

    Args:
        v0: V at the start; (sigma_0 |v|)^2 / 2 in expectation.
        sigma_0: scale of the initial weights.
        xi_norm: |xi|, about sigma_p sqrt(d - 2).
        n_wy: weak training examples of one label.
        kn: |xi|^2 / |v|^2.

    Example:
        >>> f"{small_lr_weak_end(5e-7, 0.01, 0.3464, 4, 12.0):.1e}"
        '2.8e-05'
    """
    return v0 * (2.0 / (sigma_0 * xi_norm) ** 2) ** (n_wy / kn)


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


def _check_oscillates(e: float, v0: float) -> None:
    if not e > STABILITY_LIMIT:
        raise LrjaxError(f"the weak feature grows by oscillation only for e > 1, got e = {e}; raise the learning rate.")
    if not v0 > 0.0:
        raise LrjaxError(f"the weak feature must start above 0 to grow, got v0 = {v0}.")
