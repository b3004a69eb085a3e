"""Quantities of the papers' statements: stages, gaps between them, memorisation at matched accuracy, transferability."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.experiment.rundir.lanes import Lanes
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.claim import NotMeasured


def paired(*arms: Lanes) -> list[Lanes]:
    """The lanes of several arms that have the same seeds, in one order.

    Args:
        *arms: lanes of an arm each, one a seed.

    Returns:
        For each arm its lanes of the seeds that every arm has, in the order of seeds.

    Raises:
        NotMeasured: no seed is in all arms.

    Example:
        >>> one, other = [({"seed": 1}, {}), ({"seed": 0}, {})], [({"seed": 1}, {})]
        >>> [[lane["seed"] for lane, _ in own] for own in paired(one, other)]
        [[1], [1]]
    """
    by_seed = [{lane["seed"]: (lane, arrays) for lane, arrays in own} for own in arms]
    common = sorted(set.intersection(*map(set, by_seed)))
    if not common:
        raise NotMeasured("the compared arms have no seed in common")
    return [[own[seed] for seed in common] for own in by_seed]


def at_step(found: Lanes, name: str, step: int) -> NDArray[np.float64]:
    """The record of an array at a step in each lane.

    Raises:
        NotMeasured: it was not measured at this step.
    """
    stream = name.split("/")[0]
    values = []
    for _, arrays in found:
        place = np.flatnonzero(arrays[f"{stream}/step"] == step)
        if not place.size:
            raise NotMeasured(f"{name} was not measured at step {step}")
        values.append(arrays[name][place[-1]])
    return np.array(values, np.float64)


def decays(arrays: Mapping[str, Any]) -> list[int]:
    """The steps that are the first at a lower learning rate.

    Example:
        >>> decays({"step/learning_rate": np.array([1.0, 1.0, 0.1, 0.1, 0.01])})
        [2, 4]
    """

    def fall(own: Mapping[str, Any]) -> NDArray[np.int64]:
        rates = np.asarray(own["step/learning_rate"])
        return np.flatnonzero(rates[1:] < rates[:-1] * (1 - 1e-6)) + 1

    return derived(arrays, "steps at which step/learning_rate falls", fall).tolist()


class Stage(NamedTuple):
    """Measurements between two decays.

    Attributes:
        first, last: steps; measurements after `first` up to and with `last` belong to the stage.
        best, end: the largest and the last value.
    """

    first: int
    last: int
    best: float
    end: float


def stage_table(steps: ArrayLike, values: ArrayLike, milestones: Iterable[int]) -> list[Stage]:
    """Best and last value of each stage.

    A measurement at a milestone is made before the first step at the lower rate: it ends its stage.

    Args:
        steps: int `[k]`, when it was measured, ascending.
        values: `[k]`.
        milestones: the decays, ascending.

    Raises:
        NotMeasured: a stage has no measurement.

    Source: How Does Learning Rate Decay Help Modern Neural Networks?, section 4.2.

    Example:
        >>> [(stage.best, stage.end) for stage in stage_table([1, 2, 3, 4], [0.5, 0.4, 0.9, 0.8], [2])]
        [(0.5, 0.4), (0.9, 0.8)]
    """
    steps, values = np.asarray(steps), np.asarray(values, np.float64)
    edges = [0, *milestones, int(steps[-1])]
    table = []
    for first, last in zip(edges, edges[1:], strict=False):
        own = values[(steps > first) & (steps <= last)]
        if not own.size:
            raise NotMeasured(f"nothing was measured in steps {first + 1} to {last}")
        table.append(Stage(first, last, float(np.max(own)), float(own[-1])))
    return table


def stages(arrays: Mapping[str, Any], name: str) -> list[Stage]:
    """`stage_table` of a lane's array between the decays of that lane."""
    stream = name.split("/")[0]
    return stage_table(arrays[f"{stream}/step"], arrays[name], decays(arrays))


def matched(first: ArrayLike, second: ArrayLike, level: float) -> float:
    """The second quantity when the first one first reaches a level, linear between measurements.

    Args:
        first, second: `[k]`, in the order of time.
        level: of `first`.

    Raises:
        NotMeasured: the level is never reached.

    Example:
        >>> matched([0.0, 0.5, 1.0], [0.0, 0.1, 0.3], 0.75)
        0.2
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    above = np.flatnonzero(first >= level)
    if not above.size:
        raise NotMeasured(f"an accuracy of {level:.3f} is never reached")
    after = int(above[0])
    if after == 0:
        return float(second[0])
    share = (level - first[after - 1]) / (first[after] - first[after - 1])
    return float(second[after - 1] + share * (second[after] - second[after - 1]))


class Ratio(NamedTuple):
    """Transferability of a stage with its 95 % interval over seeds; infinite ends where the source's gain may be zero."""

    value: float
    low: float
    high: float


def ratio_of(numerators: ArrayLike, denominators: ArrayLike) -> Ratio:
    """The ratio of two means over paired seeds, with Fieller's interval of coverage 95 %.

    It holds the ratios r for which the mean of numerator - r denominator may be zero by Student's t.

    Args:
        numerators, denominators: [n], one number a seed.

    References:
        Fieller 1954, Some problems in interval estimation.

    Example:
        >>> ratio = ratio_of([0.10, 0.11, 0.09], [0.20, 0.21, 0.20])
        >>> round(ratio.value, 2), ratio.low < 0.5 < ratio.high
        (0.49, True)
    """
    from scipy import stats  # here: it takes a second to import

    top, under = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    value = float(top.mean() / under.mean()) if under.mean() else np.nan
    if top.size < 2:
        return Ratio(value, -np.inf, np.inf)
    scale = float(stats.t.ppf(0.975, top.size - 1)) ** 2 / top.size
    spread = np.cov(top, under)
    square = under.mean() ** 2 - scale * spread[1, 1]
    middle = top.mean() * under.mean() - scale * spread[0, 1]
    if square <= 0:
        return Ratio(value, -np.inf, np.inf)
    root = np.sqrt(max(middle**2 - square * (top.mean() ** 2 - scale * spread[0, 0]), 0.0))
    return Ratio(value, float((middle - root) / square), float((middle + root) / square))


def transferability(source: ArrayLike, target: ArrayLike) -> list[Ratio]:
    """Share of the accuracy that each stage adds on the source, which is added on a target too.

        T_i = (tacc_i - tacc_{i-1}) / (acc_i - acc_{i-1}),   i = 2, 3, ...

    Args:
        source: accuracy on the source at the end of each stage, `[seeds, stages]`.
        target: accuracy after transfer of that snapshot, `[seeds, stages]`.

    Returns:
        One ratio a stage from the second on, of means over seeds.

    Source: How Does Learning Rate Decay Help Modern Neural Networks?, section 6.

    Example:
        >>> [round(ratio.value, 2) for ratio in transferability([[0.5, 0.7, 0.72]], [[0.4, 0.5, 0.5]])]
        [0.5, 0.0]
    """
    source, target = np.atleast_2d(np.asarray(source, np.float64)), np.atleast_2d(np.asarray(target, np.float64))
    gains, gains_target = np.diff(source, axis=1), np.diff(target, axis=1)
    return [ratio_of(own, gain) for own, gain in zip(gains_target.T, gains.T, strict=True)]
