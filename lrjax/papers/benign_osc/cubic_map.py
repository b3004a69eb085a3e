"""The cubic map that the strong feature follows: when SGD oscillates, how, and by how much.

On a strong example let z = y f be the signed prediction and e = kappa eta |u|^2 / m the learning rate in units of the
first instability. While the weak feature and the noise are small, one visit multiplies every active correct neuron by
q = 1 + e (1 - z), and the activation max(., 0)^2 makes that

    z' = g(z) = z (1 + e - e z)^2.

All of it is algebra on the model of Lu et al. 2024 (arXiv 2310.17074, Section 3). The paper itself *assumes* that
abs(y f - 1) >= delta (its Assumption 4); the phases, limits and averages below tell when that assumption holds, and are
not statements of the paper.
"""

from collections.abc import Callable, Iterator
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.errors import LrjaxError

MONOTONE_LIMIT = 0.5
"""Up to here z approaches 1 from one side: the slope of g at 1 is 1 - 2e."""
STABILITY_LIMIT = 1.0
"""Above, z = 1 repels; in the learning rate this is eta = m / (4 |u|^2) for kappa = 4."""
TWO_CYCLE_LIMIT = sqrt(5.0) - 1.0
"""Up to here the cycle of period 2 attracts."""
CHAOS_ONSET = 1.30228346
"""Where the cycles of period 2^k accumulate (located numerically from their superstable members, k <= 8)."""
SIGN_STABLE_LIMIT = 1.5 * sqrt(3.0) - 1.0
"""Below, no orbit from (0, 1 + 1/e) meets q < 0, so no neuron flips its sign: 4 (1 + e)^2 / 27 < 1."""
BOUNDED_LIMIT = 2.0
"""Below, the cubic stays bounded; a ReLU neuron is dead for its class after the first flip, so SGD fails before."""

_MAX_PERIOD = 256


def multiplier(z: ArrayLike, e: ArrayLike) -> NDArray[np.float64]:
    """q = 1 + e (1 - z), the factor of one visit on every active correct neuron.

    Args:
        z: signed predictions y f, any shape that broadcasts with `e`.
        e: learning rate in units of the first instability.

    Example:
        >>> float(multiplier(0.5, 1.2))
        1.6
    """
    return 1.0 + np.asarray(e, float) * (1.0 - np.asarray(z, float))


def cubic_map(z: ArrayLike, e: ArrayLike) -> NDArray[np.float64]:
    """g(z) = z (1 + e - e z)^2, the signed prediction after one visit.

    Args:
        z: signed predictions y f, any shape that broadcasts with `e`.
        e: learning rate in units of the first instability.

    Example:
        >>> float(cubic_map(1.0, 1.2)), float(cubic_map(0.5, 1.0))
        (1.0, 1.125)
    """
    return np.asarray(z, float) * multiplier(z, e) ** 2


def cubic_map_slope(z: ArrayLike, e: ArrayLike) -> NDArray[np.float64]:
    """g'(z) = (1 + e - e z)(1 + e - 3 e z); it is 1 - 2e at the fixed point z = 1.

    Example:
        >>> float(cubic_map_slope(1.0, 0.75))
        -0.5
    """
    q = multiplier(z, e)
    return q * (q - 2.0 * np.asarray(e, float) * np.asarray(z, float))


def orbit(e: ArrayLike, z0: ArrayLike = 0.3, steps: int = 1000, burn_in: int = 0) -> NDArray[np.float64]:
    """Iterates z_t of the cubic map, after `burn_in` steps that are thrown away.

    Args:
        e: values in (0, 2); `e` and `z0` broadcast against each other.
        z0: starts in [0, 1 + 2/e].
        steps: number of iterates returned; the first is z0 itself if `burn_in` is 0.
        burn_in: number of iterates left out before.

    Returns:
        Array [steps, ...], with the common shape of `e` and `z0` behind the time axis.

    Raises:
        LrjaxError: if an orbit would leave every bound.

    Example:
        >>> orbit([0.9, 1.2], steps=2, burn_in=5000).round(4).tolist()
        [[1.0, 0.5348], [1.0, 1.2985]]
    """
    return np.stack(list(_iterate(e, z0, steps, burn_in)))


def period_two(e: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """The cycle of period 2 in closed form.

    q+- = ((1 + e) +- sqrt((1 + e)^2 - 4)) / 2, so q+ q- = 1, and z+- = 1 + (1 - q-+) / e. It exists for every e > 1 and
    attracts up to sqrt(5) - 1.

    Returns:
        ((q+, q-), (z+, z-)), with z+ > 1 > z-. The multiplier at z+ is q-, at z- it is q+.

    Raises:
        LrjaxError: for e <= 1, where there is no such cycle.

    Example:
        >>> (q_plus, q_minus), (z_plus, z_minus) = period_two(1.2)
        >>> round(z_plus, 6), round(z_minus, 6), round(q_plus * q_minus, 12)
        (1.298548, 0.534785, 1.0)
    """
    if not e > STABILITY_LIMIT:
        raise LrjaxError(f"the cubic map has a cycle of period 2 only for e > 1, got e = {e}; raise the learning rate.")
    root = sqrt((1.0 + e) ** 2 - 4.0)
    q_plus = 0.5 * (1.0 + e + root)
    q_minus = 1.0 / q_plus
    return (q_plus, q_minus), (1.0 + (1.0 - q_minus) / e, 1.0 + (1.0 - q_plus) / e)


def mean_residual(e: ArrayLike) -> NDArray[np.float64]:
    """Long-run average of 1 - z: what drives the weak feature at each visit of a strong example.

    0 for e <= 1, (e - 1) / (2e) in the 2-cycle range, an average over numeric orbits beyond (about 3 digits).

    Args:
        e: values in (0, 3 sqrt(3)/2 - 1), any shape.

    Raises:
        LrjaxError: outside that range, where neurons flip and the map is no longer the network.

    Example:
        >>> mean_residual([0.9, 1.1, 1.2]).round(4).tolist()
        [0.0, 0.0455, 0.0833]
    """
    e = _sign_stable(e)
    closed = (np.maximum(e, 1.0) - 1.0) / (2.0 * e)
    return _closed_or_long_run(e, closed, lambda zs: np.mean([(1.0 - z).mean(-1) for z in zs], axis=0))


def residual_floor(e: ArrayLike) -> NDArray[np.float64]:
    """min over the long-run orbit of abs(z - 1): Assumption 4 of the paper can hold with delta only up to this value.

    0 for e <= 1, (1 - q-) / e in the 2-cycle range, the least value on numeric orbits beyond.

    Args:
        e: values in (0, 3 sqrt(3)/2 - 1), any shape.

    Raises:
        LrjaxError: outside that range, where neurons flip and the map is no longer the network.

    Example:
        >>> residual_floor([0.9, 1.06, 1.2]).round(4).tolist()
        [0.0, 0.2045, 0.2985]
    """
    e = _sign_stable(e)
    s = 1.0 + np.maximum(e, 1.0)
    closed = (1.0 - 0.5 * (s - np.sqrt(s**2 - 4.0))) / e
    closed = np.where(e > STABILITY_LIMIT, closed, 0.0)
    return _closed_or_long_run(e, closed, lambda zs: np.min([abs(1.0 - z).min(-1) for z in zs], axis=0))


def lyapunov(e: ArrayLike, steps: int = 2000, burn_in: int = 2000, starts: int = 8) -> NDArray[np.float64]:
    """Lyapunov exponent, the long-run average of log abs(g'(z)): positive means chaos, -inf a superstable cycle.

    Args:
        e: values in (0, 2), any shape.
        steps: visits averaged over, for each start.
        burn_in: visits thrown away before.
        starts: orbits averaged over.

    Example:
        >>> (lyapunov([1.2, 1.35]) > 0).tolist()
        [False, True]
    """
    e = np.asarray(e, float)
    total = np.zeros(e.shape)
    with np.errstate(divide="ignore"):
        for z in _iterate(e[..., None], _starts(e, starts), steps, burn_in):
            total = total + np.log(abs(cubic_map_slope(z, e[..., None]))).mean(-1)
    return total / steps


def orbit_period(e: float, burn_in: int = 50_000) -> int | None:
    """Period of the attracting cycle, or None if the orbit of the maximum of g settles on none of period <= 256.

    Singer's theorem sends that orbit to the attracting cycle if there is one. Closer than about 1e-4 to a bifurcation
    the approach is too slow for `burn_in`, and the answer is None too.

    Example:
        >>> [orbit_period(e) for e in (0.9, 1.1, 1.25, 1.29, 1.35, 1.46)]
        [1, 2, 4, 8, None, 3]
    """
    _check_bounded(np.asarray(e, float))
    z, tail = (1.0 + e) / (3.0 * e), np.empty(2 * _MAX_PERIOD)
    for _ in range(burn_in):
        z *= (1.0 + e - e * z) ** 2
    for t in range(len(tail)):
        tail[t] = z
        z *= (1.0 + e - e * z) ** 2
    for period in range(1, _MAX_PERIOD + 1):
        if np.max(abs(tail[period:] - tail[:-period])) < 1e-9:
            return period
    return None


def phase(e: float) -> str:
    """The phase of the strong feature at e, in a word.

    Returns:
        "monotone" (e <= 1/2), "damped" (<= 1), "2-cycle" (<= sqrt(5) - 1), "4-cycle", "8-cycle" ... ("2^k-cycle" where
        the period is too long or the approach too slow to tell), from 1.3023 "chaotic" or "periodic window", and
        "sign-flip" from 3 sqrt(3)/2 - 1, where neurons change class or the run diverges.

    Raises:
        LrjaxError: for e <= 0.

    Example:
        >>> [phase(e) for e in (0.2, 0.9, 1.1, 1.25, 1.4, 1.65)]
        ['monotone', 'damped', '2-cycle', '4-cycle', 'chaotic', 'sign-flip']
    """
    if not e > 0.0:
        raise LrjaxError(f"e must be positive, got {e}; set a positive learning rate.")
    for limit, name in ((MONOTONE_LIMIT, "monotone"), (STABILITY_LIMIT, "damped"), (TWO_CYCLE_LIMIT, "2-cycle")):
        if e <= limit:
            return name
    if e >= SIGN_STABLE_LIMIT:
        return "sign-flip"
    period = orbit_period(e)
    if e < CHAOS_ONSET:
        return f"{period or '2^k'}-cycle"
    return "periodic window" if period or lyapunov(e) < 0.0 else "chaotic"


def _iterate(e: ArrayLike, z0: ArrayLike, steps: int, burn_in: int) -> Iterator[NDArray[np.float64]]:
    e, z = np.asarray(e, float), np.asarray(z0, float)
    _check_bounded(e)
    if np.any(z < 0.0) or np.any(z > 1.0 + 2.0 / e):
        raise LrjaxError("an orbit of the cubic map must start in [0, 1 + 2/e]; outside it runs away.")
    z = z + np.zeros(np.broadcast_shapes(e.shape, z.shape))
    for t in range(burn_in + steps):
        if t >= burn_in:
            yield z
        z = cubic_map(z, e)


def _starts(e: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Starts spread over (0, 1 + 1/e), [..., count]."""
    return (1.0 + 1.0 / e[..., None]) * np.linspace(0.05, 0.62, count)


def _closed_or_long_run(
    e: NDArray[np.float64], closed: ArrayLike, reduce: Callable[[Iterator[NDArray[np.float64]]], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """`closed` up to the end of the 2-cycle range, beyond it `reduce` of the iterates [..., starts] of long orbits."""
    values, beyond = np.array(closed, float), e > TWO_CYCLE_LIMIT
    if np.any(beyond):
        values[beyond] = reduce(_iterate(e[beyond][..., None], _starts(e[beyond], 32), 2000, 2000))
    return values


def _check_bounded(e: NDArray[np.float64]) -> None:
    if not np.all((e > 0.0) & (e < BOUNDED_LIMIT)):
        raise LrjaxError(f"the cubic map is bounded only for 0 < e < 2, got e = {e}; choose e inside.")


def _sign_stable(e: ArrayLike) -> NDArray[np.float64]:
    e = np.asarray(e, float)
    if not np.all((e > 0.0) & (e < SIGN_STABLE_LIMIT)):
        raise LrjaxError(
            f"the long-run residual is known only for 0 < e < {SIGN_STABLE_LIMIT:.4f}, below sign flips, got e = {e}."
        )
    return e
