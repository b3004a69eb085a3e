"""What a run did, from its files: phases, accuracies, rates, distances between arms as functions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.config.canonical import Config, freeze
from lrjax.transforms.equilibrium import angular_update, limit_fraction, time_to_equilibrium

Arrays = dict[str, NDArray[Any]]


def by_arm(run: Any) -> dict[str, list[tuple[dict[str, Any], Arrays]]]:
    """Lanes and their arrays by arm, in the order of seeds."""
    found: dict[str, list[tuple[dict[str, Any], Arrays]]] = {}
    for lane, arrays in sorted(zip(run.lanes, run.arrays, strict=True), key=lambda pair: pair[0]["seed"]):
        found.setdefault(lane["arm"], []).append((lane, arrays))
    return found


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


def settings(run: Any, lane: dict[str, Any]) -> Config:
    """Learning rate, l2 and momentum of a lane, with what its arm overrides."""
    found = dict(run.config["optimizer"])
    found |= run.config["arms"].get(lane["arm"], {}).get("optimizer", {})
    found |= {key.removeprefix("optimizer."): v for key, v in lane["values"].items() if key.startswith("optimizer.")}
    return freeze({key: found.get(key) or 0.0 for key in ("learning_rate", "l2", "momentum")})


def observations(run: Any) -> list[dict[str, Any]]:
    """A record a lane: what was expected of it at equilibrium and what it did, for observations.json."""
    records = []
    for lane, arrays in zip(run.lanes, run.arrays, strict=True):
        own = settings(run, lane)
        values = (own.learning_rate, own.l2, own.momentum)
        record: dict[str, Any] = {"lane": lane["lane"], "arm": lane["arm"], "seed": lane["seed"]}
        record["diverged_at"] = lane.get("diverged_at")
        if own.l2:
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
