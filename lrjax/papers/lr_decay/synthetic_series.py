"""Series of measurements as the runs of this paper have them: an exponential approach to a level within each stage.

A level is a number a stage, which the series reaches by the stage's end. Two kinds of noise are laid on it: one a lane and
array, which stays (what seeds differ by), and one a measurement.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.synthetic import Draw, Synthetic, blank, changed, filled, one_seed

Levels = Mapping[str, Mapping[str, Sequence[float]]]  # arm -> array -> a level a stage
Make = Callable[[np.random.Generator], RunResult]

MEASUREMENTS = 60
FAST = 0.08  # of a stage: the time constant of the approach
STEADY = 0.3  # deviation of a measurement, in units of the deviation of seeds


@cache
def rates(steps: int, rate: float, milestones: tuple[int, ...]) -> NDArray[np.float64]:
    """The learning rate of each step, a tenth from each milestone on.

    Example:
        >>> rates(4, 1.0, (2,)).tolist()
        [1.0, 1.0, 0.1, 0.1]
    """
    found = np.full(steps, rate)
    for milestone in milestones:
        found[milestone:] *= 0.1
    return found


def approach(
    steps: NDArray[Any], edges: Sequence[int], levels: Sequence[float], start: float, fast: float = FAST
) -> NDArray[np.float64]:
    """Levels that are approached one after the other.

    Args:
        steps: of the measurements.
        edges: the ends of the stages, ascending.
        levels: one a stage.
        start: before the first step.
        fast: the time constant, in stages.

    Example:
        >>> approach(np.array([0, 10, 20]), [10, 20], [0.5, 0.9], 0.1).round(2).tolist()
        [0.1, 0.5, 0.9]
    """
    values, first, before = np.full(len(steps), float(start)), 0, float(start)
    for edge, level in zip(edges, levels, strict=True):
        late = steps > first
        share = np.exp(-(steps[late] - first) / (fast * (edge - first)))
        values[late] = level + (before - level) * share
        first, before = edge, level
    return values


def milestones(lane: Mapping[str, Any]) -> tuple[int, ...]:
    """The decays of a lane by its config."""
    return tuple(lane["config"].get("schedule.milestones", ()))


class Noise(NamedTuple):
    """What is laid on the levels.

    Attributes:
        deviations: array -> deviation of seeds, with a default under "".
        starts: array -> value before the first step; 0.1 unless given, 3 for a loss.
        steady: deviation of a measurement, in units of that of seeds.
        fast: the time constant of the approach, in stages.
    """

    deviations: Mapping[str, float]
    starts: Mapping[str, float] = {}
    steady: float = STEADY
    fast: float = FAST


def arrays_of(
    lane: dict[str, Any],
    levels: Mapping[str, Sequence[float]],
    marks: Sequence[int],
    noise: Noise,
    generator: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """The arrays of a lane.

    Args:
        lane: its record.
        levels: array -> a level a stage; the last one holds for the rest of the run.
        marks: steps at which all lanes are measured, the ends of stages of a lane without decay.
        noise: on the levels.
        generator: of the noise.
    """
    steps = np.unique([*np.linspace(0, lane["steps"], MEASUREMENTS + 1).astype(int), *marks])
    steps = steps[steps <= lane["steps"]]
    edges = [*(milestones(lane) or (mark for mark in marks if mark < lane["steps"])), lane["steps"]]
    found: dict[str, NDArray[Any]] = {
        "step/learning_rate": rates(lane["steps"], lane["learning_rate"], milestones(lane))
    }
    for name, own in levels.items():
        stream = name.rsplit("/", 1)[0]
        at = np.arange(lane["steps"]) if stream == "step" else steps
        whole = [*own, *[own[-1]] * (len(edges) - len(own))][: len(edges)]
        start = noise.starts.get(name, 3.0 if "loss" in name else 0.1)
        deviation = noise.deviations.get(name, noise.deviations[""])
        own_noise = generator.normal(scale=deviation) + generator.normal(scale=noise.steady * deviation, size=len(at))
        found[name] = approach(at, edges, whole, start, noise.fast) + own_noise
        if stream != "step":
            found[f"{stream}/step"] = at
    return found


def maker(
    experiment: str, levels: Callable[[int], Levels], noise: Noise, scale: str = "small", **overrides: Any
) -> Draw:
    """A `Draw`: runs of an experiment whose arms approach the levels of an effect.

    Args:
        experiment: of this paper.
        levels: effect (1, 0, -1) -> arm -> array -> a level a stage; arms that it leaves out have no measurements.
        noise: on the levels.
        scale: of the config.
        **overrides: of the config's keys, as `lrjax.papers.synthetic.blank` takes them.

    Example:
        >>> draw = maker("L3", lambda effect: {"decay": {"subsets/test_simple": (0.5, 0.9)}}, Noise({"": 0.0}))
        >>> run = draw(1.0, np.random.default_rng(0))
        >>> float(run.arrays[-1]["subsets/test_simple"][-1])
        0.9
    """

    def draw(effect: float, generator: np.random.Generator) -> RunResult:
        run = blank("lr_decay", experiment, scale, **overrides)
        own = levels(round(effect))
        marks = sorted({step for lane in run.lanes for step in milestones(lane)})
        return filled(run, lambda lane: arrays_of(lane, own.get(lane["arm"], {}), marks, noise, generator))

    return draw


def of(arm: str, *changes: Callable[[dict[str, Any], dict[str, NDArray[Any]]], Any]) -> Callable:
    """A change for `changed` that touches the arms whose names begin with `arm`."""

    def change(lane: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        if lane["arm"].startswith(arm):
            for one in changes:
                one(lane, arrays)

    return change


def drifting(name: str, share: float = 0.6) -> Callable:
    """A change: over the last fifth of a run the array still comes up by `share` of its range; its end stays."""

    def change(lane: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        if name in arrays:
            place = np.linspace(0, 1, len(arrays[name]))
            arrays[name] -= share * np.ptp(arrays[name]) * (place > 0.8) * (1 - place) / 0.2

    return change


def at_level(name: str, value: float) -> Callable:
    """A change: the array ends at a level, which it holds for the last third of the run."""

    def change(lane: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        if name in arrays:
            arrays[name][2 * len(arrays[name]) // 3 :] = value

    return change


def spread(name: str, step: float) -> Callable:
    """A change: seeds differ by `step` in the array."""

    def change(lane: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        if name in arrays:
            arrays[name] += step * lane["seed"]

    return change


def longer(run: RunResult, arm: str) -> RunResult:
    """The run in which the lanes of an arm took a step more."""
    lanes = [dict(lane, steps=lane["steps"] + (lane["arm"] == arm)) for lane in run.lanes]
    return run._replace(lanes=lanes)


def synthetic(
    draw: Draw,
    effect: str,
    broken: Mapping[str, Callable[[RunResult], RunResult]],
) -> Synthetic:
    """A `Synthetic` whose broken runs are runs with the effect, changed; `seeds(3)` is always among them.

    Args:
        draw: (effect, generator) -> a run.
        effect: size and deviation in words.
        broken: premise -> a change of a run.
    """

    def of_effect(change: Callable[[RunResult], RunResult]) -> Make:
        return lambda generator: change(draw(1.0, generator))

    return Synthetic(draw, effect, {name: of_effect(own) for name, own in {"seeds(3)": one_seed, **broken}.items()})


def change_of(*changes: Callable) -> Callable[[RunResult], RunResult]:
    """A change of a run from changes of its lanes."""

    def change(run: RunResult) -> RunResult:
        for one in changes:
            run = changed(run, one)
        return run

    return change
