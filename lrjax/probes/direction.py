"""Weights as length and direction, for networks whose outputs depend on the direction alone."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe
from lrjax.experiment.step import representation
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.scale import angle, scale_of
from lrjax.experiment.step.train_step import Engine, TrainState


def _lengths(params: Any) -> jax.Array:
    """Euclidean norm of each array, [arrays]."""
    return jnp.stack([jnp.sqrt(jnp.sum(jnp.square(leaf.astype(jnp.float32)))) for leaf in jax.tree.leaves(params)])


def _angles(before: Any, after: Any) -> jax.Array:
    """Angle between each array and what it was, [arrays], accurate where it is small."""
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return jnp.stack([angle(*(scale_of([leaf]).unit for leaf in pair)) for pair in pairs])


def direction(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    """Angle of the weights to those of the last measurement, and their norm, by array and in all.

    It remembers the direction of the last measurement. Arrays: log10_norm (of all trained weights as one vector, in the
    representation of the run and without its gauge), angle (radians since the last measurement, 0 at the first),
    array_log10_norm and array_angle [arrays], in the order of `jax.tree.leaves(params)`.

    Source: Li & Arora 2020, An Exponential Learning Rate Schedule for Deep Learning, figures 1 and 2.
    """

    def start(state: TrainState) -> Any:
        return scale_of(state.params).unit

    def measure(state: TrainState, last: Any) -> tuple[dict[str, jax.Array], Any]:
        scale = scale_of(state.params)
        gauge = representation.gauge(state.opt_state) * jnp.log10(2.0)
        found = {
            "log10_norm": jnp.log10(scale.norm) - gauge,
            "angle": angle(last, scale.unit),
            "array_log10_norm": jnp.log10(jnp.maximum(_lengths(state.params), 1e-30)) - gauge,
            "array_angle": _angles(last, scale.unit),
        }
        return found, scale.unit

    begin = parallel.lanes(start, mesh, static.lane_loop)
    read = parallel.lanes(measure, mesh, static.lane_loop)

    def measured(state: TrainState, hparams: HParams, data: Any, memory: Any, live: int) -> tuple[dict[str, Any], Any]:
        return read(state, memory)

    return Probe(measured, lambda state, hparams, data: begin(state))
