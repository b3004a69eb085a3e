"""Probes: measurements during training. A probe reads the state, returns named arrays and changes nothing in the run.

A config asks for probes by `probes = {"features": 250, "curvature": "end", "spectrum": "10 until 200, 1 epochs"}`: name ->
every so many steps, once at the end, or dense early and sparse late. To add one, write a function and a row in `PROBES`.
"""

import importlib
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from lrjax.experiment.loop.probe import CHECKS, PROBES, Probe
from lrjax.experiment.step.train_step import Engine
from lrjax.probes import checks, two_layer
from lrjax.probes.direction import direction
from lrjax.probes.evaluation import accuracy
from lrjax.probes.explained import explained
from lrjax.probes.outputs import outputs
from lrjax.probes.path_to_average import path_to_average
from lrjax.probes.subsets import subsets
from lrjax.probes.target_angle import target_angle

__all__ = ["PROBES", "Probe"]


def _of_spectra(name: str, module: str = "") -> Callable[[Any, Engine, Mesh], Probe]:
    """The function `name` of a module here (of that name by default), imported when asked for: SciPy costs a second."""
    return lambda *program: getattr(importlib.import_module(f"lrjax.probes.{module or name}"), name)(*program)


PROBES |= {
    "features": two_layer.of_weights(two_layer.features),
    "test_accuracy": two_layer.of_weights(two_layer.test_accuracy),
    "curvature": two_layer.of_weights(two_layer.curvature),
    "accuracy": accuracy,
    "direction": direction,
    "outputs": outputs,
    "target_angle": target_angle,
    "subsets": subsets,
    "explained": explained,
    "path_to_average": path_to_average,
    "spectrum": _of_spectra("spectrum"),
    "noise": _of_spectra("noise"),
    "break_even": _of_spectra("break_even"),
    "predictions": _of_spectra("predictions"),
    "next_step": _of_spectra("next_step"),
    "noise_grid": _of_spectra("noise_grid"),
    "batch_sharpness": _of_spectra("batch_sharpness"),
    "hessian_trace": _of_spectra("hessian_trace", "curvature_traces"),
    "fisher_trace": _of_spectra("fisher_trace", "curvature_traces"),
}
CHECKS |= {
    "spectrum": checks.spectrum,
    "noise": checks.noise,
    "break_even": checks.break_even,
    "noise_grid": checks.noise_grid,
}
