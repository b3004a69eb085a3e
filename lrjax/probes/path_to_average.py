"""The training loss on the straight line from a lane's average of weights to its weights."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from lrjax import models
from lrjax.data import DATASETS
from lrjax.devices import parallel
from lrjax.errors import check
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe, without_memory
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.train_step import Engine, TrainState
from lrjax.probes.evaluation import in_batches, joined, number_of
from lrjax.probes.subsets import EVAL_BATCH, renewed_statistics

POINTS = 11  # of the line, both ends included


def barrier_of(losses: np.ndarray) -> np.ndarray:
    """The largest excess over the straight line between the losses of the ends, as in `lrjax.spectra.LinearPath`.

    Args:
        losses: [..., n], at equal distances from one end to the other.

    Example:
        >>> float(barrier_of(np.array([1.0, 2.5, 2.0])))
        1.0
    """
    share = np.linspace(0.0, 1.0, losses.shape[-1])
    line = losses[..., :1] * (1 - share) + losses[..., -1:] * share
    return np.max(losses - line, axis=-1)


def path_to_average(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """ "losses" [lanes, 11] from the average of weights to the weights, and their "barrier" [lanes].

    Over the training set in evaluation mode; each point has the batch statistics of a training batch of its own, since those
    of two networks do not average.
    """
    check(static.averaging is not None, "the probe path_to_average needs an average: set averaging")
    per_lane = DATASETS[static.data.name].per_lane
    model = models.configured(static, static.data.num_classes)

    def of_batch(state: TrainState, batch: Any, statistics: Any) -> dict[str, jax.Array]:
        output = micro_batches.outputs(model, state.params, statistics, batch["x"])
        return {"loss": LOSSES[static.loss](output, batch["y"])}

    def of_point(state: TrainState, x: jax.Array) -> Any:
        return renewed_statistics(model, state.params, state.model_state, x[:EVAL_BATCH])

    evaluate = in_batches(of_batch, static, mesh)
    renewed = parallel.lanes(of_point, mesh, static.lane_loop, shared=() if per_lane else (1,))

    def measure(state: TrainState, hparams: HParams, data: Any) -> dict[str, Any]:
        train = data["train"]
        n = number_of(train, static)

        def loss_at(share: np.float32) -> np.ndarray:
            params = jax.tree.map(lambda a, b: (1 - share) * a + share * b, state.average, state.params)
            point = state._replace(params=params)
            found = evaluate(point, train, min(EVAL_BATCH, n), renewed(point, train["x"]))
            return np.mean(joined(found, n)["loss"], axis=1)

        curve = np.stack([loss_at(share) for share in np.linspace(0.0, 1.0, POINTS, dtype=np.float32)], axis=1)
        return {"losses": curve, "barrier": barrier_of(curve)}

    return without_memory(measure)
