"""Premises: what must hold of a run before it can decide a claim, read off its files.

Each function makes a `Premise` for `Claim(premises=...)`. A premise that does not hold makes the claim "not judged", with
the number that shows it. A `Selector` picks the lanes that a claim compares:

    premises=(seeds(3), peaked("break_even/lambda_k1_raw", of_arms("large_rate", "small_rate")))
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.premise import (
    LAST,
    Held,
    Premise,
    Reader,
    Selector,
    best_of,
    chosen,
    course_of,
    every_lane,
    lane_name,
    move_of,
    numbers_of,
    setting_name,
    setting_of,
)
from lrjax.papers.premise import last_of as last_of
from lrjax.papers.premise import of_arms as of_arms
from lrjax.papers.resolution import FEWEST as FEWEST
from lrjax.papers.resolution import exact as exact
from lrjax.papers.resolution import instrument as instrument
from lrjax.papers.resolution import resolved as resolved

BEFORE_END = 0.2  # of a run: a maximum later than this may still rise
SATURATED = 0.02  # from floor or ceiling
SIGMAS = 5.0  # above chance
_first = itemgetter(0)


def seeds(count: int = 3, select: Selector = every_lane) -> Premise:
    """At least `count` independent seeds in every compared setting.

    Args:
        count: 3 unless a claim is exact mathematics.
        select: the compared lanes.

    Example:
        >>> seeds(3).name
        'seeds(3)'
    """

    def evaluate(run: RunResult) -> Held:
        found: dict[tuple, set] = defaultdict(set)
        for lane, _ in chosen(run, select):
            found[setting_of(lane)].add(lane["seed"])
        setting, own = min(found.items(), key=lambda item: len(item[1]))
        each = f"{len(own)} seed{'s' * (len(own) != 1)}"
        return Held(len(own) >= count, f"{each} in {setting_name(setting)}, the fewest of {len(found)} settings")

    return Premise(f"seeds({count})", f"every compared setting has {count} independent seeds or more", evaluate)


def learned(
    select: Selector,
    share: float,
    *,
    read: Reader,
    chance: float,
    examples: int,
    level: float | None = None,
) -> Premise:
    """Each lane's accuracy is above chance by five standard errors, and has a share of the published, or best, level.

    Args:
        select: the lanes that must have learned.
        share: of `level`, in (0, 1].
        read: (lane, arrays) -> accuracy in [0, 1], such as `last_of("accuracy/test_accuracy")`.
        chance: accuracy of a guess.
        examples: of the test set, for the standard error of a guess.
        level: published accuracy; None takes the best setting's mean of the run.

    Example:
        >>> learned(every_lane, 0.9, read=last_of("accuracy/test"), chance=0.1, examples=1000).name
        'learned(0.9)'
    """
    error = float(np.sqrt(chance * (1 - chance) / examples))

    def evaluate(run: RunResult) -> Held:
        value, lane = min(numbers_of(run, select, read), key=_first)
        best = level if level is not None else best_of(run, read)
        least = max(chance + SIGMAS * error, share * best)
        return Held(value >= least, f"{value:.3f} in {lane_name(lane)}, the lowest; {least:.3f} is asked for")

    words = "the published level" if level is not None else "the best setting's level"
    statement = f"accuracy is above chance by {SIGMAS:g} standard errors and at least {share:g} of {words}"
    return Premise(f"learned({share:g})", statement, evaluate)


def converged(select: Selector, slope: float, name: str) -> Premise:
    """Over the last tenth of training a quantity moves by less than `slope` of the range it has had.

    The move is that of a straight line through the measurements there, so that noise does not count as one.

    Args:
        select: the compared lanes; controls must pass too.
        slope: share of the range.
        name: of an array, e.g. "subsets/test_complex".

    Example:
        >>> converged(every_lane, 0.05, "subsets/test_complex").name
        'converged(0.05)'
    """

    def evaluate(run: RunResult) -> Held:
        moves = numbers_of(run, select, lambda lane, arrays: abs(move_of(arrays, name, float(lane["steps"]))))
        move, lane = max(moves, key=_first)
        return Held(move <= slope, f"{name} moves by {move:.3g} of its range at the end of {lane_name(lane)}, the most")

    statement = f"over the last {LAST:.0%} of training {name} moves by {slope:g} of its range at most"
    return Premise(f"converged({slope:g})", statement, evaluate)


def peaked(name: str, select: Selector = every_lane, smooth: Callable[[ArrayLike], NDArray] | None = None) -> Premise:
    """A maximum that is compared lies at least a fifth of the run before its end, on both sides of the comparison.

    Args:
        name: of an array.
        select: the compared lanes, all of them.
        smooth: applied to the values first, e.g. a running mean.

    Example:
        >>> peaked("break_even/lambda_h1").name
        'peaked(break_even/lambda_h1)'
    """

    def place_of(lane: dict[str, Any], arrays: Any) -> float:
        found = course_of(arrays, name)
        values = found.values if smooth is None else np.asarray(smooth(found.values))
        return float(found.steps[int(np.argmax(values))]) / float(lane["steps"])

    def evaluate(run: RunResult) -> Held:
        place, lane = max(numbers_of(run, select, place_of), key=_first)
        told = f"the maximum of {name} lies at {place:.0%} of the run in {lane_name(lane)}, the latest"
        return Held(place <= 1 - BEFORE_END, told)

    statement = f"the maximum of {name} lies {BEFORE_END:.0%} of the run or more before its end in every compared lane"
    return Premise(f"peaked({name})", statement, evaluate)


def matched(
    what: Mapping[str, Callable[[RunResult, dict[str, Any], Any], Any]], select: Selector = every_lane
) -> Premise:
    """The compared lanes agree in what is not the claim: epochs, measurements, batches L and M, treatment of decay.

    Args:
        what: name -> (run, lane, arrays) -> the value that must be the same.
        select: the compared lanes.

    Example:
        >>> matched({"steps": lambda run, lane, arrays: lane["steps"]}).name
        'matched(steps)'
    """

    def evaluate(run: RunResult) -> Held:
        told = []
        for name, of in what.items():
            found: dict[str, str] = {}  # a value -> the first lane that has it
            for lane, arrays in chosen(run, select):
                found.setdefault(str(of(run, lane, arrays)), lane_name(lane))
            if len(found) > 1:
                return Held(False, f"{name}: " + ", ".join(f"{value} in {label}" for value, label in found.items()))
            told.append(f"{name} {next(iter(found))}")
        return Held(True, ", ".join(told))

    names = ", ".join(what)
    return Premise(f"matched({names})", f"the compared lanes have the same {names}", evaluate)


def same_steps(select: Selector) -> Premise:
    """`matched` in the number of steps.

    Example:
        >>> same_steps(every_lane).name
        'matched(steps)'
    """
    return matched({"steps": lambda run, lane, arrays: lane["steps"]}, select)


def unsaturated(select: Selector, *, read: Reader, floor: float = 0.0, ceiling: float = 1.0) -> Premise:
    """No compared lane lies within 2 % of the floor or the ceiling of a quantity.

    Args:
        select: the compared lanes.
        read: (lane, arrays) -> the quantity.
        floor, ceiling: of the quantity; the 2 % are of their distance.

    Example:
        >>> unsaturated(every_lane, read=last_of("subsets/train_noise_given")).name
        'unsaturated'
    """
    edge = SATURATED * (ceiling - floor)

    def evaluate(run: RunResult) -> Held:
        found = numbers_of(run, select, read)
        value, lane = min(found, key=lambda pair: min(pair[0] - floor, ceiling - pair[0]))
        free = min(value - floor, ceiling - value) > edge
        return Held(free, f"{value:.3f} in {lane_name(lane)}, the closest to {floor:g} or {ceiling:g}")

    return Premise("unsaturated", f"no compared lane is within {SATURATED:.0%} of {floor:g} or {ceiling:g}", evaluate)
