"""The recursion of TEXP++, one step: floats on the host, arrays in a compiled step."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

import jax
import numpy as np
import optax

# A setting of the run with weight decay: a number, a schedule, or an array with a number a step.
Value = optax.ScalarOrSchedule | np.ndarray | None

DECAYS = ("l2", "decoupled")

Number = TypeVar("Number", float, jax.Array)


class Step(NamedTuple, Generic[Number]):
    """One step of the recursion: alpha_{t+1} = 1 - shrink, kappa_{t+1} = c / alpha_{t+1}, and the use of the buffer.

    Attributes:
        shrink, c: see above.
        momentum: factor of the buffer.
        gain: factor of the gradient on its way into the buffer; None where it is 1.
        ahead: the shares of old buffer and gradient in Nesterov's step; None without.
    """

    shrink: Number
    c: Number
    momentum: Number
    gain: Number | None
    ahead: tuple[Number, Number] | None


def no_momentum(momentum: Value) -> bool:
    """Whether no buffer is needed: None or a plain 0, not an array or a schedule."""
    return momentum is None or (isinstance(momentum, int | float) and momentum == 0)


def next_step(
    kappa: Number,
    alpha: Number,
    learning_rate: Number,
    weight_decay: Number,
    momentum: Number,
    nesterov: bool,
    decay: str,
) -> Step[Number]:
    """The recursion of TEXP++ for one step.

    With c = gamma kappa + lambda: alpha' = 1 - eta c and kappa' = c / alpha'. This is the paper's
    alpha' = 1 - lambda eta + gamma (eta / eta_before) (1 - 1 / alpha), without its division by a rate that may be 0.

    Args:
        kappa, alpha: of the step before; 0 and 1 at the first.
        learning_rate, weight_decay, momentum: of this step, in the run with weight decay.
        nesterov, decay: the update rule of that run.

    Returns:
        The step.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, Theorem 2.13.

    Example:
        >>> step = next_step(0.0, 1.0, 0.1, 5e-4, 0.9, nesterov=False, decay="l2")
        >>> step.shrink, step.momentum
        (5e-05, 0.9)
    """
    eta, lam, gamma = learning_rate, weight_decay, momentum
    if decay == "decoupled":
        buffer = gamma * alpha
        return Step(eta * lam, 0 * kappa, buffer, None, (gamma * buffer, 1 + gamma) if nesterov else None)
    c = gamma * kappa + lam
    if not nesterov:
        return Step(eta * c, c, gamma, None, None)
    kept = 1 - eta * lam
    return Step(eta * (lam + gamma * c), c, gamma * kept, kept + eta * c, (gamma * gamma, 1 + gamma))
