"""Jackknife and bootstrap of statistics of K over its L gradients, from their inner products alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from lrjax.errors import check
from lrjax.spectra.gram import Gram, eigenvalues, recentred
from lrjax.spectra.results import readable, to_dict

if TYPE_CHECKING:
    from jaxtyping import PRNGKeyArray

GROUPS, RESAMPLES = 100, 1000


def generator(key: PRNGKeyArray | int) -> np.random.Generator:
    """NumPy's generator of a key, typed or of uint32, or of the key of an integer seed."""
    key = jax.random.key(key) if isinstance(key, int | np.integer) else key
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())


STATISTICS: dict[str, Callable[[np.ndarray], float]] = {
    "lambda_1": lambda values: values[0],
    "lambda_star": lambda values: values[-1],
    "lambda_star_over_lambda_1": lambda values: values[-1] / values[0],
    "trace": lambda values: values.sum(),
    "trace_over_lambda_1": lambda values: values.sum() / values[0],
}


class Interval(NamedTuple):
    """Confidence interval of a statistic of L gradients.

    Attributes:
        value: the statistic, as measured; not corrected.
        low: lower end.
        high: upper end.
        stderr: of the value.
        bias: the jackknife's estimate of E value - truth; value - bias is the corrected statistic.

    References:
        As of `lrjax.spectra.intervals`.

    Example:
        >>> interval = Interval(value=5.0, low=3.5, high=5.5, stderr=0.5, bias=0.5)
        >>> interval.value - interval.bias
        4.5
    """

    value: float
    low: float
    high: float
    stderr: float
    bias: float

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


def _evaluate(gram: Gram, index: np.ndarray, statistic: Callable, factor: float = 1.0) -> float:
    """The statistic of the gradients in `index`: their inner products, centred by their own mean."""
    inner = gram.inner[np.ix_(index, index)]
    inner = recentred(inner) if gram.centred else inner
    divisor = len(index) - (len(gram.inner) - gram.divisor)
    return float(statistic(factor * eigenvalues(inner, divisor, gram.centred, gram.dimension)))


def jackknife(value: float, parts: np.ndarray, level: float) -> Interval:
    """Interval of a statistic from its values with one part of the data left out at a time.

    Example:
        >>> numbers = np.array([1.0, 2.0, 6.0])  # of a mean: its standard error is std / sqrt(3)
        >>> of_mean = jackknife(3.0, (numbers.sum() - numbers) / 2, 0.95)
        >>> bool(np.isclose(of_mean.stderr, numbers.std(ddof=1) / 3**0.5))
        True
    """
    from scipy.special import stdtrit

    groups = len(parts)
    bias = float((groups - 1) * (parts.mean() - value))
    stderr = float(np.sqrt((groups - 1) * np.mean((parts - parts.mean()) ** 2)))
    half = float(stdtrit(groups - 1, (1 + level) / 2)) * stderr
    return Interval(value, value - bias - half, value - bias + half, stderr, bias)


def _jackknife(
    gram: Gram, statistic: Callable, level: float, resamples: int | None, key: PRNGKeyArray | None
) -> Interval:
    count = len(gram.inner)
    groups = min(count, GROUPS) if resamples is None else resamples
    check(2 <= groups <= count, f"the jackknife of {count} gradients leaves out from 2 to {count} groups, not {groups}")
    everything = np.arange(count)
    value = _evaluate(gram, everything, statistic)
    left_out = np.array_split(everything, groups)
    parts = np.array([_evaluate(gram, np.delete(everything, group), statistic) for group in left_out])
    return jackknife(value, parts, level)


def _bootstrap(
    gram: Gram, statistic: Callable, level: float, resamples: int | None, key: PRNGKeyArray | None
) -> Interval:
    check(key is not None, "the bootstrap draws at random: give key=jax.random.key(0)")
    assert key is not None
    count, draws = len(gram.inner), RESAMPLES if resamples is None else resamples
    check(draws >= 2, f"a bootstrap needs two resamples or more, not {draws}")
    indices = generator(key).integers(0, count, (draws, count))
    # About their own mean, L draws have (L - 1) / L of the variance of the values they are drawn from.
    drawn = np.array([_evaluate(gram, index, statistic, count / (count - gram.centred)) for index in indices])
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    jackknife = _jackknife(gram, statistic, level, None, None)
    value = jackknife.value
    return Interval(value, float(2 * value - high), float(2 * value - low), float(drawn.std(ddof=1)), jackknife.bias)


METHODS: dict[str, Callable[..., Interval]] = {"bootstrap": _bootstrap, "jackknife": _jackknife}
