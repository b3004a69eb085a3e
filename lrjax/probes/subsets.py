"""Accuracy on each kind of example, on the training and the test set."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax import data as datasets
from lrjax import models
from lrjax.data.ps10 import NO_LABEL
from lrjax.devices import parallel
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe, versions, without_memory
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.train_step import Engine, TrainState
from lrjax.models.layers import DECAY
from lrjax.probes.evaluation import in_batches, joined, number_of

EVAL_BATCH = 2000


def subset_accuracies(predicted: np.ndarray, split: dict[str, np.ndarray], kinds: tuple[str, ...]) -> dict[str, float]:
    """The share of right predictions on all examples and on each kind; of noise, against both of its labels.

    Args:
        predicted: int `[n]`.
        split: "y", "kind" and, on a training set with noise, "true_y", each int `[n]`.
        kinds: what the values of "kind" mean.

    Returns:
        "all" (but noise), a number for each other kind, and "noise_given" and "noise_true": agreement with the label that
        was trained on, and with that of the pattern, NaN where noise has none. NaN for a kind that does not occur.

    Source: How Does Learning Rate Decay Help Modern Neural Networks?, section 5.3.

    Example:
        >>> split = {"y": np.array([0, 1, 1]), "kind": np.array([0, 0, 1]), "true_y": np.array([0, 1, 0])}
        >>> found = subset_accuracies(np.array([0, 0, 0]), split, ("simple", "noise"))
        >>> found["simple"], found["noise_given"], found["noise_true"]
        (0.5, 0.0, 1.0)
    """
    right = predicted == split["y"]
    noisy = split["kind"] == kinds.index("noise") if "noise" in kinds else np.zeros(right.shape, bool)
    found = {"all": share(right[~noisy])}
    for number, kind in enumerate(kinds):
        own = split["kind"] == number
        if kind != "noise":
            found[kind] = share(right[own])
        elif "true_y" in split:
            true_y = split["true_y"][own]
            known = true_y != NO_LABEL
            found |= {"noise_given": share(right[own]), "noise_true": share((predicted[own] == true_y)[known])}
    return found


def of_lanes(predicted: np.ndarray, split: dict[str, np.ndarray], source: datasets.Source) -> dict[str, np.ndarray]:
    """`subset_accuracies` of predictions `[lanes, n]`, each `[lanes]`; labels have a lane axis where the data has."""
    lanes = []
    for number, own in enumerate(predicted):
        labels = {name: array[number] if source.per_lane else array for name, array in split.items()}
        lanes.append(subset_accuracies(own, labels, source.kinds))
    return {kind: np.array([lane[kind] for lane in lanes]) for kind in lanes[0]}


def share(right: np.ndarray) -> float:
    """The mean of a boolean array, NaN where it is empty."""
    return float(np.mean(right)) if right.size else float("nan")


def renewed_statistics(model: models.Model, params: Any, model_state: Any, x: jax.Array) -> Any:
    """The model state with the batch statistics of `x` under `params`: an average of weights has no running ones.

    Running averages begin at zero here, so that one batch leaves 1 - `lrjax.models.layers.DECAY` of its statistics in them.
    """
    if "batch_stats" not in model_state:
        return model_state
    zero = jax.tree.map(jnp.zeros_like, model_state["batch_stats"])
    _, after = model.apply(params, model_state | {"batch_stats": zero}, x, train=True)
    return model_state | {"batch_stats": jax.tree.map(lambda a: a / (1 - DECAY), after["batch_stats"])}


def subsets(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """Accuracy by kind: "<split>_<kind>" for the training set ("train") and each test set, and "<split>_loss" over all.

    In evaluation mode; an average of weights gets the batch statistics of a training batch.

    Noise is left out of "all" and the other kinds: a network that has learned every pattern scores 1
    there.
    """
    source = datasets.DATASETS[static.data.name]
    model = models.configured(static, static.data.num_classes)

    def of_batch(state: TrainState, batch: Any, average: Any) -> dict[str, jax.Array]:
        measured = {}
        for prefix, params in versions(static, state).items():
            statistics = state.model_state if prefix == "" else average
            output = micro_batches.outputs(model, params, statistics, batch["x"])
            measured[prefix + "predicted"] = jnp.argmax(output, axis=-1).astype(jnp.int32)
            measured[prefix + "loss"] = LOSSES[static.loss](output, batch["y"])
        return measured

    def of_average(state: TrainState, x: jax.Array) -> Any:
        return renewed_statistics(model, state.average, state.model_state, x[:EVAL_BATCH])

    evaluate = in_batches(of_batch, static, mesh)
    renewed = parallel.lanes(of_average, mesh, static.lane_loop, shared=() if source.per_lane else (1,))

    def measure(state: TrainState, hparams: HParams, data: Any) -> dict[str, Any]:
        measured: dict[str, Any] = {}
        average = () if static.averaging is None else renewed(state, data["train"]["x"])
        for name, split in {"train": data["train"], **data["tests"]}.items():
            n = number_of(split, static)
            whole = joined(evaluate(state, split, min(EVAL_BATCH, n), average), n)
            labels = parallel.fetch({k: split[k] for k in ("y", "kind", "true_y") if k in split})
            for prefix in versions(static, state):
                by_kind = of_lanes(whole[prefix + "predicted"], labels, source)
                measured |= {f"{prefix}{name}_{kind}": value for kind, value in by_kind.items()}
                measured[f"{prefix}{name}_loss"] = np.mean(whole[prefix + "loss"], axis=1)
        return measured

    return without_memory(measure)
