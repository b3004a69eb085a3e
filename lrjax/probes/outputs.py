"""What a network says on fixed examples: how far two runs are apart as functions."""

from typing import Any

import jax
from jax.sharding import Mesh

from lrjax import models
from lrjax.devices import parallel
from lrjax.experiment.loop.probe import Probe, without_memory
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.train_step import Engine, TrainState

EXAMPLES = 256


def outputs(static: Any, engine: Engine, mesh: Mesh) -> Probe:
    """Logits of the first 256 examples of the first test set, in evaluation mode: "logits" [examples, classes]."""
    model = models.configured(static, static.data.num_classes)

    def logits(state: TrainState, x: jax.Array) -> jax.Array:
        return micro_batches.outputs(model, state.params, state.model_state, x)

    evaluate = parallel.lanes(logits, mesh, static.lane_loop, shared=(1,))

    def measure(state: TrainState, hparams: Any, data: Any) -> dict[str, Any]:
        test = next(iter(data["tests"].values()))
        return {"logits": evaluate(state, parallel.put_shared(test["x"][:EXAMPLES], mesh))}

    return without_memory(measure)
