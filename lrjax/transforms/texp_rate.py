"""The rate of TEXP at a step that only a running program knows, as mantissa and exponent, accurate in float32."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.transforms.plan import split_power

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Float64, Int, Int32

BITS = 12  # of a step number that are multiplied at once: their products with 12 bits of a slope are exact in float32


class Slope(NamedTuple):
    """A slope a step as whole + head + rest: head has BITS bits behind the point, so small integers times it are exact."""

    whole: Int32[np.ndarray, " K"]
    head: Float64[np.ndarray, " K"]
    rest: Float64[np.ndarray, " K"]


class RateTables(NamedTuple):
    """Phases of exponential growth, [K] each.

    Attributes:
        starts: the first step of each.
        mantissa, exponent: the rate there.
        fine, coarse: log2 of the growth in one step, and in 2^BITS steps.
    """

    starts: Int32[np.ndarray, " K"]
    mantissa: Float64[np.ndarray, " K"]
    exponent: Int32[np.ndarray, " K"]
    fine: Slope
    coarse: Slope


def _slope(log2: np.ndarray) -> Slope:
    whole = np.floor(log2)
    head = np.floor((log2 - whole) * 2**BITS) / 2**BITS
    return Slope(whole.astype(np.int32), head, log2 - whole - head)


def rate_tables(
    starts: Int[np.ndarray, " K"], log_lr: Float64[np.ndarray, " K"], log_alpha: Float64[np.ndarray, " K"]
) -> RateTables:
    """Tables of `lrjax.transforms.texp.Phases`.

    Args:
        starts: the first step of each phase.
        log_lr: log of the rate there.
        log_alpha: half of the log by which the rate shrinks a step.

    Returns:
        The tables, on the host.
    """
    slope = -2 * log_alpha / math.log(2.0)
    start = split_power(log_lr / math.log(2.0))
    return RateTables(starts.astype(np.int32), *start, _slope(slope), _slope(slope * 2**BITS))


def rate_at(tables: RateTables, count: Int[Array, ""]) -> tuple[Float[Array, ""], Int32[Array, ""], Int32[Array, ""]]:
    """The rate of a step. One float32 product of step and slope would lose five digits.

    Args:
        tables: of `rate_tables`.
        count: the step, traced or not.

    Returns:
        (rate, power, phase): the learning rate is rate * 2^power.

    Example:
        >>> tables = rate_tables(np.array([0]), np.log([0.1]), np.array([-0.01]))
        >>> rate, power, _ = rate_at(tables, jnp.int32(1000))
        >>> bool(jnp.isclose(jnp.ldexp(rate, power), 0.1 * np.exp(20.0), rtol=1e-6))
        True
    """
    phase = jnp.searchsorted(jnp.asarray(tables.starts), count, side="right") - 1
    row = jax.tree.map(lambda a: jnp.asarray(a)[phase], tables)
    steps = count - row.starts
    power, rest = row.exponent, jnp.zeros((), row.mantissa.dtype)
    for part, slope in ((steps >> BITS, row.coarse), (steps & (2**BITS - 1), row.fine)):
        number = part.astype(rest.dtype)
        product = number * slope.head
        power = power + part * slope.whole + jnp.floor(product).astype(jnp.int32)
        rest = rest + (product - jnp.floor(product)) + number * slope.rest
    return row.mantissa * jnp.exp2(rest), power, phase
