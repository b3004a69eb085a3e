"""Synthetic runs of the exact claims: one example (E1) and the cubic map, whose seeds differ by rounding alone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc import map_checks, single_checks
from lrjax.papers.benign_osc.cubic_map import (
    SIGN_STABLE_LIMIT,
    STABILITY_LIMIT,
    TWO_CYCLE_LIMIT,
    mean_residual,
    period_two,
)
from lrjax.papers.benign_osc.observe import EARLY
from lrjax.papers.benign_osc.synthetic_accuracy import placed
from lrjax.papers.benign_osc.theory import half_capacity_time, single_example_end
from lrjax.papers.synthetic import Synthetic, blank, filled

START, ROUNDING = 1e-5, 1e-6
FLOAT32 = {"step/loss": np.ones(1, np.float32)}
Arrays = dict[str, Any]
Draw = Callable[..., RunResult]


def _apart(lane: dict[str, Any], size: float) -> float:
    """What rounding adds: -1, 0, 1 times a size for the three seeds."""
    return (lane["seed"] - 1) * size


def _single(arrays: Callable[[dict[str, Any], float, float], Arrays]) -> Draw:
    """Draws of E1 from a lane, the effect and the size of its rounding."""
    select = single_checks.all_of(single_checks.OSCILLATING, single_checks.STABLE)

    def draw(effect: float, generator: np.random.Generator, rounding: float = ROUNDING) -> RunResult:
        return placed(blank("benign_osc", "E1"), {select: lambda lane: FLOAT32 | arrays(lane, effect, rounding)})

    return draw


def _visits(swing: float) -> Arrays:
    """Visits of the one example, label +1, that alternate about 1."""
    steps = np.arange(EARLY)
    return {
        "data/y": np.ones(1),
        "data/strong": np.ones(1, bool),
        "data/u_norm": np.float64(1.0),
        "data/v_norm": np.float64(0.1),
        "step/example": np.zeros(EARLY, int),
        "step/margin": 1.0 + swing * np.where(steps % 2 == 0, 1.0, -1.0),
    }


def _two_points(first: float, last: float) -> Arrays:
    """V of label +1 at the first and last step, as the only label that is trained."""
    return {"features/step": np.array([0, 20_000]), "features/weak": np.array([[first, 0.0], [last, 0.0]])}


def _theorem_2() -> Synthetic:
    def arrays(lane: dict[str, Any], effect: float, rounding: float, swing: float = 0.3) -> Arrays:
        return _visits(swing) | _two_points(START, 0.3 / 4 * np.exp(effect * np.log(2.0) + _apart(lane, rounding)))

    draw = _single(arrays)
    still = _single(lambda lane, effect, rounding: arrays(lane, effect, rounding, swing=0.1))
    broken = {
        "oscillates": lambda generator: still(1.0, generator),
        "exact": lambda generator: draw(1.0, generator, rounding=0.2),
    }
    return Synthetic(draw, "V at twice delta/4; wrong variant: V at delta/4", broken, exact=True)


def _capacity_law() -> Synthetic:
    def arrays(lane: dict[str, Any], effect: float, rounding: float) -> Arrays:
        e, eps = lane["e"], 0.01
        off = {1.0: 0.0, 0.0: single_checks.END}.get(effect, 5 * single_checks.END)
        end = float(single_example_end(e, eps)) * (1.0 + off + _apart(lane, ROUNDING)) if e > 1 else START
        half = half_capacity_time(START, e, eps) * (1.0 + _apart(lane, rounding)) if e > 1 else 0.0
        steps = np.arange(0.0, lane["steps"] + 1, 50)
        weak = np.where(steps < half, START, end)
        return _visits(0.3) | {"features/step": steps, "features/weak": np.stack([weak, 0.0 * weak], axis=1)}

    draw = _single(arrays)
    broken = {"exact": lambda generator: draw(1.0, generator, rounding=0.03)}
    return Synthetic(draw, "on the law; wrong variant: V ends 2 % beside it", broken, exact=True)


def _single_small_rate() -> Synthetic:
    def arrays(lane: dict[str, Any], effect: float, rounding: float) -> Arrays:
        moved = {1.0: 0.0, 0.0: single_checks.STAYS}.get(effect, 5.0)
        return _visits(0.0) | _two_points(START, START * np.exp(moved + _apart(lane, rounding)))

    draw = _single(arrays)
    broken = {"exact": lambda generator: draw(1.0, generator, rounding=0.02)}
    return Synthetic(draw, "V stays; wrong variant: log V moves by the margin", broken, exact=True)


def _map(
    orbit: Callable[[dict[str, Any], float, float], np.ndarray], rounding: float, large: float, text: str
) -> Synthetic:
    """Draws of the map's orbits from a lane, the effect and the size of its rounding."""

    def draw(effect: float, generator: np.random.Generator, size: float = rounding) -> RunResult:
        return filled(
            blank("benign_osc", "map"), lambda lane: FLOAT32 | {"step/margin": orbit(lane, effect, _apart(lane, size))}
        )

    return Synthetic(draw, text, {"exact": lambda generator: draw(1.0, generator, size=large)}, exact=True)


SIDES = np.where(np.arange(map_checks.LAST) % 2 == 0, 1.0, -1.0)


def _settles(lane: dict[str, Any], effect: float, apart: float) -> np.ndarray:
    """At rest below e = 1, swinging above."""
    swing = {1.0: 0.2, 0.0: map_checks.SWINGS}.get(effect, 0.0) + apart
    return 1.0 + (swing if lane["e"] > STABILITY_LIMIT else 0.0) * SIDES


def _cycles(lane: dict[str, Any], effect: float, apart: float) -> np.ndarray:
    """The 2-cycle with its mean residual, moved by an error."""
    error = {1.0: 1e-6, 0.0: map_checks.CLOSE}.get(effect, 0.01) + apart
    if not STABILITY_LIMIT < lane["e"] < TWO_CYCLE_LIMIT:
        return np.ones(map_checks.LAST)
    high, low = sorted(period_two(lane["e"])[1], reverse=True)
    assert abs(1.0 - (high + low) / 2 - float(mean_residual(lane["e"]))) < 1e-9
    return np.where(SIDES > 0, high, low) + error


def _flips(lane: dict[str, Any], effect: float, apart: float) -> np.ndarray:
    """Dead neurons, of output zero, from a rate on."""
    first = SIGN_STABLE_LIMIT + {1.0: 0.0, 0.0: 0.006}.get(effect, -0.1) + apart
    return np.full(map_checks.LAST, 0.0 if lane["e"] >= first else 0.9)


SYNTHETIC = {
    "theorem_2": _theorem_2(),
    "capacity_law": _capacity_law(),
    "single_small_rate": _single_small_rate(),
    "map_onset": _map(_settles, ROUNDING, 0.05, "swings of 0.2; wrong variant: of 0.05"),
    "map_two_cycle": _map(_cycles, 1e-8, 8e-5, "within 1e-6; wrong variant: 1e-4 beside the cycle"),
    "map_sign_stability": _map(
        _flips, 0.002, 0.02, "at 1.598 on the grid of rates; wrong variant: a step and a half beyond it"
    ),
}
