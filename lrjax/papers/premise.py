"""What a premise is, how premises are evaluated, and which lanes and numbers they read."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrjax.errors import check
from lrjax.experiment.rundir.lanes import Lanes, NotMeasured, diverged, lane_config, lanes, on_cpu, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived

Selector: TypeAlias = Callable[[RunResult], Lanes]
Reader: TypeAlias = Callable[[dict[str, Any], Any], float]
LAST = 0.1  # of a run, over which it must have converged


class Held(NamedTuple):
    """Whether a premise holds, and the number behind it in words."""

    holds: bool
    measured: str


@dataclass(frozen=True)
class Premise:
    """One condition on a run.

    Args:
        name: short, with its parameter, e.g. "seeds(3)".
        statement: when it holds, in a sentence.
        evaluate: run -> `Held`; may raise `NotMeasured(reason)`, which counts as not held.

    Example:
        >>> Premise("steps", "the run has steps", lambda run: Held(True, "100 steps")).evaluate(None).holds
        True
    """

    name: str
    statement: str
    evaluate: Callable[[Any], Held]


def every_lane(run: RunResult) -> Lanes:
    """All lanes that recorded something and did not diverge: the `Selector` of a claim about all of them."""
    return [pair for pair in recorded(run) if not diverged(pair[0])]


def of_arms(*arms: str) -> Selector:
    """A `Selector`: the lanes of some arms, each of which the run must have, so that a missing one does not pass unseen.

    Example:
        >>> of_arms("decay", "constant_0").__name__
        'decay, constant_0'
    """

    def select(run: RunResult) -> Lanes:
        return [pair for arm in arms for pair in lanes(run, arm)]

    select.__name__ = ", ".join(arms)
    return select


def setting_of(lane: Mapping[str, Any]) -> tuple:
    """What a lane is besides its seed: its arm and what the sweep set.

    Example:
        >>> setting_of({"arm": "main", "values": {"seed": 2, "e": 1.1}})
        ('main', ('e', 1.1))
    """
    values = lane.get("values") or {}
    return (lane["arm"], *sorted((key, value) for key, value in values.items() if key != "seed"))


def setting_name(setting: tuple) -> str:
    """A setting in words.

    Example:
        >>> setting_name(("main", ("optimizer.learning_rate", 0.1)))
        'main learning_rate=0.1'
    """
    arm, *values = setting
    return " ".join([arm, *(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in values)])


def lane_name(lane: Mapping[str, Any]) -> str:
    """A lane in words.

    Example:
        >>> lane_name({"arm": "decay", "values": {"seed": 2}, "seed": 2})
        'decay seed 2'
    """
    return f"{setting_name(setting_of(lane))} seed {lane['seed']}"


def chosen(run: RunResult, select: Selector) -> Lanes:
    """The lanes that a claim compares.

    Raises:
        NotMeasured: there is none.
    """
    found = select(run)
    if not found:
        raise NotMeasured("this run has no lane that the claim compares")
    return found


def numbers_of(run: RunResult, select: Selector, read: Reader) -> list[tuple[float, dict[str, Any]]]:
    """A number of each lane that a claim compares, with the lane.

    Raises:
        NotMeasured: there is no such lane, or the number was not recorded in one.
    """
    return [(read(lane, arrays), lane) for lane, arrays in chosen(run, select)]


def in_float64(run: RunResult) -> bool:
    """Whether all lanes trained in float64: parameters and activations, not only the numbers that were recorded.

    An x64 process records losses in float64 whatever the network computes in.
    """
    return all(
        lane_config(run, lane).get("compute_dtype") == "float64"
        and bool(derived(arrays, "step/loss is float64", lambda own: np.asarray(own["step/loss"]).dtype == np.float64))
        for lane, arrays in zip(run.lanes, run.arrays, strict=True)
    )


def fewer_digits(run: RunResult) -> str | None:
    """The precision of matrix products on an accelerator where it is less than float32 in some lane; None elsewhere.

    A run of before the key `matmul_precision` took the default of the device: TF32 or bfloat16 on an accelerator.
    """
    if on_cpu(run):
        return None
    words = [lane_config(run, lane).get("matmul_precision", "the device's default") for lane in run.lanes]
    return next((word for word in words if word != "float32"), None)


def last_of(name: str) -> Reader:
    """A `Reader`: the last record of an array that is finite.

    Example:
        >>> last_of("accuracy/test")({}, {"accuracy/test": np.array([0.1, 0.5])})
        0.5
    """

    def read(lane: dict[str, Any], arrays: Any) -> float:
        values = np.asarray(arrays.get(name, ()), np.float64)
        values = values[np.isfinite(values)]
        if not values.size:
            raise NotMeasured(f"{name} was not recorded: its probe was off")
        return float(values[-1])

    return read


def best_of(run: RunResult, read: Reader) -> float:
    """The mean of the setting in which a number is highest, of lanes that recorded it.

    Example:
        >>> from types import SimpleNamespace
        >>> lane = {"arm": "a", "seed": 0, "values": {}, "diverged_at": None}
        >>> best_of(SimpleNamespace(lanes=[lane], arrays=[{"a/x": np.array([0.5])}]), last_of("a/x"))
        0.5
    """
    found: dict[tuple, list[float]] = defaultdict(list)
    for lane, arrays in every_lane(run):
        try:
            value = read(lane, arrays)
        except NotMeasured:
            continue
        found[setting_of(lane)].append(value)
    return max(float(np.mean(values)) for values in found.values())


class Course(NamedTuple):
    """A quantity through a lane's training: steps and values, both [n]."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]


def course_of(arrays: Any, name: str) -> Course:
    """A recorded array with its steps, where it is finite; an array "step/..." has one entry a step.

    Raises:
        NotMeasured: it was not recorded.

    Example:
        >>> course_of({"probe/step": np.array([0, 5]), "probe/x": np.array([1.0, 2.0])}, "probe/x").steps.tolist()
        [0.0, 5.0]
    """
    values = np.asarray(arrays.get(name, ()), np.float64)
    if not values.size:
        raise NotMeasured(f"{name} was not recorded: its probe was off")
    group = name.rsplit("/", 1)[0]
    steps = np.arange(len(values)) if group == "step" else np.asarray(arrays[f"{group}/step"])
    known = np.isfinite(values)
    return Course(np.asarray(steps, np.float64)[: len(values)][known], values[known])


def late_move(found: Course, steps: float) -> float:
    """The move of a fitted line over the last tenth of a run, in units of the whole range.

    Args:
        found: the quantity.
        steps: of the run.

    Raises:
        NotMeasured: there are no three measurements.

    Example:
        >>> late_move(Course(np.arange(11.0), np.arange(11.0)), 10.0)  # the last three, for want of more in a tenth
        0.2
    """
    late = found.steps >= (1 - LAST) * steps
    if late.sum() < 3:
        late[-3:] = True
    if late.sum() < 3:
        raise NotMeasured(f"{late.sum()} measurements are too few for a slope")
    span = float(np.ptp(found.values))
    if span == 0:
        return 0.0
    line = np.polynomial.Polynomial.fit(found.steps[late], found.values[late], 1)
    return float(line(found.steps[late][-1]) - line(found.steps[late][0])) / span


def move_of(arrays: Any, name: str, steps: float) -> float:
    """`late_move` of a recorded array; that of a series with a value a step is `derived`, those of probes are short.

    Example:
        >>> move_of({"step/loss": np.arange(11.0)}, "step/loss", 10.0)
        0.2
    """
    if not name.startswith("step/"):
        return late_move(course_of(arrays, name), steps)
    label = f"move of {name} over the last {LAST:.0%}"
    return float(derived(arrays, label, lambda own: late_move(course_of(own, name), steps)))


def held(premises: Sequence[Premise], run: RunResult) -> list[dict[str, Any]]:
    """Evaluates premises, in order.

    Returns:
        One dict each: premise, statement, holds, measured. What was not measured does not hold.

    Raises:
        LrjaxError: two premises have one name.

    Example:
        >>> held([Premise("steps", "has steps", lambda run: Held(False, "0 steps"))], None)
        [{'premise': 'steps', 'statement': 'has steps', 'holds': False, 'measured': '0 steps'}]
    """
    names = [premise.name for premise in premises]
    check(len(set(names)) == len(names), f"two premises of one claim have the same name: {', '.join(names)}")
    found = []
    for premise in premises:
        try:
            holds, measured = premise.evaluate(run)
        except NotMeasured as reason:
            holds, measured = False, f"not measured: {reason}"
        found.append(
            {"premise": premise.name, "statement": premise.statement, "holds": bool(holds), "measured": measured}
        )
    return found
