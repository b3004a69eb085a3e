"""E10: the learning rate is switched before and after the break-even point; which rate do the later curvatures go with?"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lrjax.experiment.rundir.lanes import NotMeasured, diverged, lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even import detectors
from lrjax.papers.break_even.recorded import curve, direct
from lrjax.papers.claim import Finding
from lrjax.papers.premises import Held, Premise
from lrjax.papers.statistics import mean_of, positive

LAST = 0.2  # of a run, over which later values are averaged
# Switched after break-even -> (the rate it began with, the rate it goes on with)
SWITCHED = {"large_then_small": ("large", "small"), "small_then_large": ("small", "large")}
EARLY = {"small_early": ("small", "large")}  # the same, before it; a large rate is there from the start
GROWN = 0.8  # of the largest lambda_H of a run, where equation 1 is never crossed: ours
FEWEST_SEEDS = 3
APART = float(np.log(1.2))  # least ratio of the two unswitched rates for which "closer to" means something: ours


def later(arrays: Mapping[str, Any], name: str, steps: int) -> float:
    """The mean logarithm of a series over the last fifth of a run.

    Raises:
        NotMeasured: it was not measured there.
    """
    found = curve(arrays, name)
    inside = found.steps >= (1 - LAST) * steps
    if not inside.any() or np.any(found.values[inside] <= 0):
        raise NotMeasured(f"{name} has no positive value in the last fifth of a run")
    return float(np.log(found.values[inside]).mean())


def by_arm(run: RunResult, name: str, arm: str) -> dict[int, float]:
    """Seed -> mean logarithm of a series at the end of an arm; a lane that diverged has no end."""
    own = [pair for pair in lanes(run, arm, allow_diverged=True) if not diverged(pair[0])]
    return {lane["seed"]: later(arrays, name, lane["steps"]) for lane, arrays in own}


class Place(NamedTuple):
    """Where a seed is switched and where the run that it leaves breaks even, in steps; whether equation 1 says the latter."""

    at: int
    point: float
    by_equation: bool
    fits: bool


def compared(run: RunResult, arm: str) -> dict[int, Place]:
    """Seed -> `Place`, of the seeds in which neither the switched run diverged nor one of the two that it is compared with."""
    pair = (SWITCHED | EARLY)[arm]
    own, first, then = (
        {lane["seed"]: (lane, arrays) for lane, arrays in lanes(run, each, allow_diverged=True) if not diverged(lane)}
        for each in (arm, *pair)
    )
    found = {}
    for seed in sorted(own.keys() & first.keys() & then.keys()):
        at = int(own[seed][0]["start"]["at"])
        point, by_equation = broken_even(run, *first[seed])
        found[seed] = Place(at, point, by_equation, (at > point) == (arm in SWITCHED))
    return found


def share_kept(run: RunResult, name: str, arm: str, seeds: Iterable[int]) -> list[float]:
    """Where a switched run ends between the rate it goes on with (0) and the rate it began with (1), a number a seed.

    Raises:
        NotMeasured: there is no seed.
    """
    own, begun, on = (by_arm(run, name, each) for each in (arm, *(SWITCHED | EARLY)[arm]))
    both = list(seeds)
    if not both:
        raise NotMeasured(f"no seed of {arm} is switched on its side of break-even")
    gap = float(np.mean([begun[seed] - on[seed] for seed in both]))  # of all seeds: no ratio with a noisy denominator
    return [(own[seed] - on[seed]) / gap for seed in both]


def _told(run: RunResult, name: str, arm: str) -> str:
    found = compared(run, arm)
    sound = [seed for seed, place in found.items() if place.fits]
    words = f"{'after' if arm in SWITCHED else 'before'} break-even, {' to '.join((SWITCHED | EARLY)[arm])}"
    try:
        told = f"{words}: {mean_of(share_kept(run, name, arm, sound))}"
    except NotMeasured as reason:
        return f"{words}: not measured, {reason}"
    if len(sound) == len(found):
        return told
    return f"{told} ({len(sound)} of {len(found)} seeds; all of them {mean_of(share_kept(run, name, arm, found))})"


def early_rate_decides(name: str) -> Callable[[Any], Finding]:
    """A check: after a switch past break-even the run stays closer to the rate it began with, in both directions.

    Seeds whose switch lies on the other side of break-even are left out: they are not what the claim is about.
    """

    def check(run: RunResult) -> Finding:
        closer = []
        for arm in SWITCHED:
            sound = [seed for seed, place in compared(run, arm).items() if place.fits]
            closer.append([value - 0.5 for value in share_kept(run, name, arm, sound)])
        told = "; ".join(_told(run, name, arm) for arm in (*SWITCHED, *EARLY))
        return Finding(positive(*closer), f"share of the first rate's {name} that is kept, {told}")

    return check


def apart(name: str) -> Premise:
    """The two unswitched rates end far enough from each other."""

    def evaluate(run: RunResult) -> Held:
        large, small = by_arm(run, name, "large"), by_arm(run, name, "small")
        both = sorted(set(large) & set(small))
        if not both:
            raise NotMeasured("no seed is in both unswitched arms")
        gap = mean_of([small[seed] - large[seed] for seed in both])
        clear = min(abs(gap.low), abs(gap.high)) >= APART and gap.low * gap.high > 0
        return Held(
            clear, f"ratio of small to large {np.exp(gap.mean):.2f} [{np.exp(gap.low):.2f}, {np.exp(gap.high):.2f}]"
        )

    return Premise(
        f"apart({name})", f"unswitched, the two rates' {name} differ by a factor of {np.exp(APART):.1f}", evaluate
    )


def broken_even(run: RunResult, lane: dict[str, Any], arrays: Mapping[str, Any]) -> tuple[float, bool]:
    """The step at which a run has broken even, and whether equation 1 says so.

    By equation 1, zero where it is unstable from the first measurement on; where equation 1 never says so, since noise keeps
    lambda_H below it, the step at which lambda_H has grown to four fifths of the largest that the run has, smoothed.
    """
    found = direct(run, lane, arrays)
    if found.step is not None:
        return found.step, True
    top = curve(arrays, "lambda_h1")
    smooth = detectors.smoothed(top.values, 3)
    return float(top.steps[int(np.argmax(smooth >= GROWN * smooth.max()))]), False


def _placed(run: RunResult) -> Held:
    told, fewest = [], FEWEST_SEEDS
    for arm in SWITCHED:
        found = compared(run, arm).values()
        points = [place.point for place in found if place.fits]
        fewest = min(fewest, len(points))
        by_equation = sum(place.by_equation for place in found if place.fits)
        where = f", break-even at {min(points):.0f} to {max(points):.0f}, {by_equation} by equation 1" if points else ""
        told.append(f"{arm} {len(points)} of {len(found)} seeds{where}")
    return Held(fewest >= FEWEST_SEEDS, "; ".join(told))


PLACED = Premise(
    "placed",
    f"in each direction {FEWEST_SEEDS} seeds or more are switched after the break-even point of the run they leave: by "
    f"equation 1, or where that is never crossed by the step at which lambda_H has {GROWN:.0%} of its maximum, a rule of ours",
    _placed,
)
