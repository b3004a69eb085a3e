"""Sums and exponentials of logarithms, accurate in float32 and beyond the range of floats."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def compensated(total: jax.Array, error: jax.Array, increment: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`total + increment` and its rounding error (two-sum), with the loss from before.

    Args:
        total, error: the sum so far is total + error.
        increment: added to it.

    Returns:
        The new total and error.

    References:
        Knuth, The Art of Computer Programming, volume 2, section 4.2.2.
    """
    increment = increment + error
    new = total + increment
    back = new - total
    return new, (total - (new - back)) + (increment - back)


def exp_split(large: jax.Array, small: jax.Array) -> tuple[jax.Array, jax.Array]:
    """exp(large + small) as a number near 1 and a power of two.

    The product of `power` with the first 12 bits of ln 2 is exact, so the digits of `large` that matter survive.

    Args:
        large, small: the logarithm, as a compensated sum.

    Returns:
        (mantissa, power): the result is mantissa * 2^power.

    Example:
        >>> mantissa, power = exp_split(jnp.float32(100.0), jnp.float32(0.0))
        >>> round(float(mantissa), 4), int(power)
        (1.2054, 144)
    """
    power = jnp.round(large / math.log(2.0))
    head = round(math.log(2.0) * 4096) / 4096
    rest = (large - power * head) - power * (math.log(2.0) - head)
    return jnp.exp(rest + small), power.astype(jnp.int32)
