"""What a network predicts on fixed test examples: the space in which trajectories of different runs can be compared."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax import models
from lrjax.data import DATASETS
from lrjax.devices import parallel
from lrjax.experiment.loop.probe import Probe, without_memory
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.train_step import Engine, TrainState

AT_ONCE = 250


def predictions(static: Any, engine: Engine, mesh: Mesh) -> Probe:
    """Class probabilities on the first `spectra.predicted` test examples: "probabilities" [lanes, n, classes], float32.

    A network of one output z gives (1 - p, p) with p = 1 / (1 + exp(-z)).

    Source: The Break-Even Point on Optimization Trajectories, section 4.1, after Erhan et al. 2010.
    """
    model = models.configured(static, static.data.num_classes)

    def one(state: TrainState, x: Any) -> jax.Array:
        output = micro_batches.outputs(model, state.params, state.model_state, x)
        if output.ndim == 1:
            output = jnp.stack([jnp.zeros_like(output), output], axis=-1)
        return jax.nn.softmax(output.astype(jnp.float32), axis=-1)

    per_lane = DATASETS[static.data.name].per_lane
    evaluate = parallel.lanes(one, mesh, static.lane_loop, shared=() if per_lane else (1,))
    put = parallel.put_lanes if per_lane else parallel.put_shared

    def measure(state: TrainState, hparams: Any, data: Any) -> dict[str, Any]:
        x = data["tests"]["test"]["x"]
        count = min(int(static.spectra.predicted), x.shape[1 if per_lane else 0])
        places = [slice(at, min(at + AT_ONCE, count)) for at in range(0, count, AT_ONCE)]
        parts = [parallel.fetch(evaluate(state, put(x[:, place] if per_lane else x[place], mesh))) for place in places]
        return {"probabilities": np.concatenate(parts, axis=1)}

    return without_memory(measure)
