"""Quantities of a run, from its files: phases, accuracies, rates, distances between arms as functions."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, Lanes, NotMeasured, by_arm, diverged, lane_config, lanes, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived, entries
from lrjax.papers.premise import lane_name
from lrjax.papers.premises import Selector
from lrjax.transforms.equilibrium import angular_update, limit_fraction, time_to_equilibrium

Pair: TypeAlias = tuple[dict[str, Any], Arrays]
MOST_PHASES = 8  # a cosine has one a step, and nothing is judged by them
RATE = "step/log10_learning_rate"  # that was used; of arms with weight decay the log of their rate


def arms_of(run: RunResult, *names: str) -> dict[str, Lanes]:
    """Lanes that recorded these arrays, by arm, each arm in the order of seeds."""
    return by_arm(sorted(recorded(run, *names), key=lambda pair: pair[0]["seed"]))


def same_seeds(ours: Lanes, theirs: Lanes) -> list[tuple[Pair, Pair]]:
    """The lanes of two arms by seed, of the seeds in which neither diverged.

    Example:
        >>> lanes = [({"seed": seed, "diverged_at": None}, {}) for seed in (0, 1, 2)]
        >>> [(one["seed"], other["seed"]) for (one, _), (other, _) in same_seeds(lanes, lanes[1:])]
        [(1, 1), (2, 2)]
    """
    others = {pair[0]["seed"]: pair for pair in theirs if not diverged(pair[0])}
    return [(pair, others[pair[0]["seed"]]) for pair in ours if pair[0]["seed"] in others and not diverged(pair[0])]


def finished(run: RunResult, arm: str) -> Lanes:
    """The lanes of an arm in the order of seeds.

    Raises:
        NotMeasured: there is none, or one of them diverged or has not run to its end.
    """
    chosen = sorted(lanes(run, arm), key=lambda pair: pair[0]["seed"])
    for lane, arrays in chosen:
        if entries(arrays, "step/loss") < lane["steps"]:
            raise NotMeasured(f"{arm}, seed {lane['seed']}, has not run to its end")
    return chosen


def paired(run: RunResult, *arms: str) -> list[Lanes]:
    """The lanes of some arms, each arm in the same order of the same seeds.

    Raises:
        NotMeasured: as `finished`, or the arms have different seeds.
    """
    chosen = [finished(run, arm) for arm in arms]
    seeds = [[lane["seed"] for lane, _ in own] for own in chosen]
    for arm, own in zip(arms, seeds, strict=True):
        if own != seeds[0]:
            raise NotMeasured(f"seeds are paired, but {arms[0]} has {seeds[0]} and {arm} has {own}")
    return chosen


def compared(*arms: str) -> Selector:
    """A `Selector`: the lanes of some arms, all of which have run to their end with the same seeds.

    Example:
        >>> compared("weight_decay", "texp").__name__
        'weight_decay, texp'
    """

    def select(run: RunResult) -> Lanes:
        return [pair for own in paired(run, *arms) for pair in own]

    select.__name__ = ", ".join(arms)
    return select


def present(*arms: str) -> Selector:
    """A `Selector`: as `compared`, of those of the arms that the run has.

    Example:
        >>> present("weight_decay", "no_decay").__name__
        'weight_decay, no_decay'
    """

    def select(run: RunResult) -> Lanes:
        there = {lane["arm"] for lane in run.lanes}
        return compared(*(arm for arm in arms if arm in there))(run)

    select.__name__ = ", ".join(arms)
    return select


def phases(arrays: Arrays) -> list[tuple[int, int]]:
    """Stretches [start, stop) of equal learning rate and l2, those of the run with weight decay; the first `MOST_PHASES`.

    Example:
        >>> phases({"step/learning_rate": np.array([0.2, 0.2, 0.02])})
        [(0, 2), (2, 3)]
    """

    def edges(own: Arrays) -> NDArray[np.int64]:
        settings = own["step/learning_rate"] * own.get("step/l2", 1.0)
        changes = np.flatnonzero(np.diff(settings) != 0) + 1
        return np.array([0, *changes.tolist(), len(settings)][: MOST_PHASES + 1])

    found = derived(arrays, f"edges of the first {MOST_PHASES} phases", edges).tolist()
    return list(zip(found, found[1:], strict=False))


def slope(arrays: Arrays, name: str, start: int, stop: int) -> float:
    """Slope a step, by least squares, of a series of one number a step over [start, stop).

    Example:
        >>> slope({"step/log10_norm": np.array([0.0, 0.5, 1.0, 9.0])}, "step/log10_norm", 0, 3)
        0.5
    """

    def fitted(own: Arrays) -> float:
        values = log10_rates(own) if name == RATE else own[name]
        stretch = np.asarray(values[start:stop], np.float64)
        steps = np.arange(stretch.size) - (stretch.size - 1) / 2
        return float(steps @ stretch / (steps @ steps))

    return float(derived(arrays, f"slope of {name} over steps {start} to {stop}", fitted))


def mean_power(arrays: Arrays, name: str, start: int, stop: int, power: float = 1.0) -> float:
    """Mean of the powers of a series of one number a step, over [start, stop).

    Example:
        >>> mean_power({"step/angle": np.array([3.0, 1.0, 3.0])}, "step/angle", 1, 3, power=2)
        5.0
    """
    label = f"mean of {name} to the power {power:g} over steps {start} to {stop}"
    return float(derived(arrays, label, lambda own: np.mean(np.asarray(own[name][start:stop], np.float64) ** power)))


def value_at(arrays: Arrays, name: str, step: int) -> float:
    """A series of one number a step at one of them.

    Example:
        >>> value_at({"step/log10_norm": np.array([0.5, 0.25])}, "step/log10_norm", 1)
        0.25
    """
    return float(derived(arrays, f"{name} at step {step}", lambda own: own[name][step]))


def final_accuracy(arrays: Arrays) -> float:
    """Test accuracy at the last measurement."""
    return float(arrays["accuracy/test_accuracy"][-1])


def plateau_accuracy(arrays: Arrays) -> float:
    """Mean test accuracy over the second half of the run: at a constant rate a single measurement is mostly noise."""
    late = np.asarray(arrays["accuracy/step"]) > entries(arrays, "step/loss") / 2
    return float(np.mean(np.asarray(arrays["accuracy/test_accuracy"])[late]))


def log10_rates(arrays: Arrays) -> NDArray[Any]:
    """log10 of the learning rates that the steps used [T]."""
    with np.errstate(divide="ignore"):
        used = arrays.get("step/log10_learning_rate")
        return np.log10(arrays["step/learning_rate"]) if used is None else used


def logit_distance(one: Pair, other: Pair) -> tuple[NDArray[Any], NDArray[Any]]:
    """(steps, largest difference of two lanes' logits on the fixed examples at each of them)."""
    steps = np.intersect1d(one[1]["outputs/step"], other[1]["outputs/step"])

    def apart(own: Arrays) -> NDArray[np.float64]:
        pair = [a["outputs/logits"][np.searchsorted(a["outputs/step"], steps)] for a in (own, other[1])]
        return np.abs(pair[0] - pair[1]).max(axis=(1, 2)).astype(np.float64)

    return steps, derived(one[1], f"distance of logits to {lane_name(other[0])}", apart)


class Settings(NamedTuple):
    """Learning rate, l2 and momentum of a lane; zero where there is none."""

    learning_rate: float
    l2: float
    momentum: float


def settings(run: RunResult, lane: Mapping[str, Any]) -> Settings:
    """The numbers that decide a lane's equilibrium."""
    optimizer = lane_config(run, lane).optimizer
    return Settings(*(optimizer.get(key) or 0.0 for key in Settings._fields))


def observations(run: RunResult) -> list[dict[str, Any]]:
    """A record a lane: what was expected of it at equilibrium and what it did, for observations.json."""
    records = []
    for lane, arrays in recorded(run):
        values = settings(run, lane)
        record: dict[str, Any] = {"lane": lane["lane"], "arm": lane["arm"], "seed": lane["seed"]}
        record["diverged_at"] = lane.get("diverged_at")
        if values.l2:
            record |= {
                "steps_to_equilibrium": time_to_equilibrium(*values),
                "share_of_the_limit": limit_fraction(*values),
                "expected_angle": float(angular_update(*values)),
            }
        if len(arrays.get("accuracy/test_accuracy", ())):
            record["test_accuracy"] = final_accuracy(arrays)
        if len(arrays.get("step/angle", ())) and len(phases(arrays)) <= 4:  # a cosine has one a step
            record |= {
                "phases": [
                    {
                        "start": start,
                        "stop": stop,
                        "angle_of_last_half": float(np.mean(arrays["step/angle"][(start + stop) // 2 : stop])),
                        "log10_learning_rate_at_end": float(log10_rates(arrays)[stop - 1]),
                        "log10_norm_at_end": float(arrays["step/log10_norm"][stop - 1]),
                    }
                    for start, stop in phases(arrays)
                ]
            }
        records.append(record)
    return records
