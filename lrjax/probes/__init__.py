"""What to measure during training. A probe reads the state, returns named arrays and changes nothing in the run.

A config asks for probes by `probes = {"features": 250, "curvature": "end", "spectrum": "10 until 200, 1 epochs"}`: name ->
every so many steps, once at the end, or dense early and sparse late. To add one, write a function and a row in `PROBES`.
"""

import importlib
from collections.abc import Callable
from typing import Any

from jax.sharding import Mesh

from lrjax.probes import two_layer
from lrjax.probes.evaluation import accuracy
from lrjax.probes.protocol import Probe
from lrjax.step import Engine

__all__ = ["PROBES", "Probe"]


def _of_spectra(name: str) -> Callable[[Any, Engine, Mesh], Probe]:
    """The function `name` of the module `name` here, imported when it is asked for: SciPy costs a second."""
    return lambda *program: getattr(importlib.import_module(f"lrjax.probes.{name}"), name)(*program)


PROBES: dict[str, Callable[[Any, Engine, Mesh], Probe]] = {
    "features": two_layer.of_weights(two_layer.features),
    "test_accuracy": two_layer.of_weights(two_layer.test_accuracy),
    "curvature": two_layer.of_weights(two_layer.curvature),
    "accuracy": accuracy,
    "spectrum": _of_spectra("spectrum"),
    "noise": _of_spectra("noise"),
}
