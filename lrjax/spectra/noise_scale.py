"""Gradient noise scale: the batch size at which the noise of a step is as large as the step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jax.typing import ArrayLike

from lrjax.errors import check
from lrjax.spectra.gradient_rows import gradient_rows, inner_products
from lrjax.spectra.gram import Gram, per_example_scale, recentred
from lrjax.spectra.ranges import in_range
from lrjax.spectra.resampling import jackknife
from lrjax.spectra.results import readable, to_dict
from lrjax.spectra.selection import Tree
from lrjax.spectra.subset import SmallSubsetWarning

if TYPE_CHECKING:
    from jaxtyping import Float


class NoiseScale(NamedTuple):
    """The simple noise scale B = Tr(Sigma) / |G|^2, with its error.

    Attributes:
        value: B, in examples; infinity where the estimate of |G|^2 is not positive.
        low: lower end of the confidence interval.
        high: upper end; infinity where the interval of |G|^2 reaches zero, and B is then only bounded from below.
        stderr: of the value; NaN where that is infinite.
        noise: unbiased estimate of Tr(Sigma), the trace of the covariance of per-example gradients.
        signal: unbiased estimate of |G|^2, G the mean gradient; may come out negative.

    References:
        McCandlish et al. 2018, An empirical model of large-batch training, arXiv 1812.06162, equation 2.9.

    Example:
        >>> found = gradient_noise_scale(np.eye(3) + 2, batch_size=4)
        >>> round(found.noise, 4), round(found.signal, 4), found.resolved
        (4.0, 16.0, True)
    """

    value: float
    low: float
    high: float
    stderr: float
    noise: float
    signal: float

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)

    @property
    def resolved(self) -> bool:
        """Whether |G|^2 is positive at the level of confidence, so that B has an upper bound."""
        return self.high < math.inf


def _noise_scale(noise: float, signal: float, noises: np.ndarray, signals: np.ndarray, level: float) -> NoiseScale:
    """From the estimates, and those with one part left out. The jackknife is of 1 / B, whose denominator is well away from
    zero; that of B is not."""
    inverse = jackknife(signal / noise, signals / noises, level)
    value, low, high = (1 / bound if bound > 0 else math.inf for bound in (inverse.value, inverse.high, inverse.low))
    if value == math.inf:
        warnings.warn(
            f"the squared mean gradient is not told from zero (estimate {signal:.3g}, noise of one example {noise:.3g}), so "
            "that the noise scale is infinite; take more gradients, or larger batches",
            SmallSubsetWarning,
            stacklevel=3,
        )
    stderr = inverse.stderr * value**2 if value < math.inf else math.nan
    return NoiseScale(value, low, high, stderr, noise, signal)


def gradient_noise_scale(
    gradients: Tree | tuple[Tree, ...] | Iterator[Tree],
    batch_size: int,
    *,
    num_examples: int | None = None,
    disjoint: bool = False,
    level: float = 0.95,
) -> NoiseScale:
    """Simple noise scale B = Tr(Sigma) / |G|^2 from L mini-batch gradients: about the largest batch that is still useful.

    Sigma is the covariance of per-example gradients and G their mean. With m the mean of the L gradients g_j of M examples
    and s^2 = sum_j |g_j - m|^2 / (L - 1), Tr(Sigma) is M s^2 and |G|^2 is |m|^2 - s^2 / L, both unbiased: the estimator of
    the two batch sizes M and L M. The interval is that of 1 / B by the jackknife over the gradients, open above where |G|^2
    may be zero; at level 95 % it held in 95 to 99 % of trials with L from 10 to 100 and B from 1.4 M to 100 M.

    Args:
        gradients: L of them, in any form that `gram` takes.
        batch_size: M, examples behind each gradient.
        num_examples: N, where the batches are drawn without replacement from that many and G is the gradient of all of
            them; without it the examples are independent draws.
        disjoint: the batches share no example; with num_examples.
        level: of confidence.

    Returns:
        The `NoiseScale`.

    Raises:
        LrjaxError: fewer than three gradients, gradients that are all equal, sizes that no batches can have, and as `gram`.
        SmallSubsetWarning: as a warning: the estimate of |G|^2 is not positive.

    References:
        McCandlish et al. 2018, An empirical model of large-batch training, arXiv 1812.06162, equation 2.9 and appendix A.1.

    Example:
        >>> found = gradient_noise_scale(np.array([[3.0, 1.0], [3.0, -1.0], [3.0, 1.0], [3.0, -1.0]]), batch_size=2)
        >>> round(found.noise, 4), round(found.signal, 4), round(found.value, 4)
        (2.6667, 8.6667, 0.3077)
    """
    check(not isinstance(gradients, Gram), "a Gram has lost the mean of its gradients; give the gradients themselves")
    in_range("batch_size", batch_size, "1 or more")
    in_range("level", level, "between 0 and 1")
    rows = gradient_rows(gradients)
    count = len(rows)
    check(count >= 3, f"a noise scale with an error needs three gradients or more, not {count}")
    check(
        num_examples is not None or not disjoint,
        "disjoint=True needs num_examples, that the batches are disjoint parts of",
    )
    squares = np.diag(recentred(inner_products(rows, center=True)[2]))  # |g_j - m|^2
    along = inner_products(rows, center=False)[2].mean(axis=1)  # m . g_j
    mean = along.mean()

    def estimates(spread: np.ndarray, square: np.ndarray, parts: int) -> tuple[np.ndarray, np.ndarray]:
        """Of parts gradients, from the sum of |g_j - m|^2 and from |m|^2."""
        variance, left = spread / (parts - 1), 1.0
        scale = float(batch_size)
        if num_examples is not None:
            scale = per_example_scale(batch_size, num_examples, disjoint, parts, parts - 1)
            left = 1 - parts * batch_size / num_examples if disjoint else 1.0
        return scale * variance, square - left * variance / parts

    noise, signal = estimates(squares.sum(), mean, count)
    noises, signals = estimates(
        squares.sum() - squares * count / (count - 1),
        mean - 2 * (along - mean) / (count - 1) + squares / (count - 1) ** 2,
        count - 1,
    )
    check(
        bool(noise > 0 and np.all(noises > 1e-9 * noise)),
        "the gradients are equal, or all but one are: without noise there is no noise scale; give those of independent batches",
    )
    return _noise_scale(float(noise), float(signal), noises, signals, level)


def noise_scale_of_norms(
    small: Float[ArrayLike, "T"],
    large: Float[ArrayLike, "T"],
    batch_sizes: tuple[int, int],
    *,
    level: float = 0.95,
) -> NoiseScale:
    """Simple noise scale B = Tr(Sigma) / |G|^2 from squared gradient norms at two batch sizes, such as one device's and all.

    |G|^2 is (M_2 |g_2|^2 - M_1 |g_1|^2) / (M_2 - M_1) and Tr(Sigma) is (|g_1|^2 - |g_2|^2) / (1 / M_1 - 1 / M_2), each averaged
    over T measurements before their ratio is taken. The interval takes the measurements as independent.

    Args:
        small: [T], |g_1|^2 of batches of M_1 examples.
        large: [T], |g_2|^2 of batches of M_2 examples.
        batch_sizes: (M_1, M_2), M_1 < M_2.
        level: of confidence.

    Returns:
        The `NoiseScale`.

    Raises:
        LrjaxError: fewer than three measurements, numbers that are no squared norms, sizes that do not grow, small batches
            whose gradients are no larger than those of large ones: the noise is then not resolved.
        SmallSubsetWarning: as a warning: the estimate of |G|^2 is not positive.

    References:
        McCandlish et al. 2018, An empirical model of large-batch training, arXiv 1812.06162, appendix A.1.

    Example:
        >>> found = noise_scale_of_norms([5.0, 6.0, 7.0], [2.0, 3.0, 4.0], (1, 4))
        >>> found.noise, found.signal, found.value
        (4.0, 2.0, 2.0)
    """
    in_range("level", level, "between 0 and 1")
    for name, norms in (("small", small), ("large", large)):
        in_range(f"the squared norms {name}", norms, "0 or more")
    first, second = np.asarray(small, np.float64), np.asarray(large, np.float64)
    check(
        first.shape == second.shape and first.ndim == 1 and first.size >= 3,
        f"give three or more squared norms at each batch size, of one measurement each, not {first.shape} and {second.shape}",
    )
    few, many = batch_sizes
    check(1 <= few < many, f"batch_sizes must be (M_1, M_2) with 1 <= M_1 < M_2, not {batch_sizes}")
    noise = (first - second) / (1 / few - 1 / many)
    signal = (many * second - few * first) / (many - few)
    return noise_scale_of_estimates(noise, signal, level=level)


def noise_scale_of_estimates(noise: np.ndarray, signal: np.ndarray, *, level: float = 0.95) -> NoiseScale:
    """Simple noise scale from T unbiased estimates of Tr(Sigma) and of |G|^2, each averaged before their ratio is taken.

    Args:
        noise: [T], of Tr(Sigma).
        signal: [T], of |G|^2, from the same measurements.
        level: of confidence; the interval takes the measurements as independent.

    Returns:
        The `NoiseScale`, in the unit of the noise: in batches where Sigma is the covariance of a batch's gradient.

    Raises:
        LrjaxError: a mean noise that is not positive, with all measurements or without one of them.
        SmallSubsetWarning: as a warning: the mean of |G|^2 is not positive.

    References:
        McCandlish et al. 2018, An empirical model of large-batch training, arXiv 1812.06162, appendix A.1.

    Example:
        >>> found = noise_scale_of_estimates(np.array([4.0, 4.0, 4.0]), np.array([1.0, 2.0, 3.0]))
        >>> found.value, found.resolved
        (2.0, False)
    """
    noises, signals = ((values.sum() - values) / (values.size - 1) for values in (noise, signal))
    check(
        bool(noise.mean() > 0 and np.all(noises > 0)),
        "gradients of small batches are no larger than those of large ones, so the noise is not resolved; measure more of them",
    )
    return _noise_scale(float(noise.mean()), float(signal.mean()), noises, signals, level)
