"""Evaluation subsets: fixed examples to measure curvature on, and the uncertainty of a measurement on them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import jax
import numpy as np

from lrjax.errors import check, nearest
from lrjax.spectra.gram import Gram
from lrjax.spectra.resampling import METHODS, STATISTICS, Interval, generator
from lrjax.spectra.results import readable, to_dict

if TYPE_CHECKING:
    from jaxtyping import Float64, Int, Int64, PRNGKeyArray

AnyArray = TypeVar("AnyArray", np.ndarray, jax.Array)

FRACTION, AT_LEAST = 0.05, 4096
FEW = 512
WIDE = 0.2


class SmallSubsetWarning(UserWarning):
    """A measurement rests on too few examples, or on too few gradients, to be trusted.

    References:
        PyHessian, issue 5: with 128 examples the largest Hessian eigenvalue came out between 159 and 1587 in ten runs.

    Example:
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", SmallSubsetWarning)  # a small subset is then an error
        ...     warn_if_small(4096, 50_000)
    """


def subset_size(num_examples: int, asked: int | None = None) -> int:
    """How many examples to measure curvature on: as asked, or 5 % of them but 4096 at least; never more than there are.

    Example:
        >>> subset_size(50_000), subset_size(1000), subset_size(1_000_000), subset_size(50_000, 512)
        (4096, 1000, 50000, 512)
    """
    return min(num_examples, asked or max(math.ceil(FRACTION * num_examples), AT_LEAST))


def evaluation_subset(num_examples: int, *, size: int | None = None, seed: int = 0) -> Int64[np.ndarray, "size"]:
    """Evaluation subset for curvature: 5 % of the examples, but 4096 at least, or all where there are fewer.

    The same seed gives the same examples at every step and in every run, so that curves can be compared: what changes
    between two points is then the network. Warns where the subset is too small, as `warn_if_small` does.

    Args:
        num_examples: N.
        size: number of examples instead of max(ceil(N / 20), 4096).
        seed: of the choice.

    Returns:
        [size], sorted, distinct, int64.

    Raises:
        LrjaxError: size not from 1 to N.

    References:
        Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories, section 4: the fraction.
        PyHessian, issue 5: the floor is the advice of its maintainers.

    Example:
        >>> len(evaluation_subset(50_000)), len(evaluation_subset(1000)), len(evaluation_subset(1_000_000))
        (4096, 1000, 50000)
    """
    size = subset_size(num_examples) if size is None else size
    index = _choose(np.random.default_rng(seed), num_examples, size)
    warn_if_small(size, num_examples)
    return index


def _choose(generator: np.random.Generator, num_examples: int, size: int) -> np.ndarray:
    check(1 <= size <= num_examples, f"a subset of {num_examples} examples has from 1 to {num_examples}, not {size}")
    return np.sort(generator.choice(num_examples, size, replace=False, shuffle=False))


def warn_if_small(size: int, num_examples: int, relative: float | None = None) -> None:
    """Warns of a subset of fewer than 512 examples (and not all), or of a relative spread above 20 % between subsets.

    Args:
        size: examples measured on.
        num_examples: examples there are.
        relative: standard deviation of the measurement between resampled subsets over its mean, where known.

    Returns:
        None.

    Raises:
        SmallSubsetWarning: as a warning, not an error.

    References:
        PyHessian, issue 5: with 128 examples the largest Hessian eigenvalue came out between 159 and 1587 in ten runs.

    Example:
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_if_small(128, 50_000)
        >>> str(caught[0].message)
        'measured on 128 of 50000 examples: curvature on fewer than 512 may be several times off; use 4096 or more'
    """
    if size < min(FEW, num_examples):
        remedy = f"curvature on fewer than {FEW} may be several times off; use {AT_LEAST} or more"
        warnings.warn(f"measured on {size} of {num_examples} examples: {remedy}", SmallSubsetWarning, stacklevel=3)
    if relative is not None and not relative <= WIDE:
        text = f"subsets of {size} of {num_examples} examples give values {relative:.0%} apart (std / mean); use more examples"
        warnings.warn(text, SmallSubsetWarning, stacklevel=3)


def batches_of(data: Mapping[str, AnyArray], index: Int[np.ndarray, "n"], batch_size: int) -> list[dict[str, AnyArray]]:
    """The chosen examples as a list of batches; the last may be short.

    Args:
        data: name -> [N, ...] array.
        index: [n], which examples, in this order.
        batch_size: examples a batch.

    Returns:
        ceil(n / batch_size) dicts like `data`.

    Raises:
        LrjaxError: an empty index, one beyond the data, or a batch size below 1.

    References:
        NumPy integer-array indexing, examples along the first axis.

    Example:
        >>> [batch["y"].tolist() for batch in batches_of({"y": np.arange(10)}, np.array([1, 4, 9]), 2)]
        [[1, 4], [9]]
    """
    index = np.asarray(index)
    sizes = sorted({len(array) for array in data.values()})
    check(batch_size >= 1, f"batch_size must be >= 1, got {batch_size}")
    check(len(sizes) == 1, f"the arrays of a data set have one length; these have {sizes}")
    check(index.size > 0, "the subset is empty: choose at least one example")
    inside = index.min() >= 0 and index.max() < sizes[0]
    check(inside, f"the subset reaches from {index.min()} to {index.max()}, but the data has {sizes[0]} examples")
    parts = [index[start : start + batch_size] for start in range(0, len(index), batch_size)]
    return [{name: array[part] for name, array in data.items()} for part in parts]


class Spread(NamedTuple):
    """A measurement on several random subsets.

    Attributes:
        values: [resamples].
        mean: over the subsets.
        std: between subsets of this size, divisor resamples - 1.
        relative: std / |mean|.

    References:
        As of `spread`.

    Example:
        >>> same = spread(lambda index: 2.0, 1000, size=1000, key=jax.random.key(0))
        >>> same.mean, same.relative
        (2.0, 0.0)
    """

    values: Float64[np.ndarray, "resamples"]
    mean: float
    std: float
    relative: float

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


def spread(
    measure: Callable[[Int64[np.ndarray, "size"]], float],
    num_examples: int,
    *,
    size: int,
    resamples: int = 5,
    key: PRNGKeyArray | int,
) -> Spread:
    """Spread of a measurement between random subsets; warns where they disagree: see `warn_if_small`.

    Args:
        measure: index array [size] -> a number, such as lambda_1 on those examples.
        num_examples: N, to draw from; each subset is drawn without replacement.
        size: examples a subset.
        resamples: number of subsets, two or more.
        key: typed key or integer seed; the same gives the same subsets.

    Returns:
        Spread(values [resamples], mean, std, relative).

    Raises:
        LrjaxError: fewer than two resamples, or a size that N does not allow.

    References:
        Politis, Romano and Wolf 1999, Subsampling.

    Example:
        >>> numbers = np.arange(10_000.0)
        >>> means = spread(lambda index: numbers[index].mean(), 10_000, size=1000, key=jax.random.key(0))
        >>> bool(abs(means.mean - 4999.5) < 200), means.relative < 0.05
        (True, True)
    """
    check(resamples >= 2, f"resamples must be >= 2, got {resamples}")
    draws = generator(key)
    values = np.array([float(measure(_choose(draws, num_examples, size))) for _ in range(resamples)])
    mean, std = float(values.mean()), float(values.std(ddof=1))
    relative = std / abs(mean) if mean else (math.inf if std else 0.0)
    warn_if_small(size, num_examples, relative)
    return Spread(values, mean, std, relative)


def intervals(
    gram: Gram,
    statistic: str | Callable[[Float64[np.ndarray, "n"]], float],
    *,
    method: str = "jackknife",
    level: float = 0.95,
    resamples: int | None = None,
    key: PRNGKeyArray | int | None = None,
) -> Interval:
    """Confidence interval of a statistic of K over the L gradients, from eigensolves of resampled Gram matrices alone.

    "jackknife" leaves out one gradient (or one of `resamples` groups) at a time and gives value - bias +- t stderr;
    "bootstrap" draws L gradients with replacement and gives (2 value - q_high, 2 value - q_low) with the quantiles q of the
    resampled statistic. Each resample is centred by its own mean. The largest eigenvalue is biased up, by about
    (trace - lambda_1) / L, and a bootstrap sees that bias a second time, so its plain percentiles are not used: they held
    lambda_1 in 75 % of trials and trace / lambda_1 in 45 %. What is used held, at level 95 %, Gaussian gradients and a
    true trace / lambda_1 of 4.6,

        =========  ===  ========  =====  ================
        method      L   lambda_1  trace  trace / lambda_1
        =========  ===  ========  =====  ================
        jackknife   25      91 %   93 %              85 %
        bootstrap   25      89 %   91 %              65 %
        jackknife  100      92 %   94 %              92 %
        bootstrap  100      92 %   92 %              84 %
        =========  ===  ========  =====  ================

    With a true trace / lambda_1 above L no interval of the ratio holds. It shows as a bias above twice the standard error
    and a fifth of the value, and raises a `SmallSubsetWarning`.

    Args:
        gram: from `gram`.
        statistic: a name in `STATISTICS`, or a function of the eigenvalues, descending. The bootstrap refuses lambda_star:
            a gradient drawn twice lowers the rank.
        method: a name in `METHODS`.
        level: of confidence.
        resamples: groups of the jackknife, by default min(L, 100); draws of the bootstrap, by default 1000. Each costs an
            eigensolve of L x L: 0.1 ms at L = 25, seconds at L = 2500, where ten groups are enough.
        key: typed key or integer seed for the bootstrap.

    Returns:
        The interval; its bias is the jackknife's with either method.

    Raises:
        LrjaxError: an unknown statistic or method, fewer than three gradients, no key for the bootstrap, a statistic that is
            NaN, such as a ratio of gradients without variance.

    References:
        Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans.

    Example:
        >>> from lrjax.spectra.gram import gram
        >>> noise = np.random.default_rng(0).normal(size=(200, 3)) * np.array([3.0, 1.0, 1.0])
        >>> interval = intervals(gram(noise), "lambda_1")
        >>> bool(interval.low < 9.0 < interval.high)
        True
    """
    known = callable(statistic) or statistic in STATISTICS
    check(known, f"unknown statistic {statistic!r}; {nearest(str(statistic), STATISTICS)}")
    check(method in METHODS, f"unknown method {method!r}; {nearest(method, METHODS)}")
    compute = statistic if callable(statistic) else STATISTICS[statistic]
    star = not callable(statistic) and statistic.startswith("lambda_star")
    check(not (star and method == "bootstrap"), "resampled gradients repeat, so lambda_star needs method='jackknife'")
    check(len(gram.inner) >= 3, f"an interval needs three gradients or more, not {len(gram.inner)}")
    check(0 < level < 1, f"level must be between 0 and 1, not {level}")
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = METHODS[method](gram, compute, level, resamples, key)
    check(
        bool(np.isfinite(interval.value)),
        f"{statistic} of these gradients is {interval.value}: without variance there is no ratio",
    )
    if abs(interval.bias) > max(2 * interval.stderr, WIDE * abs(interval.value)) and not star:
        text = (
            f"{statistic} has a bias of {interval.bias:.3g} with a standard error of {interval.stderr:.3g}: "
            f"{len(gram.inner)} gradients are too few for this spectrum; take more, of fewer examples each"
        )
        warnings.warn(text, SmallSubsetWarning, stacklevel=2)
    return interval
