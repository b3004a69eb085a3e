"""Leave-one-out algebra of XTrace and XNysTrace: k estimates that leave out one test vector each, and their covariances.

Test vectors w_1 .. w_k are uniform on the sphere of radius sqrt(D). The estimate t_i projects A onto the range found by the
others and measures the rest with w_i. All in k x k matrices: float64 on the host, O(k^3).

Variance (derived here; Epperly, Tropp and Webber take the deviation of the t_i, which sees no covariance and came out 0.5 to
0.9 times the error in our tests). Given the others, t_i = const + g^T B g with g uniform on a sphere of radius sqrt(d),
d = D - k + 1. A quadratic form on a sphere is a constant plus a harmonic of degree two, thus

    Var(g^T B g) = 2 E |B g - g (g^T B g) / d|^2.

E[t_i | the others] = Tr A. Let t_ij be t_i with w_j left out as well. As t_ij does not see w_j, and t_j has mean Tr A in w_j,

    Cov(t_i, t_j) = E[(t_i - t_ij) (t_j - t_ji)].

Both are expectations of computed quantities, so the sum over all i, j is an unbiased variance of the mean of the t_i.
"""

from typing import NamedTuple

import numpy as np

# Correlation at which the span of two left-out vectors is taken for one: beyond, float64 resolves nothing.
PARALLEL = 1e-12


class LeaveOneOut(NamedTuple):
    """Estimates [k] of the trace, and the variance of their mean."""

    samples: np.ndarray
    variance: float


def _combine(samples: np.ndarray, variances: np.ndarray, pairs: np.ndarray) -> LeaveOneOut:
    """From t_i, their variances, and t_ij as `pairs[j, i]`."""
    change = samples[None] - pairs
    np.fill_diagonal(change, 0.0)
    variances = np.maximum(variances, 0.0)
    # A sum of covariances is at most (k - 1) times that of the variances; an estimate of it need not be.
    covariance = np.clip(np.sum(change * change.T), 0.0, (samples.size - 1) * np.sum(variances))
    return LeaveOneOut(samples, float(np.sum(variances) + covariance) / samples.size**2)


def _off_diagonal(square: np.ndarray, diagonal: float) -> np.ndarray:
    square = square.copy()
    np.fill_diagonal(square, diagonal)
    return square


def xtrace(r: np.ndarray, w: np.ndarray, h: np.ndarray, outside: np.ndarray, size: int, eps: float) -> LeaveOneOut:
    """XTrace from the products of its two stages.

    With Y = A W = Q R and W the test vectors, the basis that leaves out w_i is Q (I - s_i s_i^T) where s_i is column i of
    R^-T, normalised (Epperly, Tropp and Webber 2024). The rest follows from s_i in k dimensions.

    Args:
        r: R, [k, k].
        w: Q^T W, [k, k].
        h: Q^T A Q, [k, k].
        outside: inner products of the columns of (I - Q Q^T) A Q, [k, k].
        size: D.
        eps: rounding unit of the products; directions of Y below it are noise.
    """
    k = r.shape[0]
    left, singular, right = np.linalg.svd(r)
    s = left @ (right / np.maximum(singular / (singular[0] or 1.0), eps)[:, None])
    s /= np.linalg.norm(s, axis=0)
    error = r - h @ w  # Q^T A (I - Q Q^T) W
    along, spread = s.T @ w, s.T @ h @ s
    a, d, e = np.diag(along), np.diag(spread), np.sum(s * error, axis=0)
    base, free = np.trace(h), size - np.sum(w * w, axis=0) + a * a  # free: |(I - P_i) w_i|^2
    quadratic = a * a * d + 2 * a * e - np.sum(w * error, axis=0)  # ((I - P_i) w_i)^T A (I - P_i) w_i
    scale = (size - k + 1) / free
    samples = base - d + scale * quadratic
    x = w - s * a
    squared = np.sum(x * (outside @ x), axis=0) + (e + a * d) ** 2  # |(I - P_i) A (I - P_i) w_i|^2
    variances = 2 * (scale * squared - (scale * quadratic) ** 2 / (size - k + 1))
    # Left out with i: the part of s_j orthogonal to s_i.
    c = _off_diagonal(s.T @ s, 0.0)
    root = np.sqrt(np.maximum(1 - c * c, PARALLEL))
    b = (along - c * a[None]) / root
    cross = (spread - c * d[None]) / root
    second = (d[:, None] - 2 * c * spread + c * c * d[None]) / root**2
    change = 2 * a[None] * b * cross + b * b * second + 2 * b * (s.T @ error - c * e[None]) / root
    pair_scale = (size - k + 2) / (free[None] + b * b)
    pairs = base - d[None] - second + pair_scale * (quadratic[None] + change)
    return _combine(samples, variances, pairs)


def xnystrace(factor: np.ndarray, inner: np.ndarray, overlaps: np.ndarray, size: int, floor: float) -> LeaveOneOut:
    """XNysTrace from the products of its one stage.

    The Nystrom approximation Y (W^T Y)^-1 Y^T, Y = A W, agrees with A on the test vectors W. With K = (W^T Y)^-1 leaving out
    w_i subtracts z z^T / K_ii from it, z = Y K e_i, and the remainder of w_i^T A w_i is 1 / K_ii
    (Epperly, Tropp and Webber 2024).

    Args:
        factor: [*, k] with factor^T factor = Y^T Y.
        inner: W^T Y, [k, k].
        overlaps: W^T W, [k, k].
        size: D.
        floor: lower bound of the eigenvalues of `inner`.
    """
    k = inner.shape[0]
    values, vectors = np.linalg.eigh(inner)
    root = vectors / np.sqrt(np.maximum(values, floor))
    half = factor @ root
    base = np.sum(half * half)
    precision, removed = root @ root.T, half @ root.T
    lost = removed.T @ removed
    free = np.linalg.inv(overlaps)  # 1 / |part of w_i orthogonal to the others|^2 on its diagonal
    p, n, f = np.diag(precision), np.diag(lost), np.diag(free)
    scale = (size - k + 1) * f
    samples = base - n / p + scale / p
    variances = 2 * (scale * n / p**2 - (scale / p) ** 2 / (size - k + 1))
    c = _off_diagonal(precision / np.sqrt(p[:, None] * p[None]), 0.0)
    cc = _off_diagonal(free / np.sqrt(f[:, None] * f[None]), 0.0)
    ratio = n / p
    cross = _off_diagonal(lost / np.sqrt(p[:, None] * p[None]), 0.0)
    rest, kept = np.maximum(1 - c * c, PARALLEL), np.maximum(1 - cc * cc, PARALLEL)
    down = (ratio[:, None] + ratio[None] - 2 * c * cross) / rest
    pairs = base - down + (size - k + 2) * (f * kept / (p * rest))
    return _combine(samples, variances, pairs)
