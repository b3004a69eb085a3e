"""From an exponential learning rate back to a learning rate with weight decay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lrjax.errors import check
from lrjax.transforms.settings import whole_numbers

if TYPE_CHECKING:
    from jaxtyping import Float, Float64
    from numpy.typing import ArrayLike


def to_weight_decay(
    growth: ArrayLike, learning_rate: ArrayLike, momentum: float = 0.0, *, boundaries: Sequence[int] = ()
) -> tuple[float, float] | tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
    r"""Constant learning rate and weight decay, per phase, of the run that equals one with an exponential learning rate.

    .. math::
        \alpha = r^{-1/2}, \qquad \eta = \alpha P^2 \tilde\eta, \qquad \lambda = (1 - \alpha)(1 - \gamma / \alpha) / \eta

    where P is 1 at the first step and multiplied by alpha at each. The exact equal starts with the buffer
    :math:`v_0 = \kappa \theta_0, \kappa = (1 / \alpha - 1) / \eta`, and with 0 if the exponential run corrected its buffer
    at t = 0, as `texp` does.

    Args:
        growth: r, factor of the rate per step, at least 1; with boundaries [K], one a phase.
        learning_rate: rate of the exponential run at its first step; with boundaries [K], at the first step of each phase.
        momentum: of both runs, heavy ball.
        boundaries: [K - 1], first steps of phases 1, 2, ..., as for `texp_schedule`.

    Returns:
        (learning_rate, weight_decay): floats, or float64 [K] with boundaries.

    Raises:
        LrjaxError: a growth below 1, or beyond 1 / momentum, where the equal run would not follow the larger root.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorems 2.9 and 2.12,
        solved for rate and decay.

    Example:
        >>> learning_rate, weight_decay = to_weight_decay(1.0010050, 0.10005025, momentum=0.9)  # 1.4812 in 391 steps
        >>> round(learning_rate, 6), round(weight_decay, 6)
        (0.1, 0.0005)
    """
    starts = np.concatenate([[0], whole_numbers(boundaries, "boundaries")])
    r, rate = (np.atleast_1d(np.asarray(a, np.float64)) for a in (growth, learning_rate))
    check(
        r.shape == rate.shape == starts.shape,
        f"{starts.size} phases need as many values of growth and of learning_rate",
    )
    check(bool((np.diff(starts) > 0).all()), f"boundaries must be positive and increase, not {list(boundaries)}")
    check(0 <= momentum < 1, f"momentum must be in [0, 1), not {momentum}")
    inside = (r >= 1) & (r * momentum <= 1)
    check(
        bool(inside.all()),
        f"a growth of {r[int(np.argmin(inside))]:g} a step equals no weight decay with momentum {momentum:g}: it must be at "
        "least 1 and at most 1 / momentum; for other paths use weight_decay_path",
    )
    log_alpha = -np.log(r) / 2
    log_scale = np.concatenate([[0.0], np.cumsum(np.diff(starts) * log_alpha[:-1])])
    eta = rate * np.exp(log_alpha + 2 * log_scale)
    lam = -np.expm1(log_alpha) * (1 - momentum * np.exp(-log_alpha)) / eta
    return (eta, lam) if boundaries or np.ndim(growth) else (float(eta[0]), float(lam[0]))


class WeightDecayPath(NamedTuple):
    """A run with weight decay that equals a given run without; float64.

    Attributes:
        learning_rate, weight_decay: [T].
        kappa: the share of the weights in the buffer, [T + 1]; kappa[0] is 0, an empty buffer.
        log_scale: log P_t, [T + 1]: theta_t = P_t * theta~_t.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.13.

    Example:
        >>> path = weight_decay_path(np.log([0.1, 0.2]), np.array([1.0, 0.5]))
        >>> path.learning_rate.round(3).tolist(), path.weight_decay.round(3).tolist()
        ([0.1, 0.1], [0.0, 5.0])
    """

    learning_rate: Float64[np.ndarray, " T"]
    weight_decay: Float64[np.ndarray, " T"]
    kappa: Float64[np.ndarray, " T+1"]
    log_scale: Float64[np.ndarray, " T+1"]


def weight_decay_path(
    log_lr: Float[np.ndarray, " T"], alpha: Float[np.ndarray, " T"], momentum: ArrayLike = 0.0
) -> WeightDecayPath:
    r"""Learning rates and weight decays, step by step, for a run without weight decay and a path of the scale.

    The equal run with weight decay is not unique: its scale P_t may follow any positive path, a choice of gauge. Given
    :math:`\alpha_{t+1} = P_{t+1} / P_t`,

    .. math::
        \eta_t = \tilde\eta_t P_t P_{t+1}, \qquad \lambda_t = (1 - \alpha_{t+1}) / \eta_t - \gamma_t \kappa_t, \qquad
        \kappa_{t+1} = (1 / \alpha_{t+1} - 1) / \eta_t, \qquad \kappa_0 = 0.

    Args:
        log_lr: [T], log of the rates of the run without weight decay; finite.
        alpha: [T], positive; of `constant_norm`, or the user's own.
        momentum: a number, or [T]; heavy ball, of both runs.

    Returns:
        `WeightDecayPath`. A weight decay may be negative: where the scale grows, or shrinks less than the buffer would.

    Raises:
        LrjaxError: the first step with alpha not positive, or a rate that is not.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, the recursion of Theorem 2.13,
        solved for rate and decay.

    Example:
        >>> from lrjax.transforms.plan import wd_free_plan
        >>> plan = wd_free_plan(0.1, 5e-4, 0.9, num_steps=100)
        >>> path = weight_decay_path(plan.log_lr, plan.alpha, 0.9)
        >>> bool(np.allclose(path.learning_rate, 0.1)), bool(np.allclose(path.weight_decay, 5e-4))
        (True, True)
    """
    log_lr, alpha = np.asarray(log_lr, np.float64), np.asarray(alpha, np.float64)
    check(log_lr.shape == alpha.shape and alpha.ndim == 1, "log_lr and alpha must be arrays with one entry a step")
    gamma = np.broadcast_to(np.asarray(momentum, np.float64), alpha.shape)
    positive = (alpha > 0) & np.isfinite(alpha)
    check(bool(positive.all()), f"alpha must be positive; it is not at step {int(np.argmin(positive))}")
    check(
        bool(np.isfinite(log_lr).all()),
        f"the learning rate is not positive at step {int(np.argmin(np.isfinite(log_lr)))}",
    )
    log_scale = np.concatenate([[0.0], np.cumsum(np.log(alpha))])
    eta = np.exp(log_lr + log_scale[:-1] + log_scale[1:])
    kappa = np.concatenate([[0.0], (1 / alpha - 1) / eta])
    return WeightDecayPath(eta, (1 - alpha) / eta - gamma * kappa[:-1], kappa, log_scale)


def constant_norm(norms: Float[np.ndarray, " T+1"]) -> Float64[np.ndarray, " T"]:
    """The alpha of `weight_decay_path` along which the weights of the run with weight decay keep their norm.

    Args:
        norms: [T + 1], Euclidean norms of the weights of the run without weight decay, before the first step and after each.

    Returns:
        [T], float64.

    Raises:
        LrjaxError: a norm that is not positive and finite.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, section 2: the scale P_t is a
        choice of gauge.

    Example:
        >>> constant_norm(np.array([1.0, 2.0, 2.5])).tolist()
        [0.5, 0.8]
    """
    norms = np.asarray(norms, np.float64)
    positive = (norms > 0) & np.isfinite(norms)
    check(bool(positive.all()), f"norms must be positive; norm {int(np.argmin(positive))} is not")
    return norms[:-1] / norms[1:]
