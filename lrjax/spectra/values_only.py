"""Extreme eigenvalues without a basis: three vectors of memory, ghosts removed, each with a bound on its error."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.spectra.bound import Bound
from lrjax.spectra.eigenpairs import Eigen, check_product, check_request, is_converged, order
from lrjax.spectra.normalised import Normalised
from lrjax.spectra.random_vectors import as_key

if TYPE_CHECKING:
    from jaxtyping import Float64, PRNGKeyArray

GHOST = 1e-6  # of 1/D: a random vector has so little weight on an eigenvector once in a thousand times
MERGE = 100  # units of rounding: copies of an eigenvalue differ by a few


@functools.partial(jax.jit, donate_argnames=("product", "before"))
def _advance(product: jax.Array, now: jax.Array, before: jax.Array, beta: jax.Array) -> tuple[jax.Array, ...]:
    """One step of the three-term recurrence: alpha, the next beta, and the next two vectors."""
    rest = product - beta * before
    alpha = jnp.vdot(now, rest, precision="highest")
    rest = rest - alpha * now
    length = jnp.linalg.norm(rest)
    return alpha, length, rest / jnp.where(length > 0, length, 1), now


def genuine(
    alphas: Float64[np.ndarray, "m"], betas: Float64[np.ndarray, "m"], size: int, merge: float
) -> tuple[Float64[np.ndarray, "g"], Float64[np.ndarray, "g"]]:
    """Ritz values of a tridiagonal matrix without copies and ghosts, and their error bounds.

    Without reorthogonalisation converged eigenvalues come back as copies: those closer than `merge` are one. A new copy on
    its way is a Ritz value on which the start vector has next to no weight, though a random vector has about 1/size on each
    eigenvector: it belongs to the recurrence, not to A, and is dropped.

    Args:
        alphas: [m] diagonal.
        betas: [m] below it; the last couples to the vector that would come next.
        size: D.
        merge: distance, relative to the largest, within which two Ritz values are the same.

    Returns:
        `(values [g] ascending, bounds [g])`; each value is within its bound of an eigenvalue of A, to rounding.

    References:
        Cullum and Willoughby 1985, Lanczos algorithms for large symmetric eigenvalue computations, chapter 4 (whose test,
        that the Ritz value is also one without the first row and column, is the same as no weight on the start vector).

    Example:
        >>> values, bounds = genuine(np.array([1.0, 2.0, 2.0]), np.array([0.5, 0.0, 0.0]), 2, 1e-6)  # the last has no weight
        >>> values.round(3).tolist()
        [0.793, 2.207]
    """
    from scipy.linalg import eigh_tridiagonal

    values, vectors = eigh_tridiagonal(alphas, betas[:-1])
    bounds, weights = np.abs(betas[-1] * vectors[-1]), vectors[0] ** 2
    same = merge * float(np.max(np.abs(values)))
    kept = []
    for group in np.split(np.arange(values.size), np.flatnonzero(np.diff(values) > same) + 1):
        if group.size > 1 or weights[group[0]] >= GHOST / size:
            kept.append(group[np.argmin(bounds[group])])
    return values[kept], bounds[kept]


def extreme_values(
    bound: Bound,
    k: int,
    *,
    which: str = "LA",
    tol: float = 1e-3,
    max_steps: int | None = None,
    key: PRNGKeyArray | int | None = None,
) -> Eigen:
    """The k extreme eigenvalues in the memory of three vectors, beside what one product needs.

    Lanczos without reorthogonalisation, for parameters so many that no basis fits. It takes more products than `lanczos` for
    the same eigenvalues, and equal ones are found once: eigenvalues closer than 1e-5 of the largest (1e-13 in float64)
    count as equal.

    Args:
        bound: any bound operator.
        k: how many.
        which: as in `lanczos`.
        tol: relative error bound asked of each.
        max_steps: products at most; default the larger of 20 k and 200.
        key: for the start vector; default `jax.random.key(0)`.

    Returns:
        As `lanczos`, with `vectors=None`; `residuals` bound the distance to an eigenvalue, by the recurrence alone: without
        vectors no product can check it.

    Raises:
        LrjaxError: k larger than the size, or products that are not finite.

    References:
        Cullum and Willoughby 1985, Lanczos algorithms for large symmetric eigenvalue computations, chapter 4.
        Paige 1980, Accuracy and effectiveness of the Lanczos algorithm for the symmetric eigenproblem: bounds in floating
        point.

    Example:
        >>> from lrjax.spectra import matrix
        >>> extreme_values(matrix(np.diag([5.0, 3.0, 1.0, -4.0])), 2).values.round(4).tolist()
        [5.0, 3.0]
    """
    from scipy.linalg import eigh_tridiagonal

    max_steps = max(20 * k, 200) if max_steps is None else max_steps
    unit = Normalised(bound)
    check_request(unit, k, which, max_steps)
    now = jax.random.normal(as_key(key), (bound.size,), bound.dtype)
    now, before = now / jnp.linalg.norm(now), jnp.zeros(bound.size, bound.dtype)
    alphas, betas = [], [0.0]
    merge = MERGE * float(np.finfo(np.dtype(bound.dtype)).eps)
    while True:
        product = unit.multiply(now)
        alpha, beta, now, before = _advance(product, now, before, jnp.asarray(betas[-1], bound.dtype))
        alphas.append(float(alpha))
        betas.append(float(beta))
        check_product(unit, alphas[-1] + betas[-1])
        steps, scale = len(alphas), float(np.max(np.abs([alphas, betas[1:]])))
        values, bounds = genuine(np.array(alphas), np.array(betas[1:]), bound.size, merge)
        wanted = order(values, k, which)
        converged = is_converged(values[wanted], bounds[wanted], tol, scale, bound.dtype)
        exhausted = betas[-1] <= 10 * np.finfo(np.dtype(bound.dtype)).eps * scale
        if (wanted.size == k and converged.all()) or steps >= max_steps or exhausted:
            break
    nodes, vectors = eigh_tridiagonal(np.array(alphas), np.array(betas[1:-1]))
    scale = unit.scale
    pairs = values[wanted] * scale, None, bounds[wanted] * scale
    return Eigen(*pairs, steps, converged, nodes * scale, vectors[0] ** 2)
