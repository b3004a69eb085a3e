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


def capacity(e: ArrayLike) -> NDArray[np.float64]:
    """K = 1 - 1/e, the share of y f that oscillation moves from the strong to the weak feature; 0 for e <= 1.

    Example:
        >>> capacity([0.9, 1.25]).round(4).tolist()
        [0.0, 0.2]
    """
    return 1.0 - 1.0 / np.maximum(np.asarray(e, float), STABILITY_LIMIT)


def single_example_end(e: ArrayLike, eps: ArrayLike) -> NDArray[np.float64]:
    """Limit of V on one noise-free strong example: (1 - 1/e) / (1 - eps).

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


def small_lr_weak_end(v0: float, sigma_0: float, xi_norm: float, n_wy: int, kn: float) -> float:
    """Limit of V at a small learning rate: v0 (2 / (sigma_0 |xi|)^2)^(n_wy / kn).

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


def _check_oscillates(e: float, v0: float) -> None:
    if not e > STABILITY_LIMIT:
        raise LrjaxError(f"the weak feature grows by oscillation only for e > 1, got e = {e}; raise the learning rate.")
    if not v0 > 0.0:
        raise LrjaxError(f"the weak feature must start above 0 to grow, got v0 = {v0}.")
