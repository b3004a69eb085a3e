"""Checks behind the claims on CIFAR-10: run files -> finding."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Recorded, diverged
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import Finding, NotMeasured

BEFORE, LEAST, SPIKE = 20, 3, 1.5


def spikes(loss: NDArray[Any]) -> int:
    """Steps at which the training loss is over 1.5 times the median of the (at most) 20 steps before.

    Example:
        >>> spikes(np.array([1.0] * 5 + [2.0] + [1.0] * 5))
        1
    """
    return sum(bool(loss[t] > SPIKE * np.median(loss[max(0, t - BEFORE) : t])) for t in range(LEAST, len(loss)))


def _pairs(run: RunResult) -> dict[str, dict[str, list[int]]]:
    """model -> {"large", "small"} -> lanes."""
    pairs: dict[str, dict[str, list[int]]] = {}
    for lane in run.lanes:
        model, _, size = lane["arm"].rpartition("_")
        pairs.setdefault(model, {}).setdefault(size, []).append(lane["lane"])
    return pairs


def _compare(run: RunResult, test: str, wants_spikes: bool) -> Finding:
    parts, ahead = [], []
    count = run.config["data"]["num_test"] or 10_000
    for model, arms in _pairs(run).items():
        if set(arms) != {"large", "small"}:
            raise NotMeasured(f"{model} was not run with both rates")
        finals, rough = {}, {}
        for size, members in arms.items():
            values = [float(Recorded(run.arrays[i])[f"accuracy/{test}_accuracy"][-1]) for i in members]
            finals[size] = float(np.mean(values)), len(values)
            rough[size] = int(np.sum([spikes(run.arrays[i]["step/loss"]) for i in members]))
        lost = [i for members in arms.values() for i in members if diverged(run.lanes[i])]
        (large, seeds), (small, _) = finals["large"], finals["small"]
        error = float(np.sqrt((large * (1 - large) + small * (1 - small)) / (count * seeds)))
        difference = large - small
        side = 0 if abs(difference) <= 2 * error else int(np.sign(difference))
        ahead.append(min(side, 0) if wants_spikes and side > 0 and rough["large"] <= rough["small"] else side)
        text = f"{model}: large {100 * large:.1f} %, small {100 * small:.1f} % "
        text += f"(difference {100 * difference:+.1f} +- {100 * error:.1f})"
        text += f", spikes {rough['large']} against {rough['small']}"
        parts.append(text + (f", lanes {lost} diverged" if lost else ""))
    word = "supported" if min(ahead) > 0 else "contradicted" if max(ahead) < 0 else "inconclusive"
    return Finding(word, "; ".join(parts))


def natural_images(run: RunResult) -> Finding:
    """Test accuracy at the end and loss spikes of large-rate against small-rate training."""
    return _compare(run, "test", wants_spikes=True)


def planted(run: RunResult) -> Finding:
    """Accuracy on test images without the planted patch."""
    return _compare(run, "test", wants_spikes=False)
