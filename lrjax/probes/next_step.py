"""The effect of the next SGD step: how often a step from here raises the training loss, and how far a step can be stretched."""

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
from lrjax.experiment.loop.probe import Probe, without_memory
from lrjax.experiment.step import micro_batches
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.train_step import Engine, StepInputs, TrainState
from lrjax.keys import key
from lrjax.probes.batch_sizes import example_order
from lrjax.spectra.stretch import bracket
from lrjax.spectra.subset import subset_size

RISE = 1.2  # alpha* is the stretch at which the loss is this many times that before the step
CAP = 100.0
PRECISION = 1.01


def find_stretch(loss_at: Callable[[np.ndarray], np.ndarray], lanes: int, cap: float = CAP) -> np.ndarray:
    """The smallest alpha with loss_at(alpha) >= 1.2 loss_at(0), in each lane: doubling from 1/8, then bisection to 1 %.

    Args:
        loss_at: alpha [lanes] -> loss [lanes]; a loss that is not finite counts as high.
        lanes: how many.
        cap: what is returned where no smaller alpha is enough.

    Returns:
        [lanes]; NaN where the loss at 0 is not finite.

    Source: The Break-Even Point on Optimization Trajectories (submission), section 4.1.

    Example:
        >>> float(find_stretch(lambda alpha: (1 - alpha) ** 2, 1)[0].round(1))  # 1 + sqrt(1.2)
        2.1
    """
    # A loss that is not finite is not below the level either.
    _, up, crossed, start = bracket(
        loss_at, lanes, lambda loss, start: ~(loss < RISE * start), cap=cap, precision=PRECISION
    )
    return np.where(np.isfinite(start), np.where(crossed, up, cap), np.nan)


def _programs(static: Config, engine: Engine, mesh: Mesh) -> tuple[Callable, Callable, Callable]:
    """Compiled functions of a block of lanes.

    Returns:
        `(state, hparams, data) -> (loss, losses after each update)`; `(state, hparams, data) -> parameters after the first
        update`; `(state, hparams, data, parameters after, alpha) -> loss at theta + alpha (theta' - theta)`.
    """
    model = models.configured(static, static.data.num_classes)
    settings, size = static.spectra, static.batch_size
    shared = () if DATASETS[static.data.name].per_lane else (2,)

    def loss(weights: Any, state: TrainState, data: Any) -> jax.Array:
        n = data["train"]["y"].shape[0]
        index = example_order(n, settings)[: subset_size(n, settings.examples)]
        x, y = data["train"]["x"][index], data["train"]["y"][index]
        output = micro_batches.outputs(model, weights, state.model_state, x)
        return jnp.mean(LOSSES[static.loss](output, y))

    def stepped(state: TrainState, hparams: HParams, data: Any, number: Any) -> Any:
        order_key = jax.random.fold_in(key(hparams["seed"], "probe", state.step), number)
        index = jax.random.permutation(order_key, data["train"]["y"].shape[0])[:size].astype(jnp.int32)
        row = StepInputs(index, hparams["optimizer.learning_rate"], jnp.bool_(True))
        return engine.update(state, hparams, data, row).params

    def changes(state: TrainState, hparams: HParams, data: Any) -> tuple[jax.Array, jax.Array]:
        before = loss(engine.weights(state.params, hparams, data), state, data)

        def one(number: jax.Array) -> jax.Array:
            return loss(engine.weights(stepped(state, hparams, data, number), hparams, data), state, data)

        return before, jax.lax.map(one, jnp.arange(settings.next_steps))

    def along(state: TrainState, hparams: HParams, data: Any, after: Any, alpha: jax.Array) -> jax.Array:
        params = jax.tree.map(lambda a, b: a + alpha.astype(a.dtype) * (b - a), state.params, after)
        return loss(engine.weights(params, hparams, data), state, data)

    loop = static.lane_loop
    return (
        parallel.lanes(changes, mesh, loop, shared=shared),
        parallel.lanes(lambda s, h, d: stepped(s, h, d, 0), mesh, loop, shared=shared),
        parallel.lanes(along, mesh, loop, shared=shared),
    )


def next_step(static: Config, engine: Engine, mesh: Mesh) -> Probe:
    r"""The effect of `spectra.next_steps` updates, each made from here on a random batch with the rate of the lane.

    The loss L is that of `spectra.examples` fixed training examples, in evaluation mode. One number a lane:

    - delta_loss: mean of L(theta') - L(theta) over the updates theta'; delta_loss_relative: over L(theta);
    - increase_rate: share of the updates with L(theta') > L(theta);
    - alpha_star: smallest alpha with L(theta + alpha (theta' - theta)) >= 1.2 L(theta) for the first update, at most 100, to
      1 %. On a quadratic with minimum zero it is 2.095 / (eta lambda).

    The rate is `optimizer.learning_rate`; a schedule is not followed.

    Source: The Break-Even Point on Optimization Trajectories, section 4.1 (alpha* in the submission, the difference of losses
    in the final version).
    """
    lanes_of_changes, first, stretched = _programs(static, engine, mesh)

    def measure(state: TrainState, hparams: HParams, data: Any) -> dict[str, Any]:
        before, losses = parallel.fetch(lanes_of_changes(state, hparams, data))
        after = first(state, hparams, data)

        def loss_at(alpha: np.ndarray) -> np.ndarray:
            return parallel.fetch(
                stretched(state, hparams, data, after, parallel.put_lanes(alpha.astype(np.float32), mesh))
            )

        differences = losses - before[:, None]
        known = np.isfinite(before)
        mean = np.mean(differences, axis=1)
        return {
            "delta_loss": mean,
            "delta_loss_relative": mean / np.where(before > 0, before, np.nan),
            "increase_rate": np.where(known, np.mean(~(differences <= 0), axis=1), np.nan),
            "alpha_star": find_stretch(loss_at, before.size),
        }

    return without_memory(measure)
