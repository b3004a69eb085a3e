"""Synthetic runs of the claims on images: three seeds of the experiments at scale=paper, as one seed decides nothing."""

from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc.image_checks import ACCURACY
from lrjax.papers.synthetic import Synthetic, blank, changed, filled, one_seed

LEVEL, AHEAD = 0.75, 0.015  # accuracy, and by how much a large rate is above and a small one below it
POINTS, MOST = 21, 120


def _loss(spikiness: float) -> np.ndarray:
    """A loss of 1 with three spikes, whose log heights add up to a number."""
    loss = np.ones(MOST)
    loss[[20, 40, 60]] = np.exp(spikiness / 3)
    return loss


def _drops(lane: dict[str, Any]) -> np.ndarray:
    """Rates at the start and the end: all but constant ones end at a hundredth."""
    constant = lane["arm"].endswith("_small") or lane["arm"].startswith("augmented")
    return np.array([1.0, 1.0 if constant else 0.01])


def _images(experiment: str, text: str) -> Synthetic:
    def draw(effect: float, generator: np.random.Generator) -> RunResult:
        def arrays(lane: dict[str, Any]) -> dict[str, np.ndarray]:
            side = effect if lane["arm"].endswith("_large") else -effect
            end = LEVEL + AHEAD * side + generator.normal(0.0, 0.0025)
            when = np.linspace(0.0, 1.0, POINTS)
            return {
                ACCURACY: 0.1 + (end - 0.1) * (1.0 - np.exp(-when / 0.1)),
                "accuracy/step": np.round(when * lane["steps"]),
                "step/loss": _loss(6.5 + 4.0 * side + generator.normal(0.0, 0.5)),
                "step/learning_rate": _drops(lane),
            }

        return filled(blank("benign_osc", experiment, scale="paper"), arrays)

    def weak(lane: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if lane["arm"] == "resnet18_small":
            arrays[ACCURACY] = arrays[ACCURACY] * 0.4

    def rising(lane: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if lane["arm"] == "resnet18_small":
            arrays[ACCURACY] = float(arrays[ACCURACY][-1]) * np.linspace(0.2, 1.0, POINTS) ** 2

    def constant(lane: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        if lane["arm"] == "resnet18_decayed":
            arrays["step/learning_rate"] = np.ones(2)

    def longer(run: RunResult) -> RunResult:
        lanes = [dict(lane, steps=lane["steps"] - 1) if lane["arm"] == "resnet18_large" else lane for lane in run.lanes]
        return run._replace(lanes=lanes)

    broken = {
        "seeds(3)": lambda generator: one_seed(draw(1.0, generator)),
        "learned(0.9)": lambda generator: changed(draw(1.0, generator), weak),
        "converged(0.1)": lambda generator: changed(draw(1.0, generator), rising),
        "matched(decay)": lambda generator: changed(draw(1.0, generator), constant),
        "matched(steps, batch)": lambda generator: longer(draw(1.0, generator)),
    }
    return Synthetic(draw, text, broken)


SYNTHETIC = {
    "natural_images": _images(
        "E0", "3 points and log heights of spikes of 10 against 2, three seeds 0.25 points and 0.5 apart"
    ),
    "planted_patch": _images("E0_planted", "3 points, three seeds 0.25 points apart in each kind of patch"),
}
