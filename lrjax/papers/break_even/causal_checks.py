"""E10: the learning rate is switched before and after the break-even point; which rate do the later curvatures go with?"""

from collections.abc import Callable, Mapping
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


def share_kept(run: RunResult, name: str, arm: str, first: str, then: str) -> list[float]:
    """Where a switched run ends between the rate it goes on with (0) and the rate it began with (1), a number a seed.

    Seeds whose switch lies on the other side of break-even are left out: they are not what the claim is about.
    """
    own, begun, on = (by_arm(run, name, each) for each in (arm, first, then))
    sound = {seed for seed, place in places(run, arm).items() if place.fits}
    both = sorted(set(own) & set(begun) & set(on) & sound)
    if not both:
        raise NotMeasured(f"no seed that is switched on its side of break-even is in all of {arm}, {first} and {then}")
    gap = float(np.mean([begun[seed] - on[seed] for seed in both]))  # of all seeds: no ratio with a noisy denominator
    return [(own[seed] - on[seed]) / gap for seed in both]


def early_rate_decides(name: str, arm: str) -> Callable[[Any], Finding]:
    """A check: a run that is switched past its break-even point stays closer to the rate it began with.

    Args:
        name: of a series.
        arm: of `SWITCHED`.
    """

    def check(run: RunResult) -> Finding:
        kept = share_kept(run, name, arm, *SWITCHED[arm])
        told = f"share of the first rate's {name} that is kept, {' to '.join(SWITCHED[arm])} after break-even: {mean_of(kept)}"
        for other, pair in EARLY.items():
            if pair == SWITCHED[arm]:
                told += f"; before break-even: {mean_of(share_kept(run, name, other, *pair))}"
        lost = [lane for lane, _ in lanes(run, (arm, *SWITCHED[arm]), allow_diverged=True) if diverged(lane)]
        told += f"; {len(lost)} lane{'s' * (len(lost) != 1)} diverged and left out" if lost else ""
        return Finding(positive([value - 0.5 for value in kept]), told)

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


def broken_even(run: RunResult, lane: dict[str, Any], arrays: Mapping[str, Any]) -> float:
    """The step at which a run has broken even.

    By equation 1, zero where it is unstable from the first measurement on; where equation 1 never says so, since noise keeps
    lambda_H below it, the step at which lambda_H has grown to four fifths of the largest that the run has, smoothed.
    """
    found = direct(run, lane, arrays)
    if found.step is not None:
        return found.step
    top = curve(arrays, "lambda_h1")
    smooth = detectors.smoothed(top.values, 3)
    return float(top.steps[int(np.argmax(smooth >= GROWN * smooth.max()))])


class Place(NamedTuple):
    """Where a seed is switched and where the run that it leaves breaks even, in steps, and whether that is as the arm says."""

    at: int
    point: float
    fits: bool


def places(run: RunResult, arm: str) -> dict[int, Place]:
    """Seed -> `Place` of the switch of an arm, of seeds whose unswitched run did not diverge."""
    first = (SWITCHED | EARLY)[arm][0]
    begun, own = (lanes(run, each, allow_diverged=True) for each in (first, arm))
    points = {lane["seed"]: broken_even(run, lane, arrays) for lane, arrays in begun if not diverged(lane)}
    found = {}
    for lane, _ in own:
        if lane["seed"] in points:
            at, point = int(lane["start"]["at"]), points[lane["seed"]]
            found[lane["seed"]] = Place(at, point, (at > point) == (arm in SWITCHED))
    return found


def placed(arm: str) -> Premise:
    """In three seeds or more the switch of an arm lies on its side of the break-even point of the run it leaves."""

    def evaluate(run: RunResult) -> Held:
        found = places(run, arm)
        sound = [place for place in found.values() if place.fits]
        points = [place.point for place in found.values()]
        told = (
            f"{len(sound)} of {len(found)} seeds are, switched at step {next(iter(found.values())).at}"
            if found
            else "no seed"
        )
        told += f"; break-even at {min(points):.0f} to {max(points):.0f}" if points else ""
        return Held(len(sound) >= FEWEST_SEEDS, told)

    return Premise(
        f"placed({arm})",
        f"{FEWEST_SEEDS} seeds or more are switched {'after' if arm in SWITCHED else 'before'} the break-even point of the run "
        f"they leave: by equation 1, or where that is never crossed by the step at which lambda_H has {GROWN:.0%} of its "
        "maximum; the others are left out",
        evaluate,
    )
