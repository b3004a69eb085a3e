"""The curvature H and the gradient noise K at one state: their top eigenpairs, and the alignment of their top eigenvectors."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from lrjax import models
from lrjax.devices import parallel
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.curvature_losses import model_losses
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.train_step import Engine
from lrjax.probes import noise, spectrum
from lrjax.probes.batch_sizes import batch_sizes, example_order
from lrjax.probes.host_probe import View, host_probe
from lrjax.spectra.directions import curvature_along
from lrjax.spectra.gram import Gram, gram
from lrjax.spectra.operators import hessian
from lrjax.spectra.subset import batches_of, subset_size, warn_if_small

TOP = 5  # eigenvectors of K that a gradient is projected on
NUMBERS = (
    *noise.NAMES,
    "trace_k_per_example",
    "lambda_h1",
    "trace_h_top",
    "trace_h_over_lambda",
    "curvature_mean",
    "curvature_std",
    "cos_hk",
    "alpha_ratio_raw",
    "alpha_ratio_per_example",
    "g_over_g5",
    "gamma_norm",
    "train_loss",
    "train_accuracy",
)


def break_even(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    r"""Top eigenpairs of H, the gradient noise K, the curvature of single examples along e_H, and the training accuracy.

    K: L = `spectra.noise_batches` disjoint batches of M = `spectra.noise_batch_size` training examples; H: Lanczos,
    warm-started, on the first `spectra.examples` of the same examples. Both are fixed through the run.

    Arrays, NaN where a lane has diverged or ended: all of the `noise` probe, and trace_k_per_example; of H
    "hessian_values", "hessian_residuals" [k], "hessian_products", lambda_h1, trace_h_top, the sum of the k largest, and
    trace_h_over_lambda, that sum over the largest;

    - curvature_mean, curvature_std: of H_i = e_H^T (d^2 l_i) e_H over the examples of H. The first is lambda_h1 again, found
      another way; the second is s of the stability condition (`lrjax.spectra.stability.stability_lhs`);
    - cos_hk: |<e_H, e_K>|; alpha_ratio_raw, alpha_ratio_per_example: lambda_K / lambda_H at either scale of K;
    - g_over_g5: |g| / |P_5 g|, averaged over the L batch gradients g, P_5 the projection on the five top eigenvectors of K;
    - gamma_norm: length of the scales of the last BatchNorm layer, NaN without one;
    - train_loss, train_accuracy: on the L M examples.

    BatchNorm uses its running statistics, unless `spectra.batch_statistics`; dropout and augmentation are off.

    Source: The Break-Even Point on Optimization Trajectories, sections 3 and 4.
    """
    settings, functions = static.spectra, model_losses(static)
    operator = hessian(functions.loss)
    gradient = batch_gradient(static)

    def pick(num_train: int, params: Any) -> tuple[np.ndarray, int]:
        count, size = batch_sizes(num_train, settings.noise_batches, settings.noise_batch_size)
        needed = subset_size(num_train, settings.examples)
        warn_if_small(needed, num_train)
        return example_order(num_train, settings)[: max(count * size, needed)], size

    def measure_one(view: View, memory: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        count, size = batch_sizes(view.num_train, settings.noise_batches, settings.noise_batch_size)
        parts = [gradient(view.variables, batch) for batch in view.batches[:count]]
        rows = jnp.stack([part[0] for part in parts])
        found = {"gamma_norm": gamma_norm(view.variables)}
        found |= {name: float(np.mean([part[i] for part in parts])) for i, name in _SUMMED}
        if not bool(jnp.isfinite(jnp.sum(jnp.square(rows)))):
            return found, {}
        covariance = gram(rows, batch_size=size, num_examples=view.num_train, disjoint=True, k=min(TOP, count - 1))
        found |= _of_noise(covariance, rows) | noise.scales(rows, size, view.num_train)
        of_hessian, vectors = _of_hessian(view, memory["hessian"])
        return found | of_hessian | _joint(found | of_hessian, covariance, vectors), vectors

    def _of_hessian(view: View, start: np.ndarray) -> tuple[dict[str, Any], dict[str, Any]]:
        at_once = settings.batch_size or parallel.examples_at_once(view.variables["params"], settings.batch_statistics)
        batches = resplit(view, subset_size(view.num_train, settings.examples), at_once)
        bound = operator.bind(view.variables, batches, "params", checks=view.first)
        pairs = spectrum.top(bound, start, settings)
        if pairs is None or pairs.vectors is None:
            return {}, {}
        curvatures = np.array([np.nan])  # batch statistics leave no curvature of single examples
        if not settings.batch_statistics:
            top, checks = pairs.vectors[0], view.first
            curvatures = curvature_along(
                functions.example_loss, view.variables, top, batches, where="params", checks=checks
            )
        total = float(np.sum(pairs.values))
        found = spectrum.arrays("hessian", pairs) | {
            "trace_h_top": total,
            "trace_h_over_lambda": total / pairs.values[0],
        }
        found |= {"curvature_mean": curvatures.mean(), "curvature_std": curvatures.std()}
        return found, {"hessian": np.asarray(pairs.vectors)}

    k = int(settings.k)
    nothing = dict.fromkeys(NUMBERS, np.nan) | {"hessian_products": 0}
    nothing |= {name: np.full(k, np.nan) for name in ("hessian_values", "hessian_residuals")}
    return host_probe(static, engine, mesh, pick, measure_one, nothing, {"hessian": k})


_SUMMED = ((1, "train_loss"), (2, "train_accuracy"))


def batch_gradient(static: Config) -> Callable[[Any, Any], tuple[jax.Array, jax.Array, jax.Array]]:
    """(variables, batch) -> flat gradient of the mean loss, mean loss, accuracy; in the mode of the measurement."""
    model = models.configured(static, static.data.num_classes)
    own_statistics, example_loss = static.spectra.batch_statistics, LOSSES[static.loss]

    @jax.jit
    def gradient(variables: Any, batch: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        def objective(params: Any, part: Any, key: jax.Array) -> tuple[jax.Array, tuple[Any, jax.Array]]:
            output, _ = model.apply(params, variables["model_state"], part["x"], train=own_statistics)
            return jnp.mean(example_loss(output, part["y"])), ({}, output)

        size = batch["y"].shape[0]
        part = size if own_statistics else micro_batches.size(0, size, variables["params"], {})
        (loss, (_, output)), found = micro_batches.value_and_grad(
            objective, variables["params"], batch, jax.random.key(0), part
        )
        right = (jnp.argmax(output, -1) == batch["y"]) if output.ndim > 1 else output * batch["y"] > 0
        return ravel_pytree(found)[0], loss, jnp.mean(right)

    def precise(variables: Any, batch: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        with jax.default_matmul_precision("highest"):
            return gradient(variables, batch)

    return precise


def resplit(view: View, count: int, size: int) -> list[dict[str, jax.Array]]:
    """The first `count` examples of a view in batches of `size`; the last may be short."""
    given = view.batches[0]["y"].shape[0]
    if given == size and count % size == 0:
        return view.batches[: count // size]
    taken = view.batches[: -(-count // given)]
    whole = {name: jnp.concatenate([batch[name] for batch in taken])[:count] for name in taken[0]}
    return batches_of(whole, np.arange(count), size)


def _of_noise(covariance: Gram, rows: jax.Array) -> dict[str, float]:
    inside = jnp.matmul(rows, covariance.vectors.T, precision="highest")
    lengths = np.linalg.norm(np.asarray(rows), axis=1), np.linalg.norm(np.asarray(inside), axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = float(np.mean(lengths[0] / lengths[1]))
    found = noise.numbers(covariance) | {"trace_k_per_example": covariance.per_example().trace}
    return found | {"g_over_g5": ratio}


def _joint(found: dict[str, Any], covariance: Gram, vectors: dict[str, Any]) -> dict[str, float]:
    """Numbers of H and K together: the angle between their top eigenvectors and the ratio of their eigenvalues."""
    if "hessian" not in vectors:
        return {}
    ratios = {
        f"alpha_ratio_{scale}": found[f"lambda_k1_{scale}"] / found["lambda_h1"] for scale in ("raw", "per_example")
    }
    return {"cos_hk": spectrum.alignment(vectors["hessian"][0], covariance.vectors[0])} | ratios


def gamma_norm(variables: Any) -> float:
    """Length of the vector of scales of the last BatchNorm layer; NaN where there is none, or it has no scales.

    Example:
        >>> layer = {"norm2": {"scale": jnp.array([3.0, 4.0])}}
        >>> gamma_norm({"params": layer, "model_state": {"batch_stats": {"norm2": {"mean": jnp.zeros(2)}}}})
        5.0
    """
    paths = [path for path, _ in jax.tree.leaves_with_path(variables["model_state"].get("batch_stats", {}))]
    if not paths:
        return float("nan")
    node = variables["params"]
    for entry in paths[-1][:-1]:
        node = node.get(entry.key, {})
    return float(jnp.linalg.norm(node["scale"])) if "scale" in node else float("nan")
