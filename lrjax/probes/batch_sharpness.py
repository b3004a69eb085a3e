"""The curvature of mini-batches along their own gradients, which SGD brings to about 2 / learning rate."""

from typing import Any

import numpy as np
from jax.sharding import Mesh

from lrjax.data.images import generator
from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe
from lrjax.experiment.step.curvature_losses import model_losses
from lrjax.experiment.step.train_step import Engine
from lrjax.probes.host_probe import View, host_probe
from lrjax.spectra import directions


def batch_sharpness(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """Batch sharpness over `spectra.sharpness_batches` fixed disjoint batches of the training batch size: "value", "stderr".

    Source: Andreyev and Beneventano, Edge of Stochastic Stability, arXiv 2412.20553; `lrjax.spectra.batch_sharpness`.
    """
    settings, size = static.spectra, static.batch_size
    loss = model_losses(static).loss

    def pick(num_train: int, params: Any) -> tuple[np.ndarray, int]:
        count = min(settings.sharpness_batches, num_train // size)
        return generator(settings.seed, "batch sharpness").permutation(num_train)[: count * size], size

    def measure_one(view: View, memory: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            found = directions.batch_sharpness(loss, view.variables, view.batches, where="params")
        except LrjaxError:  # a gradient is zero or not finite: nothing to learn, or the lane is about to diverge
            return {}, {}
        return {"value": found.value, "stderr": found.stderr}, {}

    return host_probe(static, engine, mesh, pick, measure_one, {"value": np.nan, "stderr": np.nan})
