"""Diagonal of a bound operator, estimated from products with random signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check
from lrjax.spectra.bound import Bound
from lrjax.spectra.normalised import Normalised, times_power
from lrjax.spectra.random_vectors import as_key, blocks, check_finite, signs, small_sample, units
from lrjax.spectra.results import readable, to_dict

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, PRNGKeyArray


class Diagonal(NamedTuple):
    """An estimate of the diagonal of A; `bound.unravel(value)` is a tree like the parameters.

    Attributes:
        value: [D].
        stderr: [D], one standard deviation of each entry of `value`.
        products: matrix-vector products spent.

    References:
        Bekas, Kokiopoulou and Saad 2007, An estimator for the diagonal of a matrix, Appl. Numer. Math. 57.

    Example:
        >>> from lrjax.spectra.bound import matrix
        >>> estimate = diagonal(matrix(np.array([[2.0, 1.0], [1.0, 3.0]])), jax.random.key(0), num_probes=2)  # D products
        >>> estimate.value.tolist(), estimate.products
        ([2.0, 3.0], 2)
    """

    value: Float[Array, "D"]
    stderr: Float[Array, "D"]
    products: int

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


@jax.jit
def _moments(rows: jax.Array, product: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean of rows * product over the rows, and the sum of squared distances from it."""
    samples = rows * product
    mean = jnp.mean(samples, axis=0)
    return mean, jnp.sum(jnp.square(samples - mean[None]), axis=0)


@jax.jit
def _merge(one: tuple, other: tuple, share: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Moments of two sets of samples together: Chan, Golub and LeVeque 1983. Sums of squares would cancel in float32."""
    change = other[0] - one[0]
    return one[0] + share * change, one[1] + other[1] + weight * jnp.square(change)


def _exact(bound: Normalised, chunk: int | None) -> Diagonal:
    # The diagonal of each product of unit vectors, in place: no [D, D] array for a chunk.
    value = sum(
        jnp.sum(rows * bound.matmat(rows), axis=0) for rows in (units(b, bound) for b in blocks(bound.size, chunk))
    )
    return Diagonal(jnp.asarray(value), jnp.finfo(bound.dtype).eps * jnp.abs(jnp.asarray(value)), bound.size)


def diagonal(bound: Bound, key: PRNGKeyArray | int, *, num_probes: int, chunk: int | None = None) -> Diagonal:
    """diag(A) as the mean of v * A v over vectors v of random signs.

    An entry is off by sum_{j != i} A_ij v_i v_j, so the variance is that of the off-diagonal part of its row,
    (|A_i|^2 - A_ii^2) / k: none at all for a diagonal matrix. The standard error is the deviation of the samples, with the
    factor of Student's distribution for few of them, and a floor for rounding.

    Args:
        bound: the operator.
        key: random key or integer; the same key gives the same numbers.
        num_probes: matrix-vector products to spend, at least 2. From D on, the diagonal is read off exactly, by D products.
        chunk: vectors multiplied at once, None for one pass over the data. Memory: 4 x min(chunk, num_probes) vectors.

    Returns:
        Diagonal(value [D], stderr [D], products).

    Raises:
        LrjaxError: fewer than two probes; products that are not finite.

    References:
        Bekas, Kokiopoulou and Saad 2007, An estimator for the diagonal of a matrix, Appl. Numer. Math. 57.

    Example:
        >>> import jax, numpy as np
        >>> from lrjax.spectra.bound import matrix
        >>> diagonal(matrix(np.diag([3.0, 1.0, -2.0])), jax.random.key(0), num_probes=2).value.tolist()
        [3.0, 1.0, -2.0]
    """
    check(num_probes >= 2, f"a diagonal with a standard error needs at least 2 probes, not {num_probes}")
    unit = Normalised(bound)
    if num_probes >= bound.size:
        return _in_units(unit, _exact(unit, chunk))
    key, count, moments = as_key(key), 0, None
    for block in blocks(num_probes, chunk):
        rows = signs(key, block, unit)
        part, more = _moments(rows, unit.matmat(rows)), len(block)
        if moments is None:
            moments, count = part, more
            continue
        share = more / (count + more)
        moments = _merge(moments, part, jnp.asarray(share, bound.dtype), jnp.asarray(share * count, bound.dtype))
        count += more
    assert moments is not None
    value, squares = moments
    check_finite(unit, np.asarray(jnp.sum(value)))
    scale = small_sample(num_probes) / float(np.sqrt((num_probes - 1) * num_probes))
    rounding = jnp.finfo(bound.dtype).eps * jnp.abs(value)
    return _in_units(unit, Diagonal(value, jnp.hypot(jnp.sqrt(squares) * scale, rounding), num_probes))


def _in_units(unit: Normalised, found: Diagonal) -> Diagonal:
    """The diagonal of the operator itself; in two factors, since one may leave the range where the product does not."""
    return found._replace(
        value=times_power(found.value, unit.exponent), stderr=times_power(found.stderr, unit.exponent)
    )
