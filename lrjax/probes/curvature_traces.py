"""Traces of curvature matrices through training: Tr(H) with its error, and Tr(F) from gradients at drawn labels."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.errors import LrjaxError, check
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe
from lrjax.experiment.step.curvature_losses import LIKELIHOODS, model_losses
from lrjax.experiment.step.train_step import Engine
from lrjax.keys import key
from lrjax.probes.batch_sizes import batch_sizes, example_order
from lrjax.probes.host_probe import View, host_probe
from lrjax.spectra.distributions import DISTRIBUTIONS
from lrjax.spectra.operators import hessian
from lrjax.spectra.subset import subset_size
from lrjax.spectra.trace import trace


def hessian_trace(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """Tr(H) on the examples of the break_even probe, by XTrace with `spectra.trace_products` products: "value", "stderr".

    The paper takes the sum of the five largest eigenvalues for it ("trace_h_top" of the break_even probe).

    Source: The Break-Even Point on Optimization Trajectories, section 4.2; Epperly, Tropp and Webber 2024.
    """
    settings = static.spectra
    operator = hessian(model_losses(static).loss)

    def pick(num_train: int, params: Any) -> tuple[np.ndarray, int]:
        at_once = settings.batch_size or parallel.examples_at_once(params, settings.batch_statistics)
        return example_order(num_train, settings)[: subset_size(num_train, settings.examples)], at_once

    def measure_one(view: View, memory: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        bound = operator.bind(view.variables, view.batches, "params", checks=view.first)
        try:
            found = trace(bound, key(settings.seed, "probe"), num_probes=settings.trace_products)
        except LrjaxError:  # a product is not finite: the lane is about to diverge
            return {}, {}
        return {"value": found.value, "stderr": found.stderr}, {}

    return host_probe(static, engine, mesh, pick, measure_one, {"value": np.nan, "stderr": np.nan})


def fisher_trace(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """Tr(F) = E |g_i(y)|^2, labels y drawn from the model, from the batches of the break_even probe: "value", "stderr".

    At drawn labels the gradients of a batch of M examples are independent with mean zero, so M |mean gradient|^2 has the mean
    Tr(F), at the cost of one gradient a batch rather than one an example.

    Source: Jastrzebski et al. 2021, Catastrophic Fisher Explosion, arXiv 2012.14193.
    """
    settings = static.spectra
    known = static.loss in LIKELIHOODS
    check(known, f"Fisher needs a likelihood loss, not {static.loss!r}; remove the probe fisher_trace")
    score = _score(model_losses(static).predict, LIKELIHOODS[static.loss])

    def pick(num_train: int, params: Any) -> tuple[np.ndarray, int]:
        count, size = batch_sizes(num_train, settings.noise_batches, settings.noise_batch_size)
        return example_order(num_train, settings)[: count * size], size

    def measure_one(view: View, memory: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        keys = jax.random.split(key(settings.seed, "probe", view.step), len(view.batches))
        norms = np.array(
            [float(score(view.variables, batch, own)) for batch, own in zip(view.batches, keys, strict=True)]
        )
        return {"value": norms.mean(), "stderr": norms.std(ddof=1) / np.sqrt(norms.size)}, {}

    return host_probe(static, engine, mesh, pick, measure_one, {"value": np.nan, "stderr": np.nan})


def _score(predict: Callable, name: str) -> Callable[[Any, Any, jax.Array], jax.Array]:
    """(variables, batch, key) -> M |g|^2, g the mean gradient over the M examples at labels drawn from the model."""
    distribution = DISTRIBUTIONS[name]

    @jax.jit
    def score(variables: Any, batch: Any, draw: jax.Array) -> jax.Array:
        def objective(params: Any) -> jax.Array:
            outputs = predict(variables | {"params": params}, batch)
            keys = jax.random.split(draw, outputs.shape[0])
            labels = jax.lax.stop_gradient(jax.vmap(distribution.sample)(keys, outputs))
            return -jnp.mean(jax.vmap(distribution.log_prob)(outputs, labels))

        gradient = jax.grad(objective)(variables["params"])
        squares = jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)])
        return batch["y"].shape[0] * jnp.sum(squares)

    return score
