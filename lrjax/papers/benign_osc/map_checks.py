"""Checks behind the claims on the cubic map, from the recorded orbits of one neuron: run files -> finding.

The seeds turn the features, which changes nothing but rounding; a statement about all rates is one number a seed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import NotMeasured, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.benign_osc.cubic_map import (
    SIGN_STABLE_LIMIT,
    STABILITY_LIMIT,
    TWO_CYCLE_LIMIT,
    mean_residual,
    period_two,
)
from lrjax.papers.claim import Finding
from lrjax.papers.premises import Premise, exact
from lrjax.papers.statistics import mean_of, positive, within

LAST = 400  # steps at the end of an orbit that represent its attractor
NEAR = 0.02  # next to a bifurcation an orbit settles too slowly to be judged
RESTS, SWINGS = 1e-3, 0.05  # of |yf - 1|: rounding is 1e-6, and the 2-cycle at e = 1.02 is at 0.13
CLOSE = 1e-4  # of the closed forms, a hundred roundings of a float32
GRID = 0.01  # of the rate, two steps of the grid of rates

Numbers = tuple[float, ...]


class Orbit(NamedTuple):
    """The last `LAST` steps of a lane in numbers, or [n] of each, of n lanes.

    Attributes:
        e: the rate.
        swing: largest |yf - 1|.
        dead: 1 where the output is zero at each step: a flipped neuron is dead for its class; else 0.
        points, residual: distances from the closed forms of the 2-cycle, of its points and of its mean residual; nan outside
            the rates at which it attracts.
    """

    e: Any
    swing: Any
    dead: Any
    points: Any
    residual: Any


def in_numbers(lane: dict[str, Any], arrays: Any) -> Orbit:
    """The end of a lane's orbit."""

    def numbers(own: Any) -> Numbers:
        z = own["step/margin"][-LAST:].astype(np.float64)
        return (float(np.max(np.abs(z - 1.0))), float(np.all(z == 0.0)), *_cycle_errors(lane["e"], z))

    return Orbit(lane["e"], *derived(arrays, f"orbit over the last {LAST} steps", numbers).tolist())


def _cycle_errors(e: float, z: NDArray[Any]) -> Numbers:
    if not STABILITY_LIMIT < e < TWO_CYCLE_LIMIT:
        return np.nan, np.nan
    high, low = sorted(period_two(e)[1], reverse=True)
    pairs = np.stack([z[: z.size // 2 * 2 : 2], z[1::2]])
    points = max(np.max(np.abs(pairs.max(axis=0) - high)), np.max(np.abs(pairs.min(axis=0) - low)))
    return float(points), abs(float(np.mean(1.0 - z)) - float(mean_residual(e)))


def _orbits(run: RunResult) -> dict[int, Orbit]:
    """seed -> its orbits, [n] of each number."""
    found: dict[int, list[Orbit]] = {}
    for lane, arrays in recorded(run, "step/margin"):
        found.setdefault(lane["seed"], []).append(in_numbers(lane, arrays))
    if not found:
        raise NotMeasured("this run has no orbit")
    return {seed: Orbit(*map(np.array, zip(*own, strict=True))) for seed, own in found.items()}


def _clear_of(e: NDArray[Any], *limits: float) -> NDArray[np.bool_]:
    return np.all([np.abs(e - limit) > NEAR for limit in limits], axis=0)


def swings(found: Orbit) -> Numbers:
    """Largest |yf - 1| over all rates below 1, and the smallest over those above."""
    e = found.e
    below = (e < STABILITY_LIMIT) & _clear_of(e, STABILITY_LIMIT) & (e > NEAR)
    above = (e > STABILITY_LIMIT) & _clear_of(e, STABILITY_LIMIT) & (e < SIGN_STABLE_LIMIT)
    if not below.any() or not above.any():
        raise NotMeasured("the run has no rates on both sides of e = 1")
    return float(found.swing[below].max()), float(found.swing[above].min())


def cycle_errors(found: Orbit) -> Numbers:
    """Largest distance from the closed forms of the 2-cycle, of its points and of its mean residual."""
    e = found.e
    inside = (e > STABILITY_LIMIT) & (e < TWO_CYCLE_LIMIT) & _clear_of(e, STABILITY_LIMIT, TWO_CYCLE_LIMIT)
    if not inside.any():
        raise NotMeasured("the run has no rate inside the 2-cycle range")
    return float(found.points[inside].max()), float(found.residual[inside].max())


def first_flip(found: Orbit) -> Numbers:
    """Smallest rate with a flipped neuron, which is dead for its class, so that its output is zero; else the largest."""
    e, dead = found.e, found.dead > 0
    if not np.any(e > SIGN_STABLE_LIMIT + GRID):
        raise NotMeasured("the run has no rate beyond 1.598")
    return (float(e[dead].min()) if dead.any() else float(e.max()),)


def _by_seed(run: RunResult, numbers: Callable[..., Numbers]) -> list[NDArray[np.float64]]:
    """Each number [seeds]."""
    found = _orbits(run)
    return list(np.array([numbers(found[seed]) for seed in sorted(found)]).T)


def rounding(numbers: Callable[..., Numbers], *margins: float) -> Premise:
    """Seeds differ by rounding alone: the judged numbers may differ by half of their margins."""

    def deviation(run: RunResult) -> float:
        found = _by_seed(run, numbers)
        if found[0].size < 2:
            raise NotMeasured("no second orbit differs by rounding alone")
        return max(float(np.ptp(own)) / margin for own, margin in zip(found, margins, strict=True))

    return exact(deviation, most=0.5)


def onset(run: RunResult) -> Finding:
    """The output settles at its label below e = 1 and never above."""
    below, above = _by_seed(run, swings)
    text = f"largest |yf - 1| at the end: at most {mean_of(below)} for e < 1, "
    word = positive((RESTS - below) / RESTS, (above - SWINGS) / SWINGS)
    return Finding(word, text + f"at least {mean_of(above)} above")


def two_cycle(run: RunResult) -> Finding:
    """The recorded cycle and its mean residual against the closed forms, for 1 < e < sqrt(5) - 1."""
    errors, residuals = _by_seed(run, cycle_errors)
    text = f"cycle points within {errors.max():.1e}, mean residual within {residuals.max():.1e} of (e-1)/(2e)"
    return Finding(within(errors, residuals, margin=CLOSE), text)


def sign_stability(run: RunResult) -> Finding:
    """Neurons keep their sign up to e = 3 sqrt(3)/2 - 1."""
    (first,) = _by_seed(run, first_flip)
    text = f"smallest rate with a flipped neuron: {mean_of(first)} (limit {SIGN_STABLE_LIMIT:.4f})"
    return Finding(within(first - SIGN_STABLE_LIMIT, margin=GRID), text)
