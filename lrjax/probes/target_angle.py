"""How far a linear unit is from the direction that it should find."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.experiment.loop.probe import Probe, without_memory
from lrjax.experiment.step import scale
from lrjax.experiment.step.train_step import Engine, TrainState


def truth(static: Any, engine: Engine, mesh: Mesh) -> Probe:
    """The angle between the weights and the truth's axis, in radians: "angle", at most pi / 2 for targets of 0."""

    def angle(state: TrainState, data: Any) -> dict[str, jax.Array]:
        unit, wanted = scale.scale_of(state.params["w"]).unit, data["truth"]
        if static.data.name == "single_input":  # an axis
            unit = jnp.where(jnp.dot(unit, wanted) < 0, -unit, unit)
        return {"angle": scale.angle(unit, wanted)}

    measure = parallel.lanes(angle, mesh, static.lane_loop)
    return without_memory(lambda state, hparams, data: measure(state, data))
