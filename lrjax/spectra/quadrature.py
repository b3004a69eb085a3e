"""Gauss quadrature for spectral measures: Lanczos on many start vectors at once, without a basis."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check
from lrjax.spectra.bound import Bound
from lrjax.spectra.normalised import Normalised
from lrjax.spectra.random_vectors import HIGHEST, check_finite, dots, multiply

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Float64

    from lrjax.spectra.eigenpairs import Eigen


@functools.partial(jax.jit, donate_argnames=("rows",))
def _project_out(outliers: jax.Array, rows: jax.Array) -> jax.Array:
    inner = jnp.matmul(rows, outliers.T, precision=HIGHEST)
    return rows - jnp.matmul(inner, outliers, precision=HIGHEST)


@functools.partial(jax.jit, donate_argnames=("previous",))
def _orthogonalise(product: jax.Array, current: jax.Array, previous: jax.Array, beta: jax.Array) -> tuple:
    """(alpha, A v - alpha v - beta v_previous), in the order that keeps rounding local (Paige 1972)."""
    rest = product - beta[:, None] * previous
    alpha = dots(rest, current)
    return alpha, rest - alpha[:, None] * current


@functools.partial(jax.jit, donate_argnames=("rows",))
def _scaled(rows: jax.Array, factor: jax.Array) -> jax.Array:
    return rows * factor[:, None]


def outliers_of(bound: Bound, deflate: Eigen | None) -> tuple[Float64[np.ndarray, "k"], Float[Array, "k D"] | None]:
    """`(values [k], vectors [k, D])` of the eigenpairs to deflate; k = 0 and None where there are none.

    Raises:
        LrjaxError: no eigenvectors, or pairs of another size.
    """
    if deflate is None:
        return np.zeros(0), None
    check(deflate.vectors is not None, "deflate needs eigenvectors; the values-only form of lanczos keeps none")
    vectors = jnp.asarray(deflate.vectors, bound.dtype)
    values = np.asarray(deflate.values, np.float64)
    check(
        vectors.shape == (values.size, bound.size) and values.size < bound.size,
        f"deflate must hold k < {bound.size} eigenpairs of {bound.name}; it has vectors {list(vectors.shape)}",
    )
    return values, vectors


def quadrature(
    bound: Bound,
    starts: Float[jax.typing.ArrayLike, "p D"],
    *,
    num_steps: int,
    deflate: Eigen | None = None,
    chunk: int | None = None,
) -> tuple[Float64[np.ndarray, "p m"], Float64[np.ndarray, "p m"]]:
    """Gauss quadrature for the spectral measure of each start vector, sum_i <v, u_i>^2 / |v|^2 delta(t - lambda_i).

    Lanczos on all vectors at once, one product with all of them a step. The nodes are the eigenvalues of the tridiagonal
    matrices T, the weights the squares of the first components of their eigenvectors, in float64.

    No basis is kept: three vectors a start. Rounding then lets an eigenvalue that has converged come back as another node,
    but weights stay right: the T of finite precision is that of exact Lanczos on a larger matrix whose eigenvalues form
    tiny clusters around those of A, each cluster with the weight of its eigenvalue (Greenbaum 1989). A copy takes weight from
    its original and adds none.

    Args:
        bound: the operator.
        starts: [p, D]; for example a gradient, to see which curvature it meets.
        num_steps: Lanczos steps m: moments up to 2 m - 1 are exact.
        deflate: as in `density`.
        chunk: as in `density`.

    Returns:
        (nodes, weights), both [p, m] float64 with m = min(num_steps, D - k); weights add up to 1 in a row. Where v is in
        an invariant subspace of fewer dimensions the rest of its row repeats a node with weight 0.

    Raises:
        LrjaxError: as `density`; a start vector that is zero, or in the span of the deflated eigenvectors.

    References:
        Golub and Welsch 1969, Calculation of Gauss quadrature rules.
        Greenbaum 1989, Behavior of slightly perturbed Lanczos and conjugate-gradient recurrences, theorems 1 and 2.

    Example:
        >>> import jax.numpy as jnp, numpy as np
        >>> from lrjax.spectra.bound import matrix
        >>> nodes, weights = quadrature(matrix(np.diag([1.0, 4.0])), jnp.array([[3.0, 4.0]]), num_steps=2)
        >>> nodes.round(5).tolist(), weights.round(5).tolist()
        ([[1.0, 4.0]], [[0.36, 0.64]])
    """
    check(num_steps >= 1, f"num_steps must be >= 1, got {num_steps}")
    unit = Normalised(bound)
    atoms, outliers = outliers_of(bound, deflate)
    starts = jnp.asarray(starts, bound.dtype)
    check(
        starts.ndim == 2 and starts.shape[1] == bound.size,
        f"starts must be [p, {bound.size}], one vector a row; they are {list(starts.shape)}",
    )
    eps = float(jnp.finfo(bound.dtype).eps)
    largest = jnp.max(jnp.abs(starts), axis=1, keepdims=True)
    starts = starts / jnp.where(largest > 0, largest, 1)
    given = np.asarray(dots(starts, starts), np.float64)
    current = jnp.array(starts)  # a copy: the next functions donate it
    if outliers is not None:
        current = _project_out(outliers, _project_out(outliers, current))
    squared = np.asarray(dots(current, current), np.float64)
    check(bool(np.all(np.isfinite(given))), "a start vector holds NaN or infinity")
    check(
        bool(np.all(squared > (100 * eps) ** 2 * given)),
        "a start vector is zero, or in the span of the deflated eigenvectors",
    )
    steps = min(num_steps, bound.size - atoms.size)
    tridiagonal = _tridiagonal(unit, _scaled(current, jnp.asarray(squared**-0.5, bound.dtype)), steps, outliers, chunk)
    pairs = [_gauss(alpha, beta, steps) for alpha, beta in tridiagonal]
    return np.stack([nodes for nodes, _ in pairs]) * unit.scale, np.stack([weights for _, weights in pairs])


def _tridiagonal(
    bound: Normalised, current: jax.Array, steps: int, outliers: jax.Array | None, chunk: int | None
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Diagonal and off-diagonal of T for each row of unit vectors, as long as its Krylov space has dimensions."""
    count = current.shape[0]
    previous, beta = jnp.zeros_like(current), np.zeros(count)
    alphas, betas = np.zeros((steps, count)), np.zeros((steps, count))
    lengths, largest = np.zeros(count, int), np.zeros(count)
    alive = np.ones(count, bool)
    for step in range(steps):
        product = multiply(bound, current, chunk)
        alpha, rest = _orthogonalise(product, current, previous, jnp.asarray(beta, bound.dtype))
        if outliers is not None:
            # In every step: rounding brings outliers back, and Lanczos then makes them large again.
            rest = _project_out(outliers, rest)
        beta = np.sqrt(np.asarray(dots(rest, rest), np.float64))
        alphas[step], betas[step] = alpha, beta
        check_finite(bound, [alphas[step], beta])
        lengths[alive] = step + 1
        largest = np.maximum(largest, np.abs(alphas[step]) + beta)
        # A beta of rounding alone: the Krylov space is invariant, and the quadrature is exact as it is.
        alive &= beta > 10 * float(jnp.finfo(bound.dtype).eps) * largest
        if not np.any(alive):
            break
        factor = np.divide(1.0, beta, out=np.zeros(count), where=alive)
        previous, current = current, _scaled(rest, jnp.asarray(factor, bound.dtype))
        beta = np.where(alive, beta, 0.0)
    return [(alphas[:length, row], betas[: length - 1, row]) for row, length in enumerate(lengths)]


def _gauss(alpha: np.ndarray, beta: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import eigh_tridiagonal

    nodes, vectors = eigh_tridiagonal(alpha, beta)
    missing = steps - nodes.size
    return np.pad(nodes, (0, missing), mode="edge"), np.pad(np.square(vectors[0]), (0, missing))
