"""How far a linear unit is from the direction that it should find."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lrjax import parallel
from lrjax.probes.protocol import Probe, without_memory
from lrjax.step import Engine, TrainState


def truth(structure: Any, engine: Engine, mesh: Mesh) -> Probe:
    """The angle between the weights and the truth's axis, in radians: "angle", at most pi / 2 for targets of 0."""

    def angle(state: TrainState, data: Any) -> dict[str, jax.Array]:
        w, wanted = state.params["w"], data["truth"]
        cosine = jnp.dot(w, wanted) / jnp.linalg.norm(w)
        cosine = jnp.abs(cosine) if structure.data.name == "single_input" else cosine
        return {"angle": jnp.arccos(jnp.clip(cosine, -1.0, 1.0))}

    measure = parallel.lanes(angle, mesh, structure.lane_loop)
    return without_memory(lambda state, hyper, data: measure(state, data))
