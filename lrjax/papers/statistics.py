"""Decisions over seeds: Student's t intervals, several comparisons at once, and sameness within a margin.

A verdict is wrong in at most 5 % of runs without an effect, "supported" and "contradicted" together: each takes one end of
a 95 % interval. Seeds are the unit; examples of a test set are not.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.errors import check

LEVEL = 0.05  # of false verdicts, both kinds together


class Estimate(NamedTuple):
    """A mean over seeds and its 95 % interval.

    Attributes:
        mean: over seeds.
        low, high: ends of Student's t interval; infinite for one seed.
        count: seeds.
    """

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        if self.count < 2:
            return f"{self.mean:.3g} (one seed)"
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(values, np.float64)
    check(found.ndim == 1 and found.size > 0, f"one number a seed is asked for, not an array of shape {found.shape}")
    check(bool(np.all(np.isfinite(found))), "a number of a seed is not finite: leave the seed out and say so")
    return found


def mean_of(values: ArrayLike, level: float = LEVEL) -> Estimate:
    """The mean over seeds with Student's t interval of coverage 1 - `level`.

    Args:
        values: [n], one number a seed.
        level: 1 - coverage.

    Returns:
        An `Estimate`. Equal numbers give an interval of length zero.

    Raises:
        LrjaxError: no seeds, or a number that is not finite.

    Example:
        >>> print(mean_of([1.0, 2.0, 3.0]))
        2 [-0.484, 4.48]
    """
    found = _finite(values)
    mean = float(found.mean())
    if found.size < 2:
        return Estimate(mean, -np.inf, np.inf, 1)
    from scipy import stats  # here: every run imports this module, and that import takes a second

    error = float(found.std(ddof=1) / np.sqrt(found.size))
    half = float(stats.t.ppf(1 - level / 2, found.size - 1)) * error
    return Estimate(mean, mean - half, mean + half, found.size)


def _one_sided(values: NDArray[np.float64]) -> float:
    """p of "the mean is not above zero"."""
    if values.size < 2:
        return 1.0
    if np.ptp(values) == 0:
        return 0.0 if values[0] > 0 else 1.0
    from scipy import stats

    found: Any = stats.ttest_1samp(values, 0.0, alternative="greater")
    return float(found.pvalue)


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """p values for several comparisons at once, by Holm's step-down rule.

    Args:
        p_values: [m], of the comparisons one by one.

    Returns:
        [m], adjusted: one at most `level` is wrong with probability at most `level`, however many are true.

    References:
        Holm 1979, A simple sequentially rejective multiple test procedure.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    found = np.asarray(p_values, np.float64)
    order = np.argsort(found)
    stepped = np.maximum.accumulate(found[order] * np.arange(found.size, 0, -1))
    adjusted = np.empty_like(found)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def positive(*comparisons: ArrayLike, level: float = LEVEL) -> str:
    """The verdict of "each of these means is above zero".

    Supported where every mean is above zero at `level` / 2: all have to hold, so none needs a correction. Contradicted
    where one is below zero at `level` / 2 after Holm's, since any one would do.

    Args:
        *comparisons: [n] each, one number a seed: differences of paired seeds, or distances from a threshold, with the
            sign that the claim gives them.
        level: of false verdicts, both kinds together.

    Returns:
        "supported", "contradicted" or "inconclusive".

    Raises:
        LrjaxError: no comparison, no seeds, or a number that is not finite.

    Example:
        >>> positive([1.0, 1.2, 0.9]), positive([1.0, 1.2, 0.9], [-0.5, 0.6, 0.1]), positive([-1.0, -1.2, -0.9])
        ('supported', 'inconclusive', 'contradicted')
    """
    check(bool(comparisons), "there is nothing to compare")
    found = [_finite(values) for values in comparisons]
    if max(_one_sided(values) for values in found) <= level / 2:
        return "supported"
    against = holm([_one_sided(-values) for values in found])
    return "contradicted" if float(against.min()) <= level / 2 else "inconclusive"


def within(*comparisons: ArrayLike, margin: float, level: float = LEVEL) -> str:
    """The verdict of "each of these means is zero up to a margin", by two one-sided tests.

    Supported where every interval of coverage 1 - `level` lies within the margin; contradicted where one lies beyond it
    (Holm's correction as in `positive`). At a difference that equals the margin either happens with `level` / 2.

    Args:
        *comparisons: [n] each, one difference a seed.
        margin: the largest difference that counts as none, in the unit of the numbers.
        level: of false verdicts, both kinds together.

    Returns:
        "supported", "contradicted" or "inconclusive".

    Raises:
        LrjaxError: no comparison, no seeds, a number that is not finite, or a margin that is not positive.

    References:
        Schuirmann 1987, A comparison of the two one-sided tests procedure and the power approach.

    Example:
        >>> within([0.1, -0.1, 0.0], margin=1.0), within([3.0, 3.1, 3.2], margin=1.0), within([1.0, 0.2, 0.9], margin=1.0)
        ('supported', 'contradicted', 'inconclusive')
    """
    check(bool(comparisons), "there is nothing to compare")
    check(margin > 0, f"the margin must be positive, not {margin:g}")
    found = [_finite(values) for values in comparisons]
    inside = [max(_one_sided(margin - values), _one_sided(margin + values)) for values in found]
    if max(inside) <= level / 2:
        return "supported"
    # Beyond the margin on one of two sides: one of them at most is true, so the smaller p needs no doubling.
    beyond = holm([min(_one_sided(values - margin), _one_sided(-values - margin)) for values in found])
    return "contradicted" if float(beyond.min()) <= level / 2 else "inconclusive"


def logs_apart(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """log(first / second) of paired seeds, for positive numbers that are compared by their ratio.

    Args:
        first, second: [n], one positive number a seed, in the same order of seeds.

    Returns:
        [n].

    Raises:
        LrjaxError: unequal lengths, or a number that is not positive and finite.

    Example:
        >>> logs_apart([2.0, 4.0], [1.0, 1.0]).round(3).tolist()
        [0.693, 1.386]
    """
    one, other = _finite(first), _finite(second)
    check(one.size == other.size, f"seeds are paired, but there are {one.size} and {other.size}")
    check(bool(np.all(one > 0) and np.all(other > 0)), "a ratio needs positive numbers")
    return np.log(one / other)


def seeds_needed(effect: float, power: float = 0.8, level: float = LEVEL, most: int = 100) -> int | None:
    """How many paired seeds a t test needs, by its power: for choosing a run's size before it is run.

    Args:
        effect: the mean difference over the standard deviation of the differences, from a pilot.
        power: the wanted probability of "supported".
        level: as in `positive`.
        most: seeds up to which to look.

    Returns:
        The smallest number, 2 or more; None where `most` is not enough.

    Example:
        >>> seeds_needed(3.3), seeds_needed(1.7), seeds_needed(0.1)
        (3, 5, None)
    """
    from scipy import stats

    for count in range(2, most + 1):
        edge = stats.t.ppf(1 - level / 2, count - 1)
        if float(stats.nct.sf(edge, count - 1, effect * np.sqrt(count))) >= power:
            return count
    return None
