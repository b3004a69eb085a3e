"""Premises on what a run can tell: residuals and samples, the width of an interval beside a margin, and exactness.

`lrjax.papers.premises` has them beside the others.
"""

from collections.abc import Callable
from operator import itemgetter

import numpy as np
from numpy.typing import ArrayLike

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.premise import (
    Held,
    Premise,
    Selector,
    chosen,
    every_lane,
    fewer_digits,
    in_float64,
    lane_name,
)
from lrjax.papers.statistics import mean_of

FEWEST = 10  # samples of an instrument


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
        worst, lane = max(found, key=itemgetter(0))
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
        fewer = fewer_digits(run)
        if fewer or deviation is None:
            digits = f"multiplies in {fewer}" if fewer else "is in float32"
            return Held(False, f"the run {digits}: its rounding grows, and no theorem says by how much")
        found = float(np.max(deviation(run)))
        return Held(found <= most, f"a control that differs by one rounding parts by {found:.2g}; {most:g} is allowed")

    return Premise("exact", "the run is in float64, or a control that differs by one rounding stays close", evaluate)
