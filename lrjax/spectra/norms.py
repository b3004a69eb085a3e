"""Frobenius norm and participation ratio (effective rank) of a bound operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lrjax.errors import check
from lrjax.spectra.bound import Bound
from lrjax.spectra.normalised import Normalised
from lrjax.spectra.random_vectors import (
    Estimate,
    as_key,
    blocks,
    check_finite,
    dots,
    mean,
    small_sample,
    sphere,
    units,
)
from lrjax.spectra.results import readable, to_dict

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray


class Frobenius(NamedTuple):
    """Estimates of |A|_F and of |A|_F^2, the sum of the squared eigenvalues.

    Attributes:
        value: |A|_F, the root of `squared`.
        stderr: of `value`, stderr(squared) / (2 value).
        squared: |A|_F^2; this one is unbiased.
        squared_stderr: of `squared`.
        products: matrix-vector products spent.

    References:
        As of `frobenius`.

    Example:
        >>> estimate = Frobenius(value=5.0, stderr=0.1, squared=25.0, squared_stderr=1.0, products=20)
        >>> estimate.value**2 == estimate.squared
        True
    """

    value: float
    stderr: float
    squared: float
    squared_stderr: float
    products: int

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


def _samples(
    bound: Normalised, key: PRNGKeyArray, num_probes: int, chunk: int | None
) -> tuple[np.ndarray, np.ndarray, bool]:
    """(v^T A v, |A v|^2, False) for random v; or (A_ii, |row i|^2, True), all of them, where there are enough probes."""
    exact = num_probes >= bound.size
    parts = []
    for block in blocks(bound.size if exact else num_probes, chunk):
        v = units(block, bound) if exact else sphere(key, block, bound)
        product = bound.matmat(v)
        parts.append([np.asarray(dots(v, product), np.float64), np.asarray(dots(product, product), np.float64)])
    quadratic, squared = np.concatenate(parts, axis=1)
    check_finite(bound, squared)
    return quadratic, squared, exact


def frobenius(bound: Bound, key: PRNGKeyArray | int, *, num_probes: int, chunk: int | None = None) -> Frobenius:
    """|A|_F from E|A v|^2 = |A|_F^2, v uniform on the sphere of radius sqrt(D).

    The standard error is that of a mean of `num_probes` samples with Student's factor for few of them; that of the root is
    to first order. A single dominant eigenvalue makes |A v|^2 as skewed as a chi-square of one degree: then take 20 probes
    or more, or Lanczos.

    Args:
        bound: the operator.
        key: random key or integer; the same key gives the same numbers.
        num_probes: matrix-vector products, at least 2. From D on, the norm is exact, from D products.
        chunk: vectors multiplied at once, None for one pass over the data. Memory: 4 x min(chunk, num_probes) vectors.

    Returns:
        Frobenius(value, stderr, squared, squared_stderr, products).

    Raises:
        LrjaxError: fewer than two probes; products that are not finite.

    References:
        Roosta-Khorasani and Ascher 2015, Improved bounds on sample size for implicit matrix trace estimators: |A|_F^2 is the
        trace of A^T A.
        JCGM 100:2008, Guide to the expression of uncertainty in measurement, G.3: Student's factor.

    Example:
        >>> import jax, numpy as np
        >>> from lrjax.spectra.bound import matrix
        >>> frobenius(matrix(np.diag([3.0, 0.0, 4.0])), jax.random.key(0), num_probes=3).value
        5.0
    """
    check(num_probes >= 2, f"a norm with a standard error needs at least 2 probes, not {num_probes}")
    unit = Normalised(bound)
    _, samples, exact = _samples(unit, as_key(key), num_probes, chunk)
    samples = samples * unit.scale**2
    eps = float(np.finfo(np.dtype(bound.dtype)).eps)
    squared, stderr = (float(np.sum(samples)), 0.0) if exact else mean(samples)
    stderr = float(np.hypot(stderr, 2 * eps * squared))
    root = float(np.sqrt(squared))
    return Frobenius(root, stderr / (2 * root) if root else 0.0, squared, stderr, samples.size)


def effective_rank(bound: Bound, key: PRNGKeyArray | int, *, num_probes: int, chunk: int | None = None) -> Estimate:
    """The participation ratio Tr(A)^2 / |A|_F^2 = (sum of eigenvalues)^2 / (sum of their squares).

    r for r equal eigenvalues, between 1 and D for a positive semi-definite matrix; without meaning where eigenvalues of
    both signs cancel in the trace. It is not the exponential of the entropy of the eigenvalues, which Roy and Vetterli 2007
    call effective rank, nor the stable rank |A|_F^2 / lambda_1^2, nor Tr(A) / lambda_1.

    Trace and norm come from the same products. A ratio of means is biased by O(1 / num_probes): value and standard error are
    those of the jackknife, the latter with Student's factor.

    Args:
        bound: the operator.
        key: random key or integer; the same key gives the same numbers.
        num_probes: matrix-vector products, at least 3. From D on, the ratio is exact, from D products.
        chunk: vectors multiplied at once, None for one pass over the data. Memory: 4 x min(chunk, num_probes) vectors.

    Returns:
        Estimate(value, stderr).

    Raises:
        LrjaxError: fewer than three probes; the zero matrix; products that are not finite.

    References:
        Bartlett, Long, Lugosi and Tsigler 2020, Benign overfitting in linear regression, definition 3: R_0.
        Efron and Stein 1981, The jackknife estimate of variance.

    Example:
        >>> import jax, numpy as np
        >>> from lrjax.spectra.bound import matrix
        >>> effective_rank(matrix(np.diag([2.0, 2.0, 0.0, 0.0])), jax.random.key(0), num_probes=4).value
        2.0
    """
    check(num_probes >= 3, f"an effective rank with a standard error needs at least 3 probes, not {num_probes}")
    quadratic, squared, exact = _samples(Normalised(bound), as_key(key), num_probes, chunk)
    check(bool(np.sum(squared) > 0), f"{bound.name} is zero: it has no effective rank")
    eps = float(np.finfo(np.dtype(bound.dtype)).eps)
    if exact:
        value = float(np.sum(quadratic) ** 2 / np.sum(squared))
        return Estimate(value, 4 * eps * float(np.sum(np.abs(quadratic)) ** 2 / np.sum(squared)))
    k = quadratic.size
    plain = np.mean(quadratic) ** 2 / np.mean(squared)
    without = (np.sum(quadratic) - quadratic) ** 2 / ((k - 1) * (np.sum(squared) - squared))
    value = float(k * plain - (k - 1) * np.mean(without))
    deviation = np.sqrt((k - 1) / k * np.sum((without - np.mean(without)) ** 2)) * small_sample(k)
    return Estimate(value, float(np.hypot(deviation, 4 * eps * plain)))
