"""The gradient noise through training, from mini-batch gradients as the break-even paper measures it."""

import warnings
from contextlib import suppress
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax.data.images import generator
from lrjax.errors import LrjaxError
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe
from lrjax.experiment.step.curvature_losses import examples, model_losses
from lrjax.experiment.step.train_step import Engine
from lrjax.probes.batch_sizes import batch_sizes
from lrjax.probes.host_probe import View, host_probe
from lrjax.spectra.gram import Gram, batch_gradients, gram
from lrjax.spectra.noise_scale import gradient_noise_scale
from lrjax.spectra.subset import METHODS, STATISTICS, SmallSubsetWarning

NAMES = (
    "lambda_k1_raw",
    "lambda_k1_per_example",
    "lambda_k1_low",
    "lambda_k1_high",
    "trace_k_raw",
    "trace_over_lambda",
    "lambda_star_over_lambda",
    "noise_scale",
    "noise_scale_low",
    "noise_scale_high",
)
LEVEL = 0.95


def noise(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """K from L = `spectra.noise_batches` gradients of M = `spectra.noise_batch_size` examples each, of the fixed subset.

    The batches are disjoint and the same at every step. One number a lane: lambda_k1_raw, the top eigenvalue of
    K_M = (1/L) sum_j (b_j - b)(b_j - b)^T; lambda_k1_low and _high, its 95 % jackknife interval, corrected for bias (NaN for
    two batches); trace_k_raw; lambda_k1_per_example, rescaled to the covariance of per-example gradients; and, free of
    scale, trace_over_lambda and lambda_star_over_lambda; and noise_scale in examples, with its 95 % interval, infinite where
    the mean gradient is not told from zero. NaN where a lane has diverged or ended. Compare at equal L.

    Source: The Break-Even Point on Optimization Trajectories, sections 3 and 4; `lrjax.spectra.gram`.
    """
    settings = static.spectra
    loss = model_losses(static).loss

    def pick(num_train: int, params: Any) -> tuple[np.ndarray, int]:
        chosen = examples(num_train, settings.examples, settings.seed)
        count, size = batch_sizes(chosen.size, settings.noise_batches, settings.noise_batch_size)
        return generator(settings.seed, "noise batches").permutation(chosen)[: count * size], size

    def measure_one(view: View, memory: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        gradients = batch_gradients(loss, view.variables, view.batches, "params", checks=view.first)
        if not jnp.isfinite(jnp.sum(jnp.square(gradients))):
            return {}, {}
        total = examples(view.num_train, settings.examples, settings.seed).size
        size = view.batches[0]["y"].shape[0]
        found = numbers(gram(gradients, batch_size=size, num_examples=total, disjoint=True, k=0))
        return found | scales(gradients, size, total), {}

    return host_probe(static, engine, mesh, pick, measure_one, dict.fromkeys(NAMES, np.nan))


def numbers(found: Gram) -> dict[str, float]:
    """The numbers of `NAMES` of K."""
    low = high = np.nan
    if len(found.inner) > 2:
        # Not `intervals`: of few gradients it would warn at every measurement.
        interval = METHODS["jackknife"](found, STATISTICS["lambda_1"], LEVEL, None, None)
        low, high = interval.low, interval.high
    top = np.float64(found.lambda_1)
    with np.errstate(divide="ignore", invalid="ignore"):  # no noise at all has no ratios
        ratios = found.trace / top, found.lambda_star / top
    values = top, found.per_example().lambda_1, low, high, found.trace, *ratios
    return dict(zip(NAMES, values, strict=False))


def scales(gradients: Any, size: int, num_examples: int) -> dict[str, float]:
    """The noise scale of `NAMES` from disjoint batch gradients [L, D] of `size` examples each; empty for fewer than three.

    Example:
        >>> found = scales(np.array([[3.0, 1.0], [3.0, -1.0], [3.0, 1.0], [3.0, -1.0]]), 2, 10**6)
        >>> round(found["noise_scale"], 3)
        0.308
    """
    with warnings.catch_warnings(), suppress(LrjaxError):  # gradients that are few, or all equal
        warnings.simplefilter("ignore", SmallSubsetWarning)  # an infinite one says so itself
        found = gradient_noise_scale(gradients, size, num_examples=num_examples, disjoint=True, level=LEVEL)
        return {"noise_scale": found.value, "noise_scale_low": found.low, "noise_scale_high": found.high}
    return {}
