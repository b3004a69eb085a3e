"""A bound operator scaled by a power of two, so that the squares of its products stay in the range of floats.

A power of two changes no mantissa: results are those of the operator, bit for bit, wherever nothing leaves the range.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check, refuse
from lrjax.spectra.bound import Bound

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float

SAFE = 20  # products up to 2^20 either way are used as they are
WEAK = -80  # below 2^-80 entries of a product would lose digits to the end of float32: vectors are enlarged
RANGE = -106  # eigenvalues below 2^-106, 1e-32, come from derivatives that have lost digits to the end of float32
STRETCH = 100  # the largest power of two that vectors are multiplied by
SYMMETRY = 0.05  # difference of u.(A v) and v.(A u), relative to |u| |A v| / sqrt(D), which it has for random u and v
FEW = 4  # vectors that symmetry is checked on


class Normalised:
    """What an algorithm multiplies by: A / 2^exponent, the exponent chosen at the first product.

    Args:
        bound: a bound operator.

    Attributes:
        exponent: multiply eigenvalues by 2^exponent (`scale`); squares by its square.
    """

    def __init__(self, bound: Bound):
        unbound = hasattr(bound, "bind") and not hasattr(bound, "matmat")
        check(not unbound, "the operator is not bound: write operator.bind(params, batches)")
        right = hasattr(bound, "matmat")
        check(
            right,
            f"an algorithm takes a bound operator, and not {type(bound).__name__}; see `matrix` and `from_function`",
        )
        # Inside jit even a constant is traced.
        traced = isinstance(jnp.zeros(()), jax.core.Tracer)
        check(
            not traced,
            "this algorithm is a loop on the host that looks at each product: call it outside of jax.jit, vmap and grad",
        )
        self.bound, self.exponent, self.stretch = bound, 0, 0
        self.name, self.size, self.dtype, self.psd = bound.name, bound.size, bound.dtype, bound.psd
        self.begun = False
        self.seen: list[jax.Array] | None = None

    @property
    def scale(self) -> float:
        """2^exponent, in float64."""
        return math.ldexp(1.0, self.exponent)

    @property
    def products(self) -> int:
        """Of the bound operator."""
        return self.bound.products

    def multiply(self, vectors: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """(A / 2^exponent) v for one vector [D] or for every row of [k, D].

        Raises:
            LrjaxError: the first product is not finite, or underflows; says which. The map is not symmetric.
        """
        if not self.begun:
            product = self._first(vectors)
        elif self.stretch == self.exponent == 0:
            product = self.bound.multiply(vectors)
        else:
            product = times_power(
                self.bound.multiply(times_power(vectors, self.stretch)), -self.stretch - self.exponent
            )
        if not self.bound.symmetric:
            self._check_symmetry(jnp.atleast_2d(vectors), jnp.atleast_2d(product))
        return product

    matmat = multiply

    def _first(self, vectors: jax.Array) -> jax.Array:
        product = self.bound.multiply(vectors)
        largest = _largest(product)
        if not math.isfinite(largest):
            product, largest = self._stretched(vectors, -STRETCH // 2)
            if not math.isfinite(largest):
                refuse(self.bound.explain(vectors, "is not finite"))
        elif largest == 0:
            product, largest = self._stretched(vectors, STRETCH)
            if largest == 0:
                self.begun, self.stretch = True, 0
                if self.bound.underflows(vectors):
                    refuse(self.bound.explain(vectors, "underflows to zero"))
                return product
        elif math.frexp(largest)[1] <= WEAK:
            product, largest = self._stretched(vectors, min(STRETCH, -math.frexp(largest)[1]))
        power = math.frexp(largest)[1]
        # The loss itself must stay in range, of which such matrices as K are the square.
        least = RANGE * (2 if self.bound.of_squares else 1)
        fine = math.isfinite(largest) and power > WEAK and power - self.stretch > least
        if not fine:
            refuse(self.bound.explain(vectors, "underflows"))
        self.begun = True
        if abs(power) <= SAFE and self.stretch == 0:
            return product
        self.exponent = power - self.stretch
        return times_power(product, -power)

    def _stretched(self, vectors: jax.Array, stretch: int) -> tuple[jax.Array, float]:
        self.stretch = stretch
        product = self.bound.multiply(times_power(vectors, stretch))
        return product, _largest(product)

    def _check_symmetry(self, vectors: jax.Array, product: jax.Array) -> None:
        """Compares u.(A v) with v.(A u) for the first vectors that an algorithm multiplies: no product of its own."""
        # Copies: the algorithm may give its arrays up.
        rows = [jnp.array(part[:FEW]) for part in (vectors, product)]
        if self.seen is not None:
            rows = [jnp.concatenate(pair) for pair in zip(self.seen, rows, strict=True)]
        if rows[0].shape[0] < 2 <= self.size:
            self.seen = rows
            return
        self.seen, self.bound.symmetric = None, True
        forms, sizes = (np.asarray(part, np.float64) for part in _forms(*rows))
        gap = np.abs(forms - forms.T)
        floor = SYMMETRY / math.sqrt(self.size) + 100 * float(np.finfo(np.dtype(self.dtype)).eps)
        allowed = floor * np.maximum(sizes, sizes.T)
        worst = float(np.max(gap / np.where(allowed > 0, allowed, 1)))
        self.bound.symmetric = worst <= 1
        check(
            worst <= 1,
            f"the map {self.name} is not symmetric: u.(A v) and v.(A u) differ; these algorithms need A = A^T, such as "
            "(A + A^T) / 2 or A^T A",
        )


@jax.jit
def _forms(vectors: jax.Array, products: jax.Array) -> tuple[jax.Array, jax.Array]:
    """u.(A v) for all pairs, and |u| |A v|."""
    lengths = [jnp.linalg.norm(rows, axis=1) for rows in (vectors, products)]
    return jnp.matmul(vectors, products.T, precision="highest"), jnp.outer(*lengths)


def _largest(product: jax.Array) -> float:
    return float(jnp.max(jnp.abs(product))) if np.size(product) else 0.0


@jax.jit
def _scaled(rows: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
    return rows * first * second


def times_power(rows: jax.Array, power: int) -> jax.Array:
    """rows * 2^power; in two factors, since 2^power itself may leave the range."""
    half = power // 2
    factors = (np.asarray(math.ldexp(1.0, part), rows.dtype) for part in (half, power - half))
    return _scaled(rows, *factors)
