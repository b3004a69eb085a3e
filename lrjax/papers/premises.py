"""Premises: what must hold of a run before it can decide a claim, read off its files.

Each function makes a `Premise` for `Claim(premises=...)`. A premise that does not hold makes the claim "not judged", with
the number that shows it. A `Selector` picks the lanes that a claim compares:

    premises=(seeds(3), peaked("break_even/lambda_k1_raw", of_arms("large_rate", "small_rate")))
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
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
    in_float64,
    lane_name,
    late_move,
    setting_name,
    setting_of,
)
from lrjax.papers.premise import last_of as last_of
from lrjax.papers.premise import of_arms as of_arms
from lrjax.papers.statistics import mean_of

BEFORE_END = 0.2  # of a run: a maximum later than this may still rise
SATURATED = 0.02  # from floor or ceiling
SIGMAS = 5.0  # above chance
FEWEST = 10  # samples of an instrument


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
        found = [(read(lane, arrays), lane) for lane, arrays in chosen(run, select)]
        best = level if level is not None else best_of(run, read)
        least = max(chance + SIGMAS * error, share * best)
        value, lane = min(found, key=lambda pair: pair[0])
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
        moves = []
        for lane, arrays in chosen(run, select):
            found = derived(
                arrays,
                f"move of {name} at the end",
                lambda own, n=lane["steps"]: late_move(course_of(own, name), float(n)),
            )
            moves.append((abs(float(found)), lane))
        move, lane = max(moves, key=lambda pair: pair[0])
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

    def evaluate(run: RunResult) -> Held:
        places = []
        for lane, arrays in chosen(run, select):
            found = course_of(arrays, name)
            values = found.values if smooth is None else np.asarray(smooth(found.values))
            places.append((float(found.steps[int(np.argmax(values))]) / float(lane["steps"]), lane))
        place, lane = max(places, key=lambda pair: pair[0])
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
        found = [(read(lane, arrays), lane) for lane, arrays in chosen(run, select)]
        value, lane = min(found, key=lambda pair: min(pair[0] - floor, ceiling - pair[0]))
        free = min(value - floor, ceiling - value) > edge
        return Held(free, f"{value:.3f} in {lane_name(lane)}, the closest to {floor:g} or {ceiling:g}")

    return Premise("unsaturated", f"no compared lane is within {SATURATED:.0%} of {floor:g} or {ceiling:g}", evaluate)


def instrument(
    name: str, tolerance: float, select: Selector = every_lane, samples: int = FEWEST, *, of: str | None = None
) -> Premise:
    """What measures is accurate enough: residuals at most a tolerance, and samples enough in every lane.

    Args:
        name: of the array of residuals, e.g. "break_even/hessian_residuals"; the median over measurements counts.
        tolerance: of a residual, in the unit of the array, or with `of` relative.
        select: the compared lanes.
        samples: measurements that each lane must have.
        of: name of the array of what was measured, in whose size residuals count.

    Example:
        >>> instrument("break_even/hessian_residuals", 0.05).name
        'instrument(0.05)'
    """

    def evaluate(run: RunResult) -> Held:
        found = []
        for lane, arrays in chosen(run, select):
            values = np.asarray(arrays.get(name, ()), np.float64)
            values = values.reshape(len(values), -1)[:, 0] if values.size else values
            if of is not None and values.size:
                values = values / np.abs(np.asarray(arrays[of], np.float64)).reshape(len(values), -1)[:, 0]
            values = values[np.isfinite(values)]
            if values.size < samples:
                return Held(False, f"{values.size} measurements in {lane_name(lane)}; {samples} are asked for")
            found.append((float(np.median(values)), lane))
        worst, lane = max(found, key=lambda pair: pair[0])
        return Held(worst <= tolerance, f"median {quantity} {worst:.2g} in {lane_name(lane)}, the largest")

    quantity = name if of is None else f"{name} / {of.rsplit('/', 1)[-1]}"
    statement = f"median {quantity} is {tolerance:g} at most, and each lane has {samples} measurements or more"
    return Premise(f"instrument({tolerance:g})", statement, evaluate)


def resolved(
    margin: float,
    differences: Callable[[RunResult], ArrayLike],
    control: Callable[[RunResult], bool],
) -> Premise:
    """The run can tell a difference of `margin`: the interval is that short, and a wrong variant beside it fails the check.

    Args:
        margin: of the claim, in its unit.
        differences: run -> [n], one number a seed, as the claim compares them.
        control: run -> whether the wrong variant passes the same check; it must not.

    Example:
        >>> resolved(1.0, lambda run: [0.1, 0.0, -0.1], lambda run: False).evaluate(None).holds
        True
    """

    def evaluate(run: RunResult) -> Held:
        half = mean_of(differences(run)).half_width
        if half > margin:
            return Held(False, f"half of the interval is {half:.3g}; the margin is {margin:g}")
        passes = control(run)
        told = "the wrong variant passes too" if passes else "the wrong variant fails"
        return Held(not passes, f"half of the interval is {half:.3g} of the margin {margin:g}; {told}")

    statement = f"half of the interval is {margin:g} at most, and a wrong variant run beside fails the same check"
    return Premise(f"resolved({margin:g})", statement, evaluate)


def exact(deviation: Callable[[RunResult], ArrayLike] | None = None, most: float = 0.0) -> Premise:
    """A theorem is judged in float64, or where a control run that differs by one rounding stays this close.

    Args:
        deviation: run -> how far the control has parted, one number or one a seed; None asks for float64.
        most: the largest deviation that still decides.

    Example:
        >>> exact(lambda run: 1e-9, most=1e-6).name
        'exact'
    """

    def evaluate(run: RunResult) -> Held:
        if in_float64(run):
            return Held(True, "the run is in float64")
        if deviation is None:
            return Held(False, "the run is in float32: its rounding grows, and no theorem says by how much")
        found = float(np.max(deviation(run)))
        return Held(found <= most, f"a control that differs by one rounding parts by {found:.2g}; {most:g} is allowed")

    return Premise("exact", "the run is in float64, or a control that differs by one rounding stays close", evaluate)
