"""Eigenpairs as a result: their order, their convergence, and a product that checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check, refuse
from lrjax.spectra.bound import Bound
from lrjax.spectra.normalised import Normalised
from lrjax.spectra.results import readable, to_dict

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Float, Float64

AGREE = 3  # times the residuals of the recurrence, beyond which a product disagrees with it
ROUNDING = 100  # units of rounding that a product of a network may differ by from call to call
WHICH = ("LA", "SA", "LM", "BE")


class Eigen(NamedTuple):
    """Eigenpairs with their residuals, and the quadrature nodes of the start vector.

    Attributes:
        values: [k] float64. Descending; ascending for "SA"; by magnitude for "LM".
        vectors: [k, D], unit rows; None from the values-only form. `bound.unravel(vectors[0])` is a tree like the parameters.
        residuals: [k] |A v - lambda v|, from the recurrence, or of products where those disagree;
            for the values-only form a bound on the distance to an eigenvalue.
        products: vectors multiplied.
        converged: [k] residual <= tol |lambda|.
        nodes: [m], all Ritz values.
        weights: [m], their quadrature weights (squared first components) for a single start vector, else NaN.
        multiplicity: how many times an eigenvalue can have been found: a Krylov space holds one vector of each eigenspace for
            each start vector. An eigenvalue of a larger multiplicity stands here this many times; ask for a larger `block`.
        verified: "recurrence" (not checked), "product" (one product agreed with the recurrence) or "residuals" (those here are
            of a product each).

    References:
        Parlett 1998, The symmetric eigenvalue problem, section 13.2: residuals and errors of Ritz values.

    Example:
        >>> from lrjax.spectra import lanczos, matrix
        >>> top = lanczos(matrix(np.diag([5.0, 3.0, 1.0])), 1)
        >>> top.vectors.shape, bool(top.residuals[0] < 1e-3 * top.values[0])
        ((1, 3), True)
    """

    values: Float64[np.ndarray, "k"]
    vectors: Float[Array, "k D"] | None
    residuals: Float64[np.ndarray, "k"]
    products: int
    converged: Bool[np.ndarray, "k"]
    nodes: Float64[np.ndarray, "m"]
    weights: Float64[np.ndarray, "m"]
    multiplicity: int = 1
    verified: str = "recurrence"

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


def order(values: np.ndarray, k: int, which: str) -> np.ndarray:
    """Indices of the k wanted ones among values."""
    if which == "LM":
        return np.argsort(-np.abs(values), kind="stable")[:k]
    ascending = np.argsort(values, kind="stable")
    if which == "SA":
        return ascending[:k]
    if which == "BE":
        below = k // 2
        return np.concatenate([ascending[::-1][: k - below], ascending[:below][::-1]])[: len(values)]
    return ascending[::-1][:k]


def is_converged(values: np.ndarray, residuals: np.ndarray, tol: float, scale: float, dtype: Any) -> np.ndarray:
    """Relative to each eigenvalue; one that is zero to rounding is compared with rounding."""
    floor = 10 * np.finfo(np.dtype(dtype)).eps * scale
    return residuals <= np.maximum(tol * np.abs(values), floor)


def check_product(bound: Normalised, number: float) -> None:
    """Refuses a product that is not finite.

    Raises:
        LrjaxError: it is not.
    """
    if not np.isfinite(number):
        refuse(bound.bound.explain(jnp.ones((1, bound.size), bound.dtype), "is not finite"))


def check_request(bound: Bound | Normalised, k: int, which: str, max_steps: int) -> None:
    """Validates the request for k eigenvalues.

    Raises:
        LrjaxError: names the argument to change.
    """
    check(which in WHICH, f"which={which!r} is unknown; choose one of {', '.join(WHICH)}")
    check(1 <= k <= bound.size, f"k={k} must lie in 1..{bound.size}, the number of parameters of {bound.name}")
    check(max_steps >= k, f"max_steps={max_steps} is fewer than the k={k} eigenvalues asked for")


@jax.jit
def _combined(vectors: jax.Array, coefficients: jax.Array) -> jax.Array:
    return jnp.matmul(coefficients, vectors, precision="highest")


@jax.jit
def _distances(products: jax.Array, vectors: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.linalg.norm(products - values[:, None] * vectors, axis=1)


def verified(bound: Normalised, found: Eigen, tol: float, scale: float, key: jax.Array, each: bool) -> Eigen:
    """The pairs, with residuals of their own products where one on all of them disagrees with the recurrence."""
    vectors, dtype = found.vectors, bound.dtype
    assert vectors is not None
    if not each:
        weights = np.asarray(jax.random.rademacher(key, (vectors.shape[0],)), np.float64) / np.sqrt(vectors.shape[0])
        row = _combined(vectors, jnp.asarray(weights, dtype))
        expected = _combined(vectors, jnp.asarray(weights * found.values, dtype))
        distance = float(jnp.linalg.norm(bound.matmat(row) - expected))
        rounding = ROUNDING * float(np.finfo(np.dtype(dtype)).eps) * scale
        if distance <= AGREE * float(np.abs(weights) @ found.residuals) + rounding:
            return found._replace(verified="product")
    products = bound.matmat(vectors)
    residuals = np.asarray(_distances(products, vectors, jnp.asarray(found.values, dtype)), np.float64)
    converged = is_converged(found.values, residuals, tol, scale, dtype)
    return found._replace(residuals=residuals, converged=converged, verified="residuals")
