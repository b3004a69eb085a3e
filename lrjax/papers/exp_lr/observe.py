"""Quantities of a run, from its files: phases, accuracies, rates, distances between arms as functions."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, Lanes, NotMeasured, by_arm, lane_config, lanes, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.premises import Selector
from lrjax.transforms.equilibrium import angular_update, limit_fraction, time_to_equilibrium


def arms_of(run: RunResult, *names: str) -> dict[str, Lanes]:
    """Lanes that recorded these arrays, by arm, each arm in the order of seeds."""
    return by_arm(sorted(recorded(run, *names), key=lambda pair: pair[0]["seed"]))


def finished(run: RunResult, arm: str) -> Lanes:
    """The lanes of an arm in the order of seeds.

    Raises:
        NotMeasured: there is none, or one of them diverged or has not run to its end.
    """
    chosen = sorted(lanes(run, arm), key=lambda pair: pair[0]["seed"])
    for lane, arrays in chosen:
        if len(arrays.get("step/loss", ())) < lane["steps"]:
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
    """Stretches [start, stop) of equal learning rate and l2, those of the run with weight decay.

    Example:
        >>> phases({"step/learning_rate": np.array([0.2, 0.2, 0.02])})
        [(0, 2), (2, 3)]
    """
    settings = arrays["step/learning_rate"] * arrays.get("step/l2", 1.0)
    changes = np.flatnonzero(np.diff(settings) != 0) + 1
    edges = [0, *changes.tolist(), len(settings)]
    return list(zip(edges, edges[1:], strict=False))


def final_accuracy(arrays: Arrays) -> float:
    """Test accuracy at the last measurement."""
    return float(arrays["accuracy/test_accuracy"][-1])


def plateau_accuracy(arrays: Arrays) -> float:
    """Mean test accuracy over the second half of the run: at a constant rate a single measurement is mostly noise."""
    late = np.asarray(arrays["accuracy/step"]) > len(arrays["step/loss"]) / 2
    return float(np.mean(np.asarray(arrays["accuracy/test_accuracy"])[late]))


def log10_rates(arrays: Arrays) -> NDArray[Any]:
    """log10 of the learning rates that the steps used [T]."""
    with np.errstate(divide="ignore"):
        used = arrays.get("step/log10_learning_rate")
        return np.log10(arrays["step/learning_rate"]) if used is None else used


def logit_distance(one: Arrays, other: Arrays) -> tuple[NDArray[Any], NDArray[Any]]:
    """(steps, largest difference of two runs' logits on the fixed examples at each of them)."""
    steps = np.intersect1d(one["outputs/step"], other["outputs/step"])
    pair = [a["outputs/logits"][np.searchsorted(a["outputs/step"], steps)] for a in (one, other)]
    return steps, np.abs(pair[0] - pair[1]).max(axis=(1, 2))


def smooth(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Means of consecutive stretches of `width`.

    Example:
        >>> smooth(np.array([1.0, 3.0, 5.0, 7.0, 100.0]), 2).tolist()
        [2.0, 6.0]
    """
    whole = len(values) // width * width
    return values[:whole].reshape(-1, width).mean(axis=1)


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
