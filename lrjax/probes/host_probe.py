"""Probes that go through the lanes on the host, one after the other, each on a fixed subset of its training examples."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax.data import DATASETS
from lrjax.devices import hosts, parallel
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.loop.probe import Probe
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.train_step import Engine, TrainState
from lrjax.spectra.subset import batches_of

# (examples there are, params of a lane) -> (which, in this order; how many a batch)
Pick = Callable[[int, Any], tuple[np.ndarray, int]]


class View(NamedTuple):
    """One lane as curvature operators take it, on the default device: its numbers depend on no other lane and no mesh.

    Attributes:
        variables: {"params", "model_state"} of the model.
        batches: the examples to measure on.
    num_train: training examples, from which they were picked.
        opt_state: of optax.
        hparams: dotted key -> number.
        step: updates done.
        finite: whether the parameters are.
        first: the first lane before its first step, where it is worth looking whether the loss is a function.
    """

    variables: dict[str, Any]
    batches: list[dict[str, jax.Array]]
    num_train: int
    opt_state: Any
    hparams: dict[str, Any]
    step: int
    finite: bool
    first: bool


def _weights(static: Config, engine: Engine, mesh: Mesh) -> Callable:
    """(state, hparams, data) -> parameters of the model [lanes, ...], also where an engine keeps others."""
    shared = () if DATASETS[static.data.name].per_lane else (2,)
    return parallel.lanes(lambda s, h, d: engine.weights(s.params, h, d), mesh, static.lane_loop, shared=shared)


def _views(static: Config, weights: Callable, pick: Pick) -> Callable[..., Callable[[int], View]]:
    per_lane = DATASETS[static.data.name].per_lane

    def batches(train: dict[str, Any], params: Any) -> list[dict[str, jax.Array]]:
        found = batches_of(train, *pick(train["y"].shape[0], params))
        return jax.tree.map(jnp.asarray, parallel.fetch(found))

    def views(state: TrainState, hparams: HParams, data: Any) -> Callable[[int], View]:
        train = {name: data["train"][name] for name in ("x", "y")}
        num_train = train["y"].shape[1 if per_lane else 0]
        variables = {"params": weights(state, hparams, data), "model_state": state.model_state}
        whole = parallel.fetch((variables, state.opt_state, state.step, hparams))
        first = jax.tree.map(lambda a: a[0], whole[0]["params"])
        train = parallel.fetch(train) if per_lane else batches(train, first)

        def view(place: int) -> View:
            own_variables, opt_state, step, numbers = jax.tree.map(lambda a: a[place], whole)
            mine = batches(jax.tree.map(lambda a: a[place], train), first) if per_lane else train
            finite = all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(own_variables["params"]))
            on_device = jax.tree.map(jnp.asarray, own_variables)
            return View(on_device, mine, num_train, opt_state, numbers, int(step), finite, place == 0 == step)

        return view

    return views


def host_probe(
    static: Config,
    engine: Engine,
    mesh: Mesh,
    pick: Pick,
    measure_one: Callable[[View, Any], tuple[dict[str, Any], Any]],
    nothing: dict[str, Any],
    vectors: dict[str, int] | None = None,
) -> Probe:
    """A probe from a measurement of one lane; with several processes each measures some of the lanes.

    A lane is left out, its memory as it was, where its parameters are not finite, and where it has not moved since the last
    measurement: it has ended, or it has diverged.

    Args:
        static, engine, mesh: of the program.
        pick: which examples, and how many at once.
        measure_one: `(view, memory) -> (arrays, memory)` of a lane with finite parameters. What it leaves out is `nothing`.
        nothing: the arrays of a lane that is not measured.
        vectors: name -> k, for a memory of k vectors of the size of the parameters, [k, D] zeros at first.
    """
    weights = _weights(static, engine, mesh)
    views = _views(static, weights, pick)

    def start(state: TrainState, hparams: HParams, data: Any) -> dict[str, Any]:
        leaves = jax.tree.leaves(weights(state, hparams, data))
        lanes = leaves[0].shape[0]
        size = sum(leaf.size for leaf in leaves) // lanes
        dtype = jnp.result_type(jnp.float32, *leaves)
        own = {name: np.zeros((lanes, k, size), dtype) for name, k in (vectors or {}).items()}
        return {"step": np.full(lanes, -1, np.int32), "vectors": own}

    def measure(state: TrainState, hparams: HParams, data: Any, memory: Any, live: int) -> tuple[dict[str, Any], Any]:
        memory = jax.tree.map(np.array, memory)
        view_of = views(state, hparams, data)

        def one(place: int) -> tuple[dict[str, Any], dict[str, Any], int]:
            view = view_of(place)
            if view.step == memory["step"][place] or not view.finite:
                return nothing, {}, memory["step"][place]
            own, after = measure_one(view, {name: array[place] for name, array in memory["vectors"].items()})
            return jax.tree.map(np.asarray, (nothing | own, after)) + (view.step,)

        found = hosts.share_out(live, one)
        for place, (_, after, step) in enumerate(found):
            memory["step"][place] = step
            for name, array in after.items():
                memory["vectors"][name][place] = array
        return {name: np.stack([np.asarray(own[name]) for own, _, _ in found]) for name in nothing}, memory

    return Probe(measure, start)
