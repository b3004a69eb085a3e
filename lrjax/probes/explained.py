"""Label information explained by a linear classifier."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from numpy.typing import ArrayLike, NDArray

from lrjax import models
from lrjax.devices import parallel
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.train_step import Engine, TrainState
from lrjax.probes.evaluation import EVAL_BATCH, in_batches, joined

RIDGE = 1.0  # of the linear classifier, as a share of the number of examples


def mutual_information(joint: ArrayLike) -> float:
    """I(A; B) in bits, from joint counts `[a, b]`, with the Miller-Madow correction of each entropy.

    Example:
        >>> round(mutual_information([[500, 0], [0, 500]]), 3)
        1.001
    """
    joint = np.asarray(joint, np.float64)
    return _entropy(joint.sum(1)) + _entropy(joint.sum(0)) - _entropy(joint.ravel())


def _entropy(counts: NDArray[np.float64]) -> float:
    total = counts.sum()
    if total == 0:
        return 0.0
    share = counts[counts > 0] / total
    return float(-np.sum(share * np.log2(share)) + (share.size - 1) / (2 * total * np.log(2)))


def explained_information(network: ArrayLike, simple: ArrayLike, y: ArrayLike, classes: int) -> tuple[float, float]:
    """The part of a network's label information that a simple model's predictions explain.

        mu_Y(F; L) = I(F; Y) - I(F; Y | L)

    Args:
        network, simple: int `[n]`, predicted labels F and L.
        y: int `[n]`, labels.
        classes: number of labels.

    Returns:
        (mu, I(F; Y)) in bits, from counts with the Miller-Madow correction.

    Source: Kalimeris et al. 2019 (arXiv 1905.11604), section 3; the formula as remembered.

    Example:
        >>> y = np.arange(1000) % 2
        >>> mu, information = explained_information(y, y, y, 2)
        >>> round(mu, 2), round(information, 2)
        (1.0, 1.0)
    """
    network, simple, y = (np.asarray(a) for a in (network, simple, y))
    counts = np.zeros((classes, classes, classes))
    np.add.at(counts, (simple, network, y), 1)
    whole = mutual_information(counts.sum(0))
    given = sum(own.sum() / counts.sum() * mutual_information(own) for own in counts if own.sum() > 0)
    return whole - float(given), whole


def linear_predictions(x: ArrayLike, y: ArrayLike, test_x: ArrayLike, classes: int) -> NDArray[np.int32]:
    """Labels that a linear classifier predicts: ridge regression of the classes on the inputs and a constant.

        W = argmin |X W - Y|^2 + n |W|^2

    Args:
        x, test_x: `[n, ...]`, flattened; of unit scale, which the strength of the ridge supposes.
        y: int `[n]`.
        classes: number of labels.

    Example:
        >>> linear_predictions([[-1.0], [1.0]], [0, 1], [[-2.0], [3.0]], 2).tolist()
        [0, 1]
    """
    x, test_x = (np.asarray(a, np.float64).reshape(len(np.asarray(a)), -1) for a in (x, test_x))
    mean, target = x.mean(axis=0), np.eye(classes)[np.asarray(y)]
    centred, offset = x - mean, target.mean(axis=0)
    n, d = centred.shape
    if d <= n:
        weights = np.linalg.solve(centred.T @ centred + RIDGE * n * np.eye(d), centred.T @ (target - offset))
    else:
        weights = centred.T @ np.linalg.solve(centred @ centred.T + RIDGE * n * np.eye(n), target - offset)
    return np.argmax((test_x - mean) @ weights + offset, axis=1).astype(np.int32)


def explained(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """ "mu" and "information" in bits on the test set "test", of data that all lanes share: see `explained_information`."""
    classes = static.data.num_classes
    model = models.configured(static, classes)

    def predict(state: TrainState, batch: Any) -> dict[str, jax.Array]:
        output = micro_batches.outputs(model, state.params, state.model_state, batch["x"])
        return {"label": jnp.argmax(output, axis=-1).astype(jnp.int32)}

    evaluate = in_batches(predict, static, mesh)

    def start(state: TrainState, hparams: HParams, data: Any) -> Any:
        train, test = data["train"], data["tests"]["test"]
        x, y, test_x = parallel.fetch((train["x"], train["y"], test["x"]))
        return {"linear": np.tile(linear_predictions(x, y, test_x, classes), (len(state.step), 1))}

    def measure(state: TrainState, hparams: HParams, data: Any, memory: Any, live: int) -> tuple[dict[str, Any], Any]:
        test = data["tests"]["test"]
        y = parallel.fetch(test["y"])
        predicted = joined(evaluate(state, test, min(EVAL_BATCH, len(y))), len(y))["label"]
        lanes = zip(predicted, np.asarray(memory["linear"]), strict=True)
        pairs = [explained_information(network, linear, y, classes) for network, linear in lanes]
        return {"mu": np.array([p[0] for p in pairs]), "information": np.array([p[1] for p in pairs])}, memory

    return Probe(measure, start)
