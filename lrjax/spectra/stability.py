"""Stability thresholds of training: edges of optimizers and the stability condition of SGD."""

from __future__ import annotations

import math
from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lrjax.errors import check, nearest
from lrjax.spectra.ranges import Numbers, in_range, traced

if TYPE_CHECKING:
    from jaxtyping import Float


def gradient_descent(learning_rate: Numbers) -> Numbers:
    """2 / eta, from |1 - eta lambda| = 1."""
    return 2 / learning_rate


def heavy_ball(learning_rate: Numbers, momentum: Numbers) -> Numbers:
    """2 (1 + b) / eta: m <- b m + g, theta <- theta - eta m (Cohen et al. 2021, arXiv 2103.00065)."""
    return 2 * (1 + momentum) / learning_rate


def nesterov(learning_rate: Numbers, momentum: Numbers) -> Numbers:
    """2 (1 + b) / (eta (1 + 2 b)), from z^2 - (1 + b)(1 - eta lambda) z + b (1 - eta lambda) = 0 at z = -1."""
    return 2 * (1 + momentum) / (learning_rate * (1 + 2 * momentum))


def nadam(learning_rate: Numbers, b1: Numbers = 0.9) -> Numbers:
    """2 (1 + b1) / ((1 - b1)(1 + 2 b1) eta), Nesterov's with the rate (1 - b1) eta, for P^(-1/2) H P^(-1/2)."""
    return 2 * (1 + b1) / (learning_rate * (1 - b1) * (1 + 2 * b1))


def adam(learning_rate: Numbers, b1: Numbers = 0.9) -> Numbers:
    """2 (1 + b1) / ((1 - b1) eta), for P^(-1/2) H P^(-1/2) (Cohen et al. 2022, arXiv 2207.14484): 38 / eta at 0.9."""
    return 2 * (1 + b1) / ((1 - b1) * learning_rate)


def adamw(learning_rate: Numbers, b1: Numbers = 0.9, weight_decay: Numbers = 0.0) -> Numbers:
    """(2 - eta w)(1 + b1) / ((1 - b1) eta): Adam's edge, lowered by decoupled decay theta <- (1 - eta w) theta - ..."""
    return (2 - learning_rate * weight_decay) * (1 + b1) / ((1 - b1) * learning_rate)


EDGES: dict[str, Callable[..., Numbers]] = {
    "gradient_descent": gradient_descent,
    "heavy_ball": heavy_ball,
    "nesterov": nesterov,
    "nadam": nadam,
    "adam": adam,
    "adamw": adamw,
}
"""Thresholds of lambda_1 by optimizer, for `edge`; each a function of the learning rate and the settings of the optimizer.

References:
    Cohen et al. 2021, arXiv 2103.00065, for gradient descent and heavy ball; Cohen et al. 2022, arXiv 2207.14484, for Adam.
"""


def edge(optimizer: str, learning_rate: Numbers, **settings: Numbers) -> Numbers:
    """Edge of stability: the lambda_1 above which full-batch training oscillates and grows along the top eigenvector.

    On a quadratic, theta diverges above it and converges below it. Networks rise to it and hover: the edge of stability.
    For Adam and its relatives lambda_1 is that of the preconditioned Hessian, P from `preconditioner` (which says whose edge
    is whose), and bias correction of the momentum has died out. A penalty (w / 2) |theta|^2 in the loss adds w to lambda_1 of
    the loss without it.

    Args:
        optimizer: a name in `EDGES`.
        learning_rate: number or array, 0 or more; NaN in an array stays NaN.
        **settings: `momentum` for heavy_ball and nesterov; `b1` (0.9) for adam, adamw and nadam; `weight_decay` (0) for adamw.

    Returns:
        The threshold, of the shape of the arguments; infinity where the rate is zero.

    Raises:
        LrjaxError: an unknown optimizer, settings that it does not have, a negative rate or decay, momentum not below 1.

    References:
        Cohen et al. 2021, Gradient descent on neural networks typically occurs at the edge of stability, arXiv 2103.00065.
        Cohen et al. 2022, Adaptive gradient methods at the edge of stability, arXiv 2207.14484.
        The edges of Nesterov momentum and of decoupled weight decay are derived here.

    Example:
        >>> edge("gradient_descent", 0.5), edge("heavy_ball", 0.5, momentum=0.5), round(edge("adam", 1.0), 6)
        (4.0, 6.0, 38.0)
    """
    check(optimizer in EDGES, f"no edge is known for optimizer {optimizer!r}; {nearest(optimizer, EDGES)}")
    threshold = EDGES[optimizer]
    parameters = signature(threshold).parameters
    names = [name for name in parameters if name != "learning_rate"]
    needed = [name for name in names if parameters[name].default is parameters[name].empty]
    right = set(needed) <= set(settings) <= set(names)
    check(
        right,
        f"the edge of {optimizer!r} takes {names or 'no settings'} and needs {needed or 'none'}, not {list(settings)}",
    )
    in_range("learning_rate", learning_rate, "0 or more", gaps=True)
    for name, value in settings.items():
        in_range(name, value, "0 or more" if name == "weight_decay" else "from 0 to below 1")
    if isinstance(learning_rate, int | float) and learning_rate == 0:
        return math.inf
    with np.errstate(divide="ignore"):
        return threshold(learning_rate, **settings)


@overload
def sampling_factor(batch_size: float, num_examples: float) -> float: ...
@overload
def sampling_factor(batch_size: Numbers, num_examples: Numbers) -> Numbers: ...
def sampling_factor(batch_size: Numbers, num_examples: Numbers) -> Numbers:
    """Finite-population factor kappa = (N - S) / (S (N - 1)): Var(mean of S of N values, without replacement) / Var(value).

    Raises:
        LrjaxError: fewer than two examples, or a batch that is not 1 to N of them.

    Example:
        >>> sampling_factor(1, 10), sampling_factor(10, 10)
        (1.0, 0.0)
    """
    in_range("batch_size", batch_size, "1 or more")
    in_range("num_examples", num_examples, "2 or more")
    if not traced(batch_size, num_examples):
        within = bool(np.all(np.asarray(batch_size) <= np.asarray(num_examples)))
        check(within, f"a batch of {batch_size} is more than the {num_examples} examples")
    return (num_examples - batch_size) / batch_size / (num_examples - 1)  # S (N - 1) may leave int32


def stability_lhs(
    sharpness: Numbers,
    curvatures: Float[ArrayLike, "n"],
    learning_rate: Numbers,
    batch_size: Numbers,
    num_examples: Numbers,
) -> jax.Array:
    """Stability condition of SGD, (1 - eta lambda_1)^2 + s^2 eta^2 (N - S) / (S (N - 1)) <= 1 along the top eigenvector.

    The left-hand side is the factor by which E (psi - psi*)^2 grows in a step of plain SGD along e, the losses being
    quadratic along e. The first step at which it reaches 1 is the break-even point. A pure function; may be jitted and
    mapped.

    Args:
        sharpness: lambda_1 of the Hessian, on the examples of `curvatures`.
        curvatures: [n], H_i = e^T H_i e (`lrjax.spectra.directions.curvature_along`); s^2 is their variance, divisor n.
        learning_rate: eta.
        batch_size: S.
        num_examples: N of the training set, which may be more than n.

    Returns:
        Scalar, the growth factor.

    Raises:
        LrjaxError: curvatures that are not [n], none, NaN; a negative rate; a batch that is not 1 to N examples, N 2 or more.
            Traced values are not looked at.

    References:
        Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories, equation 1.
        Wu et al. 2018, How SGD selects the global minima in over-parameterized learning.

    Example:
        >>> curvatures = jnp.array([1.0, 3.0])  # lambda_1 = 2, s^2 = 1
        >>> [round(float(stability_lhs(2.0, curvatures, 0.5, size, 100)), 4) for size in (1, 100)]
        [0.25, 0.0]
    """
    in_range("learning_rate", learning_rate, "0 or more")
    kappa = sampling_factor(batch_size, num_examples)
    std = _deviation(curvatures)
    return jnp.square(1 - learning_rate * sharpness) + kappa * jnp.square(learning_rate * std)


def _deviation(curvatures: ArrayLike) -> Numbers:
    """Their standard deviation, divisor n, at any scale."""
    known = not traced(curvatures)
    xp = np if known and not isinstance(curvatures, jax.Array) else jnp
    values = xp.asarray(curvatures) * 1.0
    shape = values.shape
    check(
        len(shape) == 1 and shape[0] > 0,
        f"curvatures must be [n], one an example, not {list(shape)}; map over points with jax.vmap",
    )
    if known:
        check(bool(xp.all(xp.isfinite(values))), "the curvatures hold NaN or infinity; leave that point out")
    largest = xp.max(xp.abs(values))
    largest = xp.where(largest > 0, largest, 1)
    return xp.std(values / largest) * largest


def break_even_sharpness(
    learning_rate: Numbers,
    batch_size: Numbers,
    num_examples: Numbers,
    *,
    std: Numbers | None = None,
    variation: Numbers | None = None,
) -> jax.Array:
    """The largest lambda_1 at which SGD is stable: where lambda + kappa s^2 / lambda = 2 / eta, kappa as in `sampling_factor`.

    With s given it is (1 + sqrt(1 - eta^2 kappa s^2)) / eta; with s = c lambda, 2 / (eta (1 + kappa c^2)). Without noise
    (S = N) both are 2 / eta. A pure function.

    Args:
        learning_rate: eta.
        batch_size: S.
        num_examples: N.
        std: s, standard deviation of the curvatures H_i.
        variation: c = s / lambda, their coefficient of variation. Give it or `std`.

    Returns:
        Of the shape of the arguments; NaN where the noise alone is unstable, eta s sqrt(kappa) > 1.

    Raises:
        LrjaxError: both or neither of `std` and `variation`; a rate that is not positive, negative noise, or a batch that is
            not 1 to N examples. Traced values are not looked at.

    References:
        Derived from equation 1 of Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories.

    Example:
        >>> float(break_even_sharpness(0.5, 100, 100, std=1.0)), float(break_even_sharpness(0.5, 1, 100, variation=1.0))
        (4.0, 2.0)
    """
    check((std is None) != (variation is None), "give std or variation, one of them")
    in_range("learning_rate", learning_rate, "above 0")
    in_range("std or variation", std if variation is None else variation, "0 or more")
    kappa = sampling_factor(batch_size, num_examples)
    if variation is not None:
        return jnp.asarray(2 / (learning_rate * (1 + kappa * jnp.square(variation))))
    assert std is not None
    return (1 + jnp.sqrt(1 - jnp.square(learning_rate * std) * kappa)) / learning_rate


def break_even_learning_rate(sharpness: Numbers, std: Numbers, batch_size: Numbers, num_examples: Numbers) -> Numbers:
    """Largest stable learning rate, 2 lambda / (lambda^2 + kappa s^2): SGD is stable along the top eigenvector up to it.

    Args:
        sharpness: lambda_1, positive.
        std: s, standard deviation of the curvatures H_i.
        batch_size: S.
        num_examples: N.

    Returns:
        Of the shape of the arguments.

    Raises:
        LrjaxError: a sharpness that is not positive, negative noise, or a batch that is not 1 to N examples. Traced values are
            not looked at.

    References:
        Derived from equation 1 of Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories.

    Example:
        >>> break_even_learning_rate(4.0, 0.0, 1, 100), break_even_learning_rate(4.0, 4.0, 1, 100)
        (0.5, 0.25)
    """
    in_range("sharpness", sharpness, "above 0")
    in_range("std", std, "0 or more")
    # Not 2 lambda / (lambda^2 + ...), whose squares leave the range of floats, and of int32, first.
    return 2 / (sharpness + sampling_factor(batch_size, num_examples) * std * (std / sharpness))
