"""Series of which the synthetic runs of this paper are made, and ways to break a premise."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.synthetic import changed

MEASUREMENTS = 26
SEEDS = (0, 1, 2)
SPREAD = 0.15  # of seeds, in the logarithm of a maximum: 0.12 and 0.17 in a run of E3 on 10,000 images
ROUGH = 0.03  # of a measurement, relative
PLACES = np.linspace(0, 1, MEASUREMENTS)  # of the run


def hill(top: float, at: float = 0.4, end: float = 0.4) -> NDArray[np.float64]:
    """A series that rises to `top` at a place of the run and falls to a share of it.

    Example:
        >>> float(hill(2.0).max())
        2.0
    """
    return top * np.interp(PLACES, [0, at, 1], [0.05, 1.0, end])


def lane_arrays(
    lane: dict[str, Any], generator: np.random.Generator, own: dict[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """What the probes record in a lane: plain series, and its own ones with noise of measurement."""
    steps = np.round(PLACES * lane["steps"]).astype(int)
    base = {
        "break_even/lambda_k1_raw": hill(1.0),
        "break_even/lambda_h1": hill(1.6 / lane["learning_rate"]),
        "break_even/curvature_std": np.zeros(MEASUREMENTS),
        "break_even/trace_k_raw": hill(8.0),
        "break_even/trace_over_lambda": hill(10.0),
        "break_even/lambda_star_over_lambda": hill(0.1),
        "break_even/train_accuracy": np.linspace(0.1, 0.95, MEASUREMENTS),
        "break_even/hessian_residuals": np.full((MEASUREMENTS, 1), 0.001),
        "break_even/trace_h_over_lambda": hill(3.0),
    }
    noisy = {
        name: values * np.exp(generator.normal(0, ROUGH, len(values)))
        for name, values in own.items()
        if name.startswith("break_even/") and name not in ("break_even/train_accuracy", "break_even/step")
    }
    steady = {"break_even/step": steps, "step/learning_rate": np.full(lane["steps"], lane["learning_rate"])}
    return base | steady | own | noisy


def uneven(run: RunResult) -> RunResult:
    """The lanes of one seed were measured less often."""

    def cut(lane: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        if lane["seed"] == SEEDS[-1]:
            for name in [name for name in arrays if name.startswith("break_even/")]:
                arrays[name] = arrays[name][::2]

    return changed(run, cut)


def late(run: RunResult, name: str) -> RunResult:
    """The maxima of the last seed lie at the end of its lanes, on the side that the comparison favours too."""

    def rise(lane: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        if lane["seed"] == SEEDS[-1]:
            arrays[name] = float(arrays[name].max()) * np.linspace(0.1, 1.0, len(arrays[name]))

    return changed(run, rise)


def rough(run: RunResult) -> RunResult:
    """Lanczos was stopped early."""

    def spoil(lane: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> None:
        arrays["break_even/hessian_residuals"] = 0.2 * arrays["break_even/lambda_h1"]

    return changed(run, spoil)
