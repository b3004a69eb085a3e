"""The estimator of K at several numbers and sizes of batches, at the same state: what its error depends on."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe
from lrjax.experiment.step.train_step import Engine
from lrjax.probes.batch_sizes import example_order, grid
from lrjax.probes.break_even import batch_gradient, resplit
from lrjax.probes.host_probe import View, host_probe
from lrjax.spectra.gram import gram


def noise_grid(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """For each (L, M) of `spectra.noise_grid`: lambda_1 and Tr(K) per example, and Tr / lambda_1, lambda* / lambda_1.

    Arrays [lanes, pairs]: "lambda_k1_per_example", "lambda_k1_raw", "trace_k_per_example", "trace_over_lambda",
    "lambda_star_over_lambda"; "batches" and "batch_size" name the pair. A larger L M holds the examples of a smaller one.

    Source: The Break-Even Point on Optimization Trajectories, appendix (M = 1 against M = 128).
    """
    settings = static.spectra
    pairs = [(int(count), int(size)) for count, size in settings.noise_grid]
    gradient = batch_gradient(static)

    def pick(num_train: int, params: Any) -> tuple[np.ndarray, int]:
        most = max(count * size for count, size in grid(settings.noise_grid, num_train))
        return example_order(num_train, settings)[:most], max(size for _, size in pairs)

    def measure_one(view: View, memory: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        found: dict[str, list[float]] = {name: [] for name in _NAMES}
        for count, size in pairs:
            rows = jnp.stack([gradient(view.variables, batch)[0] for batch in resplit(view, count * size, size)])
            if not bool(jnp.isfinite(jnp.sum(jnp.square(rows)))):
                return {}, {}
            raw = gram(rows, batch_size=size, num_examples=view.num_train, disjoint=True, k=0)
            own = raw.per_example()
            ratios = raw.trace / raw.lambda_1, raw.lambda_star / raw.lambda_1
            for name, value in zip(_NAMES, (own.lambda_1, raw.lambda_1, own.trace, *ratios), strict=True):
                found[name].append(value)
        return {name: np.array(values) for name, values in found.items()}, {}

    fixed = {"batches": np.array([count for count, _ in pairs]), "batch_size": np.array([size for _, size in pairs])}
    nothing = fixed | {name: np.full(len(pairs), np.nan) for name in _NAMES}
    return host_probe(static, engine, mesh, pick, measure_one, nothing)


_NAMES = (
    "lambda_k1_per_example",
    "lambda_k1_raw",
    "trace_k_per_example",
    "trace_over_lambda",
    "lambda_star_over_lambda",
)
