"""Observations of each lane for observations.json: every detector with step, epoch and training accuracy, and maxima."""

from collections.abc import Mapping
from typing import Any

from lrjax.experiment.rundir.lanes import recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.checks import maximum
from lrjax.papers.break_even.recorded import accuracy_at, crossing, detections, mark_of, sizes
from lrjax.papers.claim import NotMeasured

NAMES = (
    "lambda_k1_raw",
    "lambda_k1_per_example",
    "trace_k_raw",
    "trace_over_lambda",
    "lambda_star_over_lambda",
    "lambda_h1",
)


def observations(run: RunResult) -> list[dict[str, Any]]:
    """A record a lane: setting, maxima (raw and smoothed), when the marked accuracy was passed, the result of each detector.

    "not reached" is null with a note.

    Args:
        run: a `lrjax.experiment.rundir.metrics.RunResult`.
    """
    return [_of_lane(run, lane, arrays) for lane, arrays in recorded(run)]


def _of_lane(run: RunResult, lane: dict[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    n = sizes(run, lane)
    record = {key: lane[key] for key in ("lane", "arm", "seed", "learning_rate")}
    record |= {"diverged_at": lane.get("diverged_at"), "batch_size": n.batch_size, "num_examples": n.num_examples}

    def told(found: Any) -> dict[str, Any]:
        epoch = None if found.step is None else found.step / n.steps_per_epoch
        return {
            "step": found.step,
            "epoch": epoch,
            "train_accuracy": accuracy_at(arrays, found.step),
            "note": found.note,
        }

    maxima = {}
    for name in NAMES:
        try:
            maxima[name] = maximum(arrays, name)._asdict()
        except NotMeasured as reason:
            maxima[name] = {"note": f"not measured: {reason}"}
    record |= {"maxima": maxima, "detectors": {name: told(d) for name, d in detections(run, lane, arrays).items()}}
    try:
        record[f"accuracy_{mark_of(run):g}"] = told(crossing(arrays, mark_of(run)))
    except NotMeasured as reason:
        record[f"accuracy_{mark_of(run):g}"] = {"note": f"not measured: {reason}"}
    return record
