"""The angle between a linear unit's weights and the target direction."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe, without_memory
from lrjax.experiment.step import scale
from lrjax.experiment.step.train_step import Engine, TrainState


def target_angle(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """The angle between the weights and the target direction in radians, "angle"; at most pi / 2 where that is an axis."""

    def angle(state: TrainState, data: Any) -> dict[str, jax.Array]:
        unit, target = scale.scale_of(state.params["w"]).unit, data["truth"]
        if static.data.name == "single_input":  # an axis
            unit = jnp.where(jnp.dot(unit, target) < 0, -unit, unit)
        return {"angle": scale.angle(unit, target)}

    measure = parallel.lanes(angle, mesh, static.lane_loop)
    return without_memory(lambda state, hparams, data: measure(state, data))
