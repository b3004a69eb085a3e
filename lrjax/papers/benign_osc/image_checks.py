"""Checks behind the claims on CIFAR-10: run files -> finding."""

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes, NotMeasured, Recorded, diverged
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.benign_osc.compared import told
from lrjax.papers.claim import Finding
from lrjax.papers.premises import Held, Premise, Reader, last_of
from lrjax.papers.statistics import positive

BEFORE, LEAST, SPIKE = 20, 3, 1.5
SIZES = ("large", "small", "decayed")
ACCURACY = "accuracy/test_accuracy"


def _over_before(loss: NDArray[Any]) -> NDArray[np.float64]:
    """The training loss from the fourth step on, over the median of the (at most) 20 steps before."""
    before = [np.median(loss[:t]) for t in range(LEAST, min(BEFORE, len(loss)))]
    if len(loss) > BEFORE:
        before += np.median(sliding_window_view(loss[:-1], BEFORE), axis=1).tolist()
    return np.asarray(loss[LEAST:], np.float64) / np.maximum(before, 1e-30)


def spikes(loss: NDArray[Any]) -> int:
    """Steps at which the training loss is over 1.5 times the median of the (at most) 20 steps before.

    Example:
        >>> spikes(np.array([1.0] * 5 + [2.0] + [1.0] * 5))
        1
    """
    return int(np.sum(_over_before(loss) > SPIKE))


def spikiness(lane: dict[str, Any], arrays: Any) -> float:
    """Log heights of a lane's loss spikes: counts that are equal in three seeds would look like certainty."""

    def heights(own: Any) -> float:
        over = _over_before(own["step/loss"])
        return float(np.sum(np.log(over[over > SPIKE])))

    return float(derived(arrays, "log heights of the spikes of step/loss", heights))


def _arms(run: RunResult) -> dict[str, dict[str, Lanes]]:
    """model -> "large", "small" or "decayed" -> lanes.

    Raises:
        NotMeasured: a model lacks a rate, or a lane diverged.
    """
    found: dict[str, dict[str, Lanes]] = defaultdict(lambda: defaultdict(list))
    for lane, arrays in zip(run.lanes, run.arrays, strict=True):
        model, _, size = lane["arm"].rpartition("_")
        if size not in SIZES or not arrays:
            continue
        if diverged(lane):
            raise NotMeasured(f"{lane['arm']} seed {lane['seed']} diverged at step {lane['diverged_at']}")
        found[model][size].append((lane, Recorded(arrays)))
    if not found:
        raise NotMeasured("this run has no lane at a large or small rate")
    for model, arms in found.items():
        if not {"large", "small"} <= arms.keys():
            raise NotMeasured(f"{model} was not run with both rates")
    return found


def every_rate(run: RunResult) -> Lanes:
    """All lanes at a large or small rate."""
    return [pair for arms in _arms(run).values() for own in arms.values() for pair in own]


def _by_seed(lanes: Lanes, read: Reader) -> dict[int, float]:
    """seed -> mean over the settings of the sweep: patches of several kinds are not seeds."""
    found: dict[int, list[float]] = defaultdict(list)
    for lane, arrays in lanes:
        found[lane["seed"]].append(read(lane, arrays))
    return {seed: float(np.mean(own)) for seed, own in sorted(found.items())}


def ahead(run: RunResult, read: Reader) -> dict[str, NDArray[np.float64]]:
    """ "model over control" -> [seeds], large rate minus control, of each control of each model."""
    found = {}
    for model, arms in _arms(run).items():
        large = _by_seed(arms["large"], read)
        for size in SIZES[1:]:
            if size in arms:
                other = _by_seed(arms[size], read)
                common = sorted(large.keys() & other.keys())
                found[f"{model} over {size}"] = np.array([large[seed] - other[seed] for seed in common])
    return found


def _last_over_highest(arrays: Any) -> float:
    def share(own: Any) -> float:
        rates = np.asarray(own["step/learning_rate"], np.float64)
        return rates[-1] / rates.max()

    return round(float(derived(arrays, "last over highest step/learning_rate", share)), 4)


def _same_drops(run: RunResult) -> Held:
    """Whether each model has a control with the large rate's drops."""
    told_of = []
    for model, arms in _arms(run).items():
        drops = {size: _last_over_highest(own[0][1]) for size, own in arms.items()}
        if drops["large"] not in [drop for size, drop in drops.items() if size != "large"]:
            return Held(False, f"{model}: the large rate ends at {drops['large']:g} of its highest, no small rate does")
        told_of.append(f"{model} at {drops['large']:g}")
    return Held(True, f"the large rate and a small one end at the same share of their highest: {', '.join(told_of)}")


SAME_DROPS = Premise(
    "matched(decay)",
    "each model has a small rate that drops as the large one does, so that no drop is the cause",
    _same_drops,
)


def natural_images(run: RunResult) -> Finding:
    """Test accuracy at the end and loss spikes of large-rate against small-rate training."""
    accuracy, rough = ahead(run, last_of(ACCURACY)), ahead(run, spikiness)
    text = "accuracy " + ", ".join(told(name, own) for name, own in accuracy.items())
    text += "; log heights of loss spikes " + ", ".join(told(name, own) for name, own in rough.items())
    return Finding(positive(*accuracy.values(), *rough.values()), text)


def planted(run: RunResult) -> Finding:
    """Accuracy on test images without the planted patch, as a mean over patches of all kinds that were run."""
    found = ahead(run, last_of(ACCURACY))
    text = ", ".join(told(name, own) for name, own in found.items())
    return Finding(positive(*found.values()), f"accuracy without the patch {text}")
