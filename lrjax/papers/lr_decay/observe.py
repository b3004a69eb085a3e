"""Quantities of the papers' statements: stages, gaps between them, memorisation at matched accuracy, transferability."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.experiment.rundir.lanes import Lanes
from lrjax.papers.claim import NotMeasured

LEAST_GAIN = 0.005  # of source accuracy between two stages, under which a ratio to it is undefined


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


def decays(arrays: dict[str, Any]) -> list[int]:
    """The steps that are the first at a lower learning rate.

    Example:
        >>> decays({"step/learning_rate": np.array([1.0, 1.0, 0.1, 0.1, 0.01])})
        [2, 4]
    """
    rates = np.asarray(arrays["step/learning_rate"])
    return (np.flatnonzero(rates[1:] < rates[:-1] * (1 - 1e-6)) + 1).tolist()


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


def stages(arrays: dict[str, Any], name: str) -> list[Stage]:
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
    """Transferability with its bootstrap interval; NaN where the source gained too little."""

    value: float
    low: float
    high: float


def transferability(
    source: ArrayLike, target: ArrayLike, *, examples: tuple[int, int], repeats: int = 2000, seed: int = 0
) -> list[Ratio]:
    """Share of the accuracy that each stage adds on the source, which is added on a target too.

        T_i = (tacc_i - tacc_{i-1}) / (acc_i - acc_{i-1}),   i = 2, 3, ...

    The interval holds 95 % of the ratios when seeds are drawn with replacement and each accuracy anew from its binomial
    distribution over test examples.

    Args:
        source: accuracy on the source at the end of each stage, `[seeds, stages]`.
        target: accuracy after transfer of that snapshot, `[seeds, stages]`.
        examples: how many test examples source and target have.
        repeats, seed: of the bootstrap.

    Returns:
        One ratio a stage from the second on; NaN where the source gained less than half a point.

    Source: How Does Learning Rate Decay Help Modern Neural Networks?, section 6.

    Example:
        >>> found = transferability([[0.5, 0.7, 0.72]], [[0.4, 0.5, 0.5]], examples=(10_000, 10_000))
        >>> [round(ratio.value, 2) for ratio in found]
        [0.5, 0.0]
    """
    source, target = np.atleast_2d(np.asarray(source, np.float64)), np.atleast_2d(np.asarray(target, np.float64))
    random = np.random.default_rng(seed)
    drawn = random.integers(len(source), size=(repeats, len(source)))

    def again(values: NDArray[Any], count: int) -> NDArray[Any]:
        return random.binomial(count, np.clip(values[drawn], 0, 1)).mean(axis=1) / count

    a, b = np.diff(again(source, examples[0]), axis=1), np.diff(again(target, examples[1]), axis=1)
    gains, gains_target = np.diff(source.mean(axis=0)), np.diff(target.mean(axis=0))
    ratios = []
    for stage, gain in enumerate(gains):
        if abs(gain) < LEAST_GAIN:
            ratios.append(Ratio(np.nan, np.nan, np.nan))
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = b[:, stage] / a[:, stage]
        low, high = np.quantile(spread[np.isfinite(spread)], (0.025, 0.975))
        ratios.append(Ratio(float(gains_target[stage] / gain), float(low), float(high)))
    return ratios
