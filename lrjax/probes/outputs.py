"""Logits on a fixed subset, which tell how far two runs are apart as functions."""

from typing import Any

import jax
from jax.sharding import Mesh

from lrjax import models
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe, without_memory
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.train_step import Engine, TrainState
from lrjax.probes.evaluation import first_examples, in_batches, joined, number_of

EXAMPLES = 256


def outputs(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """Logits of the first 256 examples of the first test set, in evaluation mode: "logits" [examples, classes]."""
    model = models.configured(static, static.data.num_classes)

    def logits(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        return {"logits": micro_batches.outputs(model, state.params, state.model_state, batch["x"])}

    evaluate = in_batches(logits, static, mesh)

    def measure(state: TrainState, hparams: HParams, data: Any) -> dict[str, Any]:
        test = first_examples(next(iter(data["tests"].values())), EXAMPLES, static)
        count = number_of(test, static)
        return joined(evaluate(state, test, count), count)

    return without_memory(measure)
