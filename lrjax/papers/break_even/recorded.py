"""Series of the early phase from the run files, and the detectors applied to them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lrjax.experiment.rundir.lanes import lane_config
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived, entries
from lrjax.papers.break_even import detectors
from lrjax.papers.break_even.detectors import Detection, Series
from lrjax.papers.claim import NotMeasured

# Probes that may have recorded a number, first choice first.
SOURCES = ("break_even", "noise", "spectrum")
MARK = {"imdb": 0.75}  # training accuracy near which the paper sees the peak; 0.6 for images
DETECTORS = ("D1", "D2 K", "D2 H", "D3", "D4", "D5")


class Curve(NamedTuple):
    """A measured number through training."""

    steps: Series
    values: Series


def curve(arrays: Mapping[str, Any], name: str, infinite: bool = False) -> Curve:
    """A number of the probes break_even, noise and spectrum, or "<probe>/<name>", where it is finite, or with `infinite`
    where it is a number.

    Raises:
        NotMeasured: no probe recorded it.

    Example:
        >>> curve({"noise/step": np.array([0, 10]), "noise/lambda_k1_raw": np.array([1.0, np.nan])}, "lambda_k1_raw").steps
        array([0.])
    """
    names = [name] if "/" in name else [f"{source}/{name}" for source in SOURCES]
    for full in names:
        if len(arrays.get(full, ())):
            values = np.asarray(arrays[full], np.float64)
            steps = np.asarray(arrays[f"{full.split('/')[0]}/step"], np.float64)[: len(values)]
            known = ~np.isnan(values) if infinite else np.isfinite(values)
            return Curve(steps[known], values[known])
    raise NotMeasured(f"{name} was not recorded: its probe was off")


class Sizes(NamedTuple):
    """N and S of a lane, and how many steps an epoch has."""

    num_examples: int
    batch_size: int
    steps_per_epoch: int


def sizes(run: RunResult, lane: dict[str, Any]) -> Sizes:
    """N and S of a lane."""
    from lrjax.data import DATASETS

    config = lane_config(run, lane)
    count = DATASETS[config.data.name].num_train(config)
    size = count if config.batch_size == "full" else int(config.batch_size)
    return Sizes(count, size, max(1, count // size))


def mark_of(run: RunResult) -> float:
    """The training accuracy that the paper's figures mark: 60 % on images, 75 % on IMDB."""
    return MARK.get(run.config["data"]["name"], 0.6)


def accuracy_at(arrays: Mapping[str, Any], step: float | None) -> float | None:
    """Training accuracy at a step: of the break_even probe, interpolated, else a mean over 50 batches around it."""
    if step is None:
        return None
    if len(arrays.get("break_even/train_accuracy", ())):
        found = curve(arrays, "train_accuracy")
        return float(np.interp(step, found.steps, found.values)) if found.steps.size else None
    low, high = max(0, int(step) - 25), int(step) + 25
    if entries(arrays, "step/accuracy") <= low:
        return None
    return float(
        derived(arrays, f"mean of step/accuracy {low}:{high}", lambda own: own["step/accuracy"][low:high].mean())
    )


def crossing(arrays: Mapping[str, Any], accuracy: float) -> Detection:
    """When the training accuracy first reaches a value."""
    found = curve(arrays, "train_accuracy")
    return detectors.first_crossing(found.steps, found.values, accuracy, patience=1)


def stability_of(run: RunResult, lane: dict[str, Any], arrays: Mapping[str, Any]) -> tuple[Series, detectors.Stability]:
    """Equation 1 at each measurement of a lane: steps and the two sides of it.

    Raises:
        NotMeasured: the break_even probe was off.
    """
    top, spread = curve(arrays, "lambda_h1"), curve(arrays, "curvature_std")
    steps = np.intersect1d(top.steps, spread.steps)
    sharpness, std = (np.interp(steps, found.steps, found.values) for found in (top, spread))
    n = sizes(run, lane)
    return steps, detectors.stability(sharpness, std, rates_at(lane, arrays, steps), n.batch_size, n.num_examples)


def rates_at(lane: dict[str, Any], arrays: Mapping[str, Any], steps: Series) -> Series:
    """The learning rate in use at given steps."""
    if not entries(arrays, "step/learning_rate"):
        return np.full(steps.shape, float(lane["learning_rate"]))
    begins, used = derived(arrays, "step/learning_rate where it changes", _changes)
    return used[np.maximum(0, np.searchsorted(begins, steps.astype(int), side="right") - 1)]


def _changes(arrays: Mapping[str, Any]) -> Series:
    """Steps from which on a rate is used, and these rates, [2, changes]."""
    used = np.asarray(arrays["step/learning_rate"], np.float64)
    begins = np.flatnonzero(np.diff(used, prepend=np.nan) != 0)
    return np.stack([begins.astype(np.float64), used[begins]])


def detections(run: RunResult, lane: dict[str, Any], arrays: Mapping[str, Any]) -> dict[str, Detection]:
    """Every detector on one lane, in the order of `DETECTORS`; D5 against the lane of the next larger rate and same seed."""
    found = {}
    for name, detect in (
        ("D1", lambda: direct(run, lane, arrays)),
        ("D2 K", lambda: detectors.peak(*curve(arrays, "lambda_k1_raw"))),
        ("D2 H", lambda: detectors.peak(*curve(arrays, "lambda_h1"))),
        ("D3", lambda: detectors.stretch(*curve(arrays, "next_step/alpha_star"))),
        ("D4", lambda: detectors.increases(*curve(arrays, "next_step/increase_rate"))),
        ("D5", lambda: parting_of(run, lane, arrays).detection),
    ):
        try:
            found[name] = detect()
        except NotMeasured as reason:
            found[name] = Detection(None, None, f"not measured: {reason}")
    return found


def direct(run: RunResult, lane: dict[str, Any], arrays: Mapping[str, Any]) -> Detection:
    """D1: when equation 1 is first crossed from below.

    Raises:
        NotMeasured: the lane has momentum, or the break_even probe was off.
    """
    if (lane_config(run, lane).optimizer.get("momentum") or 0.0) > 0:
        raise NotMeasured("equation 1 is for SGD without momentum")
    steps, found = stability_of(run, lane, arrays)
    crossed = detectors.first_crossing(steps, found.lhs, 1.0)
    return crossed._replace(note="unstable from the first measurement on") if crossed.note[:4] == "from" else crossed


def points_of(arrays: Mapping[str, Any]) -> tuple[Series, Series]:
    """Steps and predictions [T, n] of a lane, where they are finite; in a check or figure only within `derived`."""
    found = arrays.get("predictions/probabilities", np.zeros(0))
    points = np.asarray(found, np.float64).reshape(len(found), -1 if len(found) else 0)
    known = np.isfinite(points).all(axis=1)
    return np.asarray(arrays.get("predictions/step", np.zeros(0)), np.float64)[: len(points)][known], points[known]


def point_steps(arrays: Mapping[str, Any]) -> Series:
    """Steps of the finite predictions of a lane.

    Raises:
        NotMeasured: the predictions probe was off, or the lane diverged too early.
    """
    found = derived(arrays, "steps of finite predictions", lambda own: points_of(own)[0])
    if found.size < 2:
        raise NotMeasured("there are less than two predictions: their probe was off, or the lane diverged")
    return found


def distance_to(arrays: Mapping[str, Any], other: Mapping[str, Any], number: int) -> Series:
    """L2 distance of each prediction of a lane to the closest prediction of another one.

    Args:
        arrays: of the lane.
        other: arrays of the other lane.
        number: of the other lane, which names what is derived.

    Raises:
        NotMeasured: one of them has no predictions.
    """
    for each in (arrays, other):
        point_steps(each)
    name = f"distance of predictions to those of lane {number}"
    return derived(arrays, name, lambda own: detectors.distances(points_of(own)[1], points_of(other)[1]).min(axis=1))


def parting_of(run: RunResult, lane: dict[str, Any], arrays: Mapping[str, Any]) -> detectors.Parting:
    """Parting of a lane from that of the next larger rate, all else equal.

    Raises:
        NotMeasured: there is no such lane, or no predictions.
    """

    def same(other: dict[str, Any]) -> bool:
        return other["seed"] == lane["seed"] and sizes(run, other) == sizes(run, lane)

    larger = [other["lane"] for other in run.lanes if same(other) and other["learning_rate"] > lane["learning_rate"]]
    if not larger:
        raise NotMeasured("no lane of this run has a larger rate")
    nearest = min(larger, key=lambda index: run.lanes[index]["learning_rate"])
    other = run.arrays[nearest]
    distance = distance_to(arrays, other, nearest)
    radius = float(derived(other, "largest gap of predictions", lambda own: detectors.widest_gap(points_of(own)[1])))
    return detectors.left(point_steps(arrays), distance, radius)
