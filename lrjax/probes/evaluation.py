"""Evaluation of a network in batches, and its loss and accuracy on the test sets."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax import models
from lrjax.data import DATASETS
from lrjax.devices import parallel
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe, versions, without_memory
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.train_step import Engine, TrainState, Tree

EVAL_BATCH = 256


def in_batches(function: Callable, static: Config, mesh: Mesh) -> Callable[..., list[dict[str, np.ndarray]]]:
    """Compiles a function of one lane and a batch, to be evaluated on a whole data set.

    Args:
        function: `(state, batch, *rest) -> arrays`; the batch has "x", "y" and "weight" [B], zero where it is filled up
            with copies of the last example.
        static: its data set decides whether each lane has examples of its own.
        mesh: of the block.

    Returns:
        `(state, split, size, *rest) -> results`: what the function gave for each `size` examples, on the host and with
        a leading lane axis.
    """
    per_lane = DATASETS[static.data.name].per_lane
    compiled = parallel.lanes(function, mesh, static.lane_loop, shared=() if per_lane else (1,))

    def evaluate(state: TrainState, split: Any, size: int, *rest: Any) -> list[dict[str, np.ndarray]]:
        return [parallel.fetch(compiled(state, batch, *rest)) for batch in _batches(split, size, mesh, per_lane)]

    return evaluate


def number_of(split: Any, static: Config) -> int:
    """Number of examples of a split of a lane."""
    return split["y"].shape[1 if DATASETS[static.data.name].per_lane else 0]


def first_examples(split: Any, count: int, static: Config) -> dict[str, Any]:
    """The first examples of a split, all where there are fewer."""
    per_lane = DATASETS[static.data.name].per_lane
    return {name: split[name][:, :count] if per_lane else split[name][:count] for name in ("x", "y")}


def joined(parts: list[dict[str, np.ndarray]], n: int) -> dict[str, np.ndarray]:
    """Results a batch [lanes, B, ...] of `in_batches`, as one array [lanes, n, ...] each."""
    return {name: np.concatenate([part[name] for part in parts], axis=1)[:, :n] for name in parts[0]}


def _batches(split: dict[str, Any], size: int, mesh: Mesh, per_lane: bool) -> list[dict[str, jax.Array]]:
    put = parallel.put_lanes if per_lane else parallel.put_shared
    lanes = split["y"].shape[:1] if per_lane else ()
    n = split["y"].shape[len(lanes)]
    batches = []
    for start in range(0, n, size):
        index = np.arange(start, start + size)
        weight = np.broadcast_to((index < n).astype(np.float32), (*lanes, size))
        index = np.minimum(index, n - 1)
        chosen = {name: split[name][:, index] if per_lane else split[name][index] for name in ("x", "y")}
        batches.append(put(chosen | {"weight": weight}, mesh))
    return batches


def accuracy(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """Loss and accuracy on every test set, in batches from the host: "<test set>_accuracy", "<test set>_loss"."""
    model = models.configured(static, static.data.num_classes)

    def sums(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        total = {}
        for prefix, params in versions(static, state).items():
            of_version = eval_step(model, static.loss, params, state.model_state, batch)
            total |= {prefix + name: value for name, value in of_version.items()}
        return total

    evaluate = in_batches(sums, static, mesh)

    def measure(state: TrainState, hparams: HParams, data: Any) -> dict[str, Any]:
        measured = {}
        for name, test in data["tests"].items():
            parts = evaluate(state, test, EVAL_BATCH)
            total = {key: np.sum([part[key] for part in parts], axis=0) for key in parts[0]}
            for prefix in versions(static, state):
                count = total[prefix + "count"]
                measured[f"{prefix}{name}_accuracy"] = total[prefix + "correct"] / count
                measured[f"{prefix}{name}_loss"] = total[prefix + "loss"] / count
        return measured

    return without_memory(measure)


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
