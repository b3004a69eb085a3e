"""How well a network does on the test sets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax import models
from lrjax.data import DATASETS
from lrjax.devices import parallel
from lrjax.experiment.loop.probe import Probe, versions, without_memory
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.train_step import Engine, TrainState, Tree

EVAL_BATCH = 256


def accuracy(static: Any, engine: Engine, mesh: Mesh) -> Probe:
    """Loss and accuracy on every test set, in batches from the host: "<test set>_accuracy", "<test set>_loss"."""
    model = models.configured(static, static.data.num_classes)
    per_lane = DATASETS[static.data.name].per_lane

    def sums(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        found = {}
        for prefix, params in versions(static, state).items():
            own = eval_step(model, static.loss, params, state.model_state, batch)
            found |= {prefix + name: value for name, value in own.items()}
        return found

    evaluate = parallel.lanes(sums, mesh, static.lane_loop, shared=() if per_lane else (1,))

    def measure(state: TrainState, hparams: Any, data: Any) -> dict[str, Any]:
        found = {}
        for name, test in data["tests"].items():
            parts = [parallel.fetch(evaluate(state, batch)) for batch in _batches(test, mesh, per_lane)]
            total = {key: np.sum([part[key] for part in parts], axis=0) for key in parts[0]}
            for prefix in versions(static, state):
                count = total[prefix + "count"]
                found[f"{prefix}{name}_accuracy"] = total[prefix + "correct"] / count
                found[f"{prefix}{name}_loss"] = total[prefix + "loss"] / count
        return found

    return without_memory(measure)


def _batches(test: dict[str, Any], mesh: Mesh, per_lane: bool) -> list[dict[str, jax.Array]]:
    put = parallel.put_lanes if per_lane else parallel.put_shared
    lanes = test["y"].shape[:1] if per_lane else ()
    n = test["y"].shape[len(lanes)]
    batches = []
    for start in range(0, n, EVAL_BATCH):
        index = np.arange(start, start + EVAL_BATCH)
        weight = np.broadcast_to((index < n).astype(np.float32), (*lanes, EVAL_BATCH))
        index = np.minimum(index, n - 1)
        own = {name: test[name][:, index] if per_lane else test[name][index] for name in ("x", "y")}
        batches.append(put(own | {"weight": weight}, mesh))
    return batches


def eval_step(model: models.Model, loss: str, params: Tree, model_state: Tree, batch: Tree) -> dict[str, jax.Array]:
    """Sums over one batch in evaluation mode: loss, correct predictions and the weights of the examples.

    Args:
        batch: "x", "y" and "weight" [B], zero for padding.
    """
    output = micro_batches.outputs(model, params, model_state, batch["x"])
    losses = LOSSES[loss](output, batch["y"])
    right = (jnp.argmax(output, axis=-1) == batch["y"]) if output.ndim > 1 else output * batch["y"] > 0
    weight = batch["weight"]
    return {"loss": jnp.sum(losses * weight), "correct": jnp.sum(right * weight), "count": jnp.sum(weight)}
