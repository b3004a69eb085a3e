"""Trace of a bound operator: XTrace, XNysTrace, Hutch++ and Hutchinson, each with a standard error.

Which one: `xtrace` for any symmetric matrix; `xnystrace` where A is positive semi-definite (GGN, Fisher, K): half the
products and one pass over the data; `hutch++` as a check of the first; `hutchinson` for a budget of one to three products, or
for memory (it stores no basis). The first three are made for a Hessian with outliers: they find the large
eigenvalues and leave only the bulk to chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check, nearest, refuse
from lrjax.spectra import leave_one_out
from lrjax.spectra.bound import Bound
from lrjax.spectra.normalised import Normalised
from lrjax.spectra.random_vectors import HIGHEST, as_key, blocks, check_finite, dots, multiply, sphere, units
from lrjax.spectra.results import readable, to_dict

if TYPE_CHECKING:
    from jaxtyping import Float64, PRNGKeyArray


class Trace(NamedTuple):
    """An estimate of the trace, Tr A, with its standard error.

    Attributes:
        value: the mean of the samples.
        stderr: one standard deviation of `value`, rounding included: 2 stderr cover Tr A in about 95 % of all keys.
        samples: [s] float64, one a test vector. Those of `xtrace` and `xnystrace` are correlated: their spread alone
            understates the error.
        products: matrix-vector products spent.
        method: as requested, or "exact".

    References:
        As of `trace`.

    Example:
        >>> from lrjax.spectra.bound import matrix
        >>> exact = trace(matrix(np.diag([1.0, 2.0])), jax.random.key(0), num_probes=2)  # as many products as D
        >>> exact.value, exact.method, exact.products
        (3.0, 'exact', 2)
    """

    value: float
    stderr: float
    samples: Float64[np.ndarray, "s"]
    products: int
    method: str

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


class _Samples(NamedTuple):
    values: np.ndarray
    variance: float  # of their mean
    magnitude: float  # sum of the absolute terms: rounding is relative to it
    products: int


def _inner(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b.T, precision=HIGHEST)


def _project_out(q: jax.Array, rows: jax.Array) -> jax.Array:
    # Twice: after cancellation one pass leaves a remainder that is orthogonal to q only relative to its first length.
    for _ in range(2):
        rows = rows - jnp.matmul(_inner(rows, q), q, precision=HIGHEST)
    return rows


@jax.jit
def _orthonormal(product: jax.Array, vectors: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(q, r, w, inner): orthonormal rows q, product^T = q^T r, w = q vectors^T, inner = vectors vectors^T.

    By Householder reflections, so that the rows of the product may be dependent.
    """
    q, r = jnp.linalg.qr(product.T)
    return q.T, r, _inner(q.T, vectors), _inner(vectors, vectors)


@jax.jit
def _projected(q: jax.Array, product: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(h, outside, lengths): Q^T A Q, the inner products of the columns of (I - Q Q^T) A Q, and |A q|."""
    rest = _project_out(q, product)
    return _inner(q, product), _inner(rest, rest), jnp.sqrt(dots(product, product))


@jax.jit
def _complement(q: jax.Array, g: jax.Array) -> jax.Array:
    """g without its part in the span of q, brought to the length sqrt(D - k)."""
    g = _project_out(q, g)
    # Every direction of the complement is as likely as any other; one length for all takes a source of chance away.
    return g * jnp.sqrt((q.shape[1] - q.shape[0]) / dots(g, g))[:, None]


def _form(g: jax.Array, product: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, squared = dots(g, product), dots(g, g)
    tangent = product - g * (x / squared)[:, None]
    return x, dots(tangent, tangent), jnp.sqrt(dots(product, product))


@jax.jit
def _quadratic(g: jax.Array, product: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x = g^T B g, |B g - g x / |g|^2|^2 and |B g|, a row each."""
    return _form(g, product)


@jax.jit
def _split(q: jax.Array, g: jax.Array, product: jax.Array) -> tuple[jax.Array, ...]:
    """q^T A q and |A q| for the rows of q, then `_quadratic` for g and (I - Q Q^T) A."""
    first = product[: q.shape[0]]
    return dots(q, first), jnp.sqrt(dots(first, first)), *_form(g, _project_out(q, product[q.shape[0] :]))


def _host(*arrays: jax.Array) -> list[np.ndarray]:
    return [np.asarray(array, np.float64) for array in arrays]


def _eps(bound: Normalised) -> float:
    return float(np.finfo(np.dtype(bound.dtype)).eps)


def _exact(bound: Normalised, chunk: int | None) -> _Samples:
    parts = []
    for block in blocks(bound.size, chunk):
        rows = units(block, bound)
        parts.append(np.asarray(dots(rows, bound.matmat(rows)), np.float64))
    diagonal = np.concatenate(parts)
    return _Samples(np.array([np.sum(diagonal)]), 0.0, float(np.sum(np.abs(diagonal))), bound.size)


def _hutchinson(bound: Normalised, key: jax.Array, num_probes: int, chunk: int | None) -> _Samples:
    """Samples g^T A g, g uniform on the sphere of radius sqrt(D); their variance is 2 E|A g - g (g^T A g) / D|^2."""
    parts = []
    for block in blocks(num_probes, chunk):
        g = sphere(key, block, bound)
        parts.append(_host(*_quadratic(g, bound.matmat(g))))
    values, tangents, lengths = (np.concatenate(part) for part in zip(*parts, strict=True))
    variance = 2 * np.mean(tangents) / num_probes
    return _Samples(values, float(variance), float(np.mean(np.abs(values) + lengths)), num_probes)


def _hutch_plus_plus(bound: Normalised, key: jax.Array, num_probes: int, chunk: int | None) -> _Samples:
    """The trace on the range of A S exactly, and Hutchinson on its orthogonal complement."""
    check(num_probes >= 3, f"hutch++ needs at least 3 probes, not {num_probes}; 'hutchinson' works with one")
    kept = num_probes // 3
    probes = num_probes - 2 * kept
    sketch = sphere(key, range(kept), bound)
    q = _orthonormal(multiply(bound, sketch, chunk), sketch)[0]
    g = _complement(q, sphere(key, range(kept, kept + probes), bound))
    product = multiply(bound, jnp.concatenate([q, g]), chunk)
    captured, norms, values, tangents, lengths = _host(*_split(q, g, product))
    magnitude = np.sum(norms) + np.mean(np.abs(values) + lengths)
    return _Samples(np.sum(captured) + values, float(2 * np.mean(tangents) / probes), float(magnitude), num_probes)


def _xtrace(bound: Normalised, key: jax.Array, num_probes: int, chunk: int | None) -> _Samples:
    """Every test vector both finds the range of A and, left out of it, measures the rest: two products each."""
    check(num_probes >= 4, f"xtrace needs at least 4 probes, not {num_probes}; 'hutchinson' works with one")
    count = num_probes // 2
    vectors = sphere(key, range(count), bound)
    q, r, w, _ = _orthonormal(multiply(bound, vectors, chunk), vectors)
    del vectors
    r, w, h, outside, norms = _host(r, w, *_projected(q, multiply(bound, q, chunk)))
    check_finite(bound, [r.sum(), h.sum()])
    values, variance = leave_one_out.xtrace(r, w, (h + h.T) / 2, outside, bound.size, _eps(bound))
    return _Samples(values, variance, float(np.sum(norms) + np.mean(np.abs(values))), 2 * count)


def _xnystrace(bound: Normalised, key: jax.Array, num_probes: int, chunk: int | None) -> _Samples:
    """As XTrace, with the Nystrom approximation of a positive semi-definite A: one product each."""
    check(
        bound.psd,
        f"xnystrace is for positive semi-definite matrices, which a {bound.name} need not be; use method='xtrace'",
    )
    check(num_probes >= 2, f"xnystrace needs at least 2 probes, not {num_probes}; 'hutchinson' works with one")
    vectors = sphere(key, range(num_probes), bound)
    r, w, overlaps = _host(*_orthonormal(multiply(bound, vectors, chunk), vectors)[1:])
    check_finite(bound, r.sum())
    length = float(np.linalg.norm(r))
    if length == 0:
        return _Samples(np.zeros(num_probes), 0.0, 0.0, num_probes)
    inner = w.T @ r
    inner = (inner + inner.T) / 2
    lowest, highest = np.linalg.eigvalsh(inner)[[0, -1]]
    check(
        lowest >= -1e3 * _eps(bound) * abs(highest),
        f"{bound.name} has negative curvature though it is declared positive semi-definite; use method='xtrace'",
    )
    # A + shift I instead of A: `inner` is then positive definite in spite of rounding. It is taken off the trace again.
    shift = 4 * _eps(bound) * length / np.sqrt(bound.size)
    spread, axes = np.linalg.eigh(overlaps - w.T @ w)
    outside = np.sqrt(np.maximum(spread, 0.0))[:, None] * axes.T
    factor = np.concatenate([r + shift * w, shift * outside])
    estimate = leave_one_out.xnystrace(
        factor, inner + shift * overlaps, overlaps, bound.size, floor=shift * bound.size / 4
    )
    values = estimate.samples - shift * bound.size
    return _Samples(values, estimate.variance, float(np.mean(np.abs(values)) + length), num_probes)


METHODS: dict[str, Callable[[Normalised, jax.Array, int, int | None], _Samples]] = {
    "xtrace": _xtrace,
    "hutchinson": _hutchinson,
    "hutch++": _hutch_plus_plus,
    "xnystrace": _xnystrace,
}


def trace(
    bound: Bound, key: PRNGKeyArray | int, *, num_probes: int, method: str = "xtrace", chunk: int | None = None
) -> Trace:
    """Tr A from `num_probes` matrix-vector products, with a standard error.

    hutchinson: mean of g^T A g, g uniform on the sphere of radius sqrt(D); variance 2 (|A|_F^2 - Tr(A)^2 / D) / k.
    hutch++: Tr(Q^T A Q) + Hutchinson on (I - Q Q^T) A (I - Q Q^T), Q a basis of A S, S random; a third of the budget each.
    xtrace: mean over i of Tr(Q_i^T A Q_i) + Hutchinson with w_i on the rest, Q_i a basis of A w_j for all j but i.
    xnystrace: the same with the Nystrom approximation A W (W^T A W)^-1 W^T A in place of Q Q^T A.

    The standard errors are unbiased in their square. For a test vector on a sphere one product gives the variance; the
    estimates of xtrace and xnystrace are correlated, and their covariances are estimated too (`lrjax.spectra.leave_one_out`).
    The spread of the samples, as is usual, is too small by up to a half. A floor for rounding is added.

    Args:
        bound: the operator.
        key: random key or integer; the same key gives the same numbers.
        num_probes: matrix-vector products to spend in total. xtrace leaves an odd one unused. From D on, the diagonal is read
            off exactly, by D products.
        method: of `METHODS`; "xnystrace" only where `bound.psd`.
        chunk: vectors multiplied at once; None for one pass over the data a stage (hutchinson and xnystrace have one
            stage, the others two). Peak memory, measured, in vectors of length D beside what a product needs: 3 x num_probes
            for xtrace and hutch++, 5 x num_probes for xnystrace, 4 x min(chunk, num_probes) for hutchinson.

    Returns:
        Trace(value, stderr, samples, products, method).

    Raises:
        LrjaxError: unknown method, too few probes for it, a matrix that is not positive semi-definite for xnystrace, or
            products that are not finite.

    References:
        Hutchinson 1990, A stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines.
        Meyer, Musco, Musco and Woodruff 2021, Hutch++: optimal stochastic trace estimation, arXiv 2010.09649, algorithm 1.
        Epperly, Tropp and Webber 2024, XTrace: making the most of every sample in stochastic trace estimation, SIAM J.
        Matrix Anal. Appl. 45(1), arXiv 2301.07825.

    Example:
        >>> import jax, numpy as np
        >>> from lrjax.spectra.bound import matrix
        >>> bound = matrix(np.diag(np.r_[100.0, -20.0, np.full(98, 0.5)]))  # two outliers and a bulk: Tr = 129
        >>> estimate = trace(bound, jax.random.key(0), num_probes=8)
        >>> abs(estimate.value - 129) < 2 * estimate.stderr < 2, estimate.products
        (True, 8)
    """
    if method not in METHODS:
        refuse(f"unknown trace method {method!r}; {nearest(method, METHODS)}")
    check(num_probes >= 1, f"num_probes must be >= 1, got {num_probes}")
    unit = Normalised(bound)
    if num_probes >= unit.size:
        samples, method = _exact(unit, chunk), "exact"
    else:
        samples = METHODS[method](unit, as_key(key), num_probes, chunk)
    check_finite(unit, samples.values)
    rounding = 4 * _eps(unit) * samples.magnitude
    stderr = float(np.hypot(np.sqrt(samples.variance), rounding)) * unit.scale
    values = samples.values * unit.scale
    return Trace(float(np.mean(values)), stderr, values, samples.products, method)
