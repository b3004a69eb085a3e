"""Arrays of synthetic runs of this paper: accuracies, lengths of weights, logits; see `lrjax.papers.synthetic`."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.synthetic import blank, changed, filled

Arrays = dict[str, NDArray[Any]]
Offsets = Callable[[float], Mapping[str, float]]

BETWEEN = 0.2  # points, deviation of a difference of paired seeds: 94.9 % of 10,000 images leave 0.2 for one run
MEASUREMENTS = 40
RISES = 0.1  # of the run, in which accuracy comes to its plateau


def worse(effect: float, margin: float) -> float:
    """How far twins are apart: none for the effect, the margin without it, five margins for the reverse."""
    return {1.0: 0.0, 0.0: 1.0, -1.0: 5.0}[effect] * margin


@cache
def zeros(steps: int) -> NDArray[np.float32]:
    """The losses of a lane that has run to its end."""
    return np.broadcast_to(np.float32(0), (steps,))


def with_accuracy(lane: Mapping[str, Any], final: float, generator: np.random.Generator) -> Arrays:
    """Test accuracy that comes to its plateau in a tenth of the run; measurements deviate by 0.1 points but for the last."""
    steps = lane["steps"]
    at = np.linspace(0, steps, MEASUREMENTS + 1)
    course = 0.1 + (final / 100 - 0.1) * np.minimum(1, at / (RISES * steps))
    course[1:-1] += generator.normal(0, 1e-3, MEASUREMENTS - 1)
    return {"step/loss": zeros(steps), "accuracy/step": at, "accuracy/test_accuracy": course}


def accuracies(experiment: str, level: float, offsets: Offsets) -> Callable[[float, np.random.Generator], RunResult]:
    """Runs at paper scale whose arms end at `level` plus their offset, in points; a draw a lane on top."""

    def draw(effect: float, generator: np.random.Generator) -> RunResult:
        apart = offsets(effect)

        def arrays(lane: dict[str, Any]) -> Arrays:
            noise = generator.normal(0, BETWEEN / np.sqrt(2))
            return with_accuracy(lane, level + apart.get(lane["arm"], 0.0) + noise, generator)

        return filled(blank("exp_lr", experiment, scale="paper"), arrays)

    return draw


def moved(run: RunResult, points: float, but: str = "") -> RunResult:
    """The run with the accuracy of all arms but one moved by some points."""

    def move(lane: dict[str, Any], arrays: Arrays) -> None:
        if lane["arm"] != but:
            arrays["accuracy/test_accuracy"] += points / 100

    return changed(run, move)


def rising(run: RunResult) -> RunResult:
    """The run with accuracies that rise to their end, as far as they did."""

    def rise(lane: dict[str, Any], arrays: Arrays) -> None:
        series = arrays["accuracy/test_accuracy"]
        arrays["accuracy/test_accuracy"] = np.linspace(0.1, 2 * series[len(series) // 2 :].mean() - 0.5, len(series))

    return changed(run, rise)


def spread_out(run: RunResult, arm: str) -> RunResult:
    """The run with the seeds of an arm a point apart from one another."""

    def spread(lane: dict[str, Any], arrays: Arrays) -> None:
        if lane["arm"] == arm:
            arrays["accuracy/test_accuracy"] += (lane["seed"] - 1) / 100

    return changed(run, spread)


def shortened(run: RunResult, arm: str) -> RunResult:
    """The run with an arm that was to run for half of its steps."""
    lanes = [dict(lane, steps=lane["steps"] // 2) if lane["arm"] == arm else lane for lane in run.lanes]
    return run._replace(lanes=lanes)


def rates(run: RunResult, lane: Mapping[str, Any]) -> NDArray[np.float32]:
    """The schedule of a lane with constant rate or step decay: [steps]."""
    base, own = run.config, lane["config"]  # not lane_config, which takes longer than all the rest
    schedule = {key: own.get(f"schedule.{key}", base["schedule"][key]) for key in ("name", "milestones", "factor")}
    starts = tuple(schedule["milestones"]) if schedule["name"] == "step_decay" else ()
    return _stairs(lane["steps"], lane["learning_rate"], starts, schedule["factor"])


@cache
def _stairs(steps: int, rate: float, starts: tuple[int, ...], factor: float) -> NDArray[np.float32]:
    drops = np.searchsorted(starts, np.arange(steps), side="right")
    return np.asarray(rate * float(factor) ** drops, np.float32)


def relaxed(steps: int, start: float, end: float, time: float) -> NDArray[np.float64]:
    """From a start to an end, exponentially: [steps]."""
    return end + (start - end) * np.exp(-np.arange(steps) / time)
