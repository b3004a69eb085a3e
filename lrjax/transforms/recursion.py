"""The recursion of TEXP++, one step: floats on the host, arrays in a compiled step."""

from typing import Any, NamedTuple

DECAYS = ("l2", "decoupled")


class Step(NamedTuple):
    """One step of the recursion: alpha_{t+1} = 1 - shrink, kappa_{t+1} = c / alpha_{t+1}, and the use of the buffer."""

    shrink: Any
    c: Any
    momentum: Any
    gain: Any
    ahead: Any


def no_momentum(momentum: Any) -> bool:
    """Whether no buffer is needed: None or a plain 0, not an array or a schedule."""
    return momentum is None or (isinstance(momentum, int | float) and momentum == 0)


def next_step(
    kappa: Any,
    alpha: Any,
    learning_rate: Any,
    weight_decay: Any,
    momentum: Any,
    nesterov: bool,
    decay: str,
) -> Step:
    """The recursion of TEXP++ (Li & Arora 2020, Theorem 2.13) for one step; floats on the host, arrays in a compiled step.

    With c = gamma kappa + lambda: alpha' = 1 - eta c and kappa' = c / alpha'. This is the paper's
    alpha' = 1 - lambda eta + gamma (eta / eta_before) (1 - 1 / alpha), without its division by a rate that may be 0.

    Args:
        kappa, alpha: of the step before; 0 and 1 at the first.
        learning_rate, weight_decay, momentum: of this step, in the run with weight decay.
        nesterov, decay: the update rule of that run.
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
