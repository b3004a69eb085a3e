"""Extreme eigenpairs by Lanczos: a host loop over one compiled product, with full reorthogonalisation and residuals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check
from lrjax.spectra.basis import Basis
from lrjax.spectra.bound import Bound
from lrjax.spectra.eigenpairs import Eigen, check_product, check_request, is_converged, order, verified
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.normalised import Normalised
from lrjax.spectra.random_vectors import as_key

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray


def _start_rows(bound: Normalised, start: Any, block: int, key: jax.Array) -> jax.Array:
    """The first block: random, or the given vectors dealt out over it and summed, with a little noise.

    With noise, eigenvectors orthogonal to the given vectors are found too. Several eigenvectors as one sum make
    one Krylov space for all of them; as a block each would have a short one of its own.
    """
    random = jax.random.normal(key, (block, bound.size), bound.dtype)
    random = random / jnp.linalg.norm(random, axis=1, keepdims=True)
    if start is None:
        return random
    several = isinstance(start, (jax.Array, np.ndarray)) and start.ndim == 2 and start.shape[1] == bound.size
    rows = jnp.asarray(start, bound.dtype) if several else bound.bound.ravel(start)[None]
    check(bool(jnp.all(jnp.isfinite(rows))), "start vectors hold NaN or infinity; leave `start` out for a random one")
    # By the largest entry first: squares of tiny gradients vanish. A zero row stays zero.
    largest = jnp.max(jnp.abs(rows), axis=1, keepdims=True)
    rows = rows / jnp.where(largest > 0, largest, 1)
    rows = rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), jnp.finfo(bound.dtype).tiny)
    sums = jnp.stack([jnp.sum(rows[place::block], axis=0) for place in range(min(block, rows.shape[0]))])
    return random.at[: sums.shape[0]].multiply(NOISE).at[: sums.shape[0]].add(sums)


NOISE = 0.03  # norm of the random part beside given unit vectors


class _Krylov:
    """A Krylov basis Q whose first `done` vectors were multiplied, and the projected matrix T = Q^T A Q in float64.

    The rest of Q are pending: A Q_done = Q T, so the residual of a Ritz pair (theta, Q_done s) is |T_pending s|. One vector
    in work is plain Lanczos, several are block (band) Lanczos; a vector that vanishes shrinks the block, and an exhausted
    space goes on with a random vector.
    """

    def __init__(self, bound: Normalised, rows: int, keep: int, key: PRNGKeyArray):
        self.bound, self.key = bound, key
        self.basis = Basis(bound.size, bound.dtype, rows, keep)
        self.coupling = np.zeros((rows, rows))  # coupling[i, j] = q_i^T A q_j for the multiplied j
        self.lost = np.zeros(rows)  # norm of the part of each product that no longer fitted into the basis
        self.done, self.scale, self.randoms = 0, 0.0, 0

    def begin(self, rows: jax.Array) -> None:
        """Adds the start vectors; in a method, since a name that outlives the loop would hold one vector more."""
        for row in rows:
            self.add(row)

    def add(self, vector: jax.Array, column: int | None = None) -> None:
        """Orthonormalises a vector, which is given up, into the basis; `column`: the basis vector it is the product of."""
        coefficients, rest = self.basis.project_out(vector)
        length = float(jnp.linalg.norm(rest))
        check_product(self.bound, length)
        if column is not None:
            self.coupling[: coefficients.size, column] = coefficients
            self.scale = max(self.scale, float(np.linalg.norm(coefficients)), length)
        vanished = length <= 100 * np.finfo(np.dtype(self.bound.dtype)).eps * (
            self.scale if column is not None else 1.0
        )
        if vanished:
            return
        if self.basis.count == self.basis.capacity:
            self.lost[column] = length
            return
        self.basis.append(rest, 1.0 / length)
        if column is not None:
            self.coupling[self.basis.count - 1, column] = length

    def multiply(self, block: int) -> None:
        """Multiplies the next `block` pending vectors and adds the new directions."""
        if self.done == self.basis.count:
            self.add(
                jax.random.normal(jax.random.fold_in(self.key, self.randoms), (self.bound.size,), self.bound.dtype)
            )
            self.randoms += 1
        stop = min(self.done + block, self.basis.count)
        if stop - self.done == 1:
            self.add(self.bound.multiply(self.basis.row(self.done)), self.done)
        else:
            products = self.bound.multiply(self.basis.rows(self.done, stop))
            for place in range(stop - self.done):
                self.add(products[place], self.done + place)
        self.done = stop

    def ritz(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(values, columns s, residuals)` of the projected matrix."""
        projected = self.coupling[: self.done, : self.done]
        # coupling[i, j] was measured when q_j was multiplied; above the diagonal it is as precise as below.
        values, vectors = np.linalg.eigh((projected + projected.T) / 2)
        pending = self.coupling[self.done : self.basis.count, : self.done] @ vectors
        residuals = np.linalg.norm(pending, axis=0) + self.lost[: self.done] @ np.abs(vectors)
        return values, vectors, np.maximum(residuals, np.finfo(np.dtype(self.bound.dtype)).eps * self.scale)

    def restart(self, wanted: np.ndarray, ritz: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        """Thick restart: the wanted Ritz vectors and the pending ones are the new basis."""
        values, vectors, _ = ritz
        pending = self.basis.count - self.done
        rotation = np.zeros((wanted.size + pending, self.basis.count))
        rotation[: wanted.size, : self.done] = vectors[:, wanted].T
        rotation[wanted.size :, self.done :] = np.eye(pending)
        coupling = self.coupling[self.done : self.basis.count, : self.done] @ vectors[:, wanted]
        self.basis.rotate(rotation)
        self.done = wanted.size
        self.coupling[:] = 0.0
        self.coupling[: self.done, : self.done] = np.diag(values[wanted])
        self.coupling[self.done : self.basis.count, : self.done] = coupling


def lanczos(
    bound: Bound,
    k: int,
    *,
    which: str = "LA",
    tol: float = 1e-3,
    max_steps: int | None = None,
    basis: int | None = None,
    block: int = 1,
    start: Tree = None,
    key: PRNGKeyArray | int | None = None,
    verify: bool | str = True,
) -> Eigen:
    """The k extreme eigenpairs of a bound operator, each with its residual.

    Lanczos with full reorthogonalisation, done twice, as matmuls; products in the operator's precision, the projected
    problem in float64. It stops when each wanted pair has |A v - lambda v| <= tol |lambda|. Memory: (max_steps + 3) vectors
    of the size of the parameters, or (basis + 3), beside what one product needs. Vectors are scaled by powers of two, so that
    matrices of any scale that float32 can multiply give the same digits.

    The recurrence is then checked by a product: A on a random combination of the eigenvectors found. Where it disagrees, as
    with half precision inside the model or data that change between products, each residual is measured by a product of its
    own, and `converged` follows from those.

    Args:
        bound: any bound operator.
        k: how many pairs.
        which: "LA" largest, "SA" smallest, "LM" largest in magnitude, "BE" half from each end (the larger half above).
        tol: relative residual asked of each pair.
        max_steps: vectors to multiply at most; default the larger of 10 k and 100, or the size if that is less.
        basis: vectors to hold at most; a full basis is restarted from the best ones (thick restart). Default: all.
        block: vectors multiplied in one pass over the data. An eigenvalue of multiplicity m is found m times only if block is
            at least m; more also pay where data streams.
        start: vectors to begin with: [D], a tree or [s, D], such as the gradient or the eigenvectors of the step before.
        key: for the random start, a key or an integer; default `jax.random.key(0)`.
        verify: True for one product; "all" for one for each pair; False for none.

    Returns:
        The pairs; `converged` marks those that reached tol. `products` counts the check.

    Raises:
        LrjaxError: an operator that is not bound; k larger than the size, impossible sizes; products that are not finite or
            underflow; a map that is not symmetric.

    References:
        Lanczos 1950, An iteration method for the solution of the eigenvalue problem.
        Wu and Simon 2000, Thick-restart Lanczos method for large symmetric eigenvalue problems.
        Parlett 1998, The symmetric eigenvalue problem, section 13.2: residuals.

    Example:
        >>> from lrjax.spectra import matrix
        >>> top = lanczos(matrix(np.diag([5.0, 3.0, 1.0, -4.0])), 2)
        >>> top.values.round(4).tolist(), top.converged.all().item()
        ([5.0, 3.0], True)
    """
    unit = Normalised(bound)
    before = unit.products
    check(verify in (True, False, "all"), f"verify must be True, False or 'all', not {verify!r}")
    max_steps = min(unit.size, max(10 * k, 100)) if max_steps is None else max_steps
    basis = min(max_steps, unit.size) if basis is None else min(basis, unit.size)
    check_request(unit, k, which, max_steps)
    check_basis(unit, k, basis, block, restarts=basis < min(max_steps, unit.size))
    key = as_key(key)
    keep = min(2 * k, basis - 2 * block) if basis < min(max_steps, unit.size) else k
    krylov = _Krylov(unit, basis, max(k, keep), key)
    krylov.begin(_start_rows(unit, start, block, jax.random.fold_in(key, 2**31)))
    found = _iterate(krylov, (k, which, tol, max_steps), block, keep)
    if verify:
        found = verified(unit, found, tol, krylov.scale, jax.random.fold_in(key, 2**31 + 1), verify == "all")
    scaled = {name: getattr(found, name) * unit.scale for name in ("values", "residuals", "nodes")}
    return found._replace(**scaled, products=unit.products - before)


def check_basis(bound: Normalised, k: int, basis: int, block: int, restarts: bool) -> None:
    """Validates the sizes of block and basis.

    Raises:
        LrjaxError: names the argument to change.
    """
    check(1 <= block <= bound.size, f"block={block} must lie in 1..{bound.size}")
    least = min(bound.size, k + 2 * block)
    check(basis >= least or not restarts, f"basis={basis} is too small: k={k} and two blocks need {least} vectors")


def _iterate(krylov: _Krylov, request: tuple[int, str, float, int], block: int, keep: int) -> Eigen:
    """Multiplies until the pairs have converged; eigenvalues in the units of the normalised operator."""
    k, which, tol, max_steps = request
    bound, products = krylov.bound, 0
    while True:
        before = krylov.done
        krylov.multiply(min(block, max_steps - products))
        products += krylov.done - before
        ritz = values, _, residuals = krylov.ritz()
        wanted = order(values, k, which)
        converged = is_converged(values[wanted], residuals[wanted], tol, krylov.scale, bound.dtype)
        if (wanted.size == k and converged.all()) or products >= max_steps or krylov.done == bound.size:
            break
        if krylov.basis.count + block > krylov.basis.capacity < min(max_steps, bound.size):
            krylov.restart(order(values, keep, which), ritz)
    single = block == 1 and krylov.randoms == 0
    return _result(krylov, ritz, wanted, converged, products, single)._replace(multiplicity=block)


def _result(
    krylov: _Krylov, ritz: Any, wanted: np.ndarray, converged: np.ndarray, products: int, single: bool
) -> Eigen:
    values, vectors, residuals = ritz
    weights = vectors[0] ** 2 if single else np.full(values.size, np.nan)
    rotation = np.zeros((wanted.size, krylov.basis.count))
    rotation[:, : krylov.done] = vectors[:, wanted].T
    krylov.basis.rotate(rotation)
    rows = krylov.basis.pages.pop()[: wanted.size]
    return Eigen(values[wanted], rows, residuals[wanted], products, converged, values, weights)
