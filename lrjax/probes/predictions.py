"""Class probabilities on fixed test examples: the space in which trajectories of different runs can be compared."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lrjax import models
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe, without_memory
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.train_step import Engine, TrainState
from lrjax.probes.evaluation import first_examples, in_batches, joined, number_of

AT_ONCE = 250


def predictions(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """Class probabilities on the first `spectra.predicted` test examples: "probabilities" [lanes, n, classes], float32.

    A network of one output z gives (1 - p, p) with p = 1 / (1 + exp(-z)).

    Source: The Break-Even Point on Optimization Trajectories, section 4.1, after Erhan et al. 2010.
    """
    model = models.configured(static, static.data.num_classes)

    def one(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        output = micro_batches.outputs(model, state.params, state.model_state, batch["x"])
        if output.ndim == 1:
            output = jnp.stack([jnp.zeros_like(output), output], axis=-1)
        return {"probabilities": jax.nn.softmax(output.astype(jnp.float32), axis=-1)}

    evaluate = in_batches(one, static, mesh)

    def measure(state: TrainState, hparams: HParams, data: Any) -> dict[str, Any]:
        test = first_examples(data["tests"]["test"], int(static.spectra.predicted), static)
        count = number_of(test, static)
        return joined(evaluate(state, test, min(AT_ONCE, count)), count)

    return without_memory(measure)
