"""The training step, a pure function of arrays. The file to read first.

`train_step` wraps an engine's update with what holds for every experiment: a lane that is over, or has diverged, is frozen;
the average of the iterates; the metrics. An engine makes one update: `direct.py` differentiates any model under any optax
optimizer, `gram.py` works on inner products and is exact for the two-layer network.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from lrjax.experiment.config.canonical import Config
from lrjax.experiment.step import representation, rules
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.representation import NOTHING, Coefficients
from lrjax.keys import key
from lrjax.models.two_layer import INITS

Tree = Any
MATMUL_PRECISIONS = ("float32", "tensorfloat32", "bfloat16")  # of float32 operands; JAX's words


class TrainState(NamedTuple):
    """All that a run carries from step to step."""

    step: jax.Array  # int32, updates done
    params: Tree
    model_state: Tree
    opt_state: Tree
    average: Tree  # average of params over the steps; () where averaging is off
    diverged_at: jax.Array  # int32, the step whose loss was not finite (or above divergence_loss); -1 before
    last_finite_loss: jax.Array
    rule: Tree = ()  # of `lrjax.experiment.step.rules`; () without one


class StepInputs(NamedTuple):
    """What a step reads beside its state."""

    index: Any  # int32 [batch_size], examples
    learning_rate: Any
    active: Any  # bool, False once the lane has done its steps
    coefficients: Coefficients = NOTHING  # what the step reads of a representation without weight decay


class Update(NamedTuple):
    """What an engine returns: the new values and the loss before them."""

    params: Tree
    model_state: Tree
    opt_state: Tree
    loss: jax.Array
    metrics: dict[str, jax.Array]
    observed: dict[str, jax.Array] = {}  # for the rule


class Engine(NamedTuple):
    """How parameters start, how one update is made, and which weights of the model they stand for."""

    init: Callable  # (hparams, data, key) -> (params, model_state, opt_state)
    update: Callable  # (state, hparams, data, row, *, axis_name) -> Update
    weights: Callable  # (params, hparams, data) -> params of the model


def step_metrics(output: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """Per-step record: the margin y f (one output; mean over a batch) or the accuracy (several classes)."""
    if output.ndim == 1:
        return {"margin": jnp.mean(output * y)}
    return {"accuracy": jnp.mean(jnp.argmax(output, axis=-1) == y)}


def targets(static: Config, hparams: HParams, y: jax.Array, step: jax.Array) -> jax.Array:
    """Labels of a batch, with fresh noise of +-label_noise where that is on."""
    if "label_noise" not in hparams:
        return y
    noise_key = key(hparams["seed"], "step", step)
    return y + hparams["label_noise"] * jax.random.rademacher(noise_key, y.shape, y.dtype)


def initial_params(model: Any, static: Config, hparams: HParams, data: Tree, init_key: jax.Array) -> tuple[Tree, Tree]:
    """Parameters and model state at step 0: by `model.init` of the config where it is named, else the model's own."""
    start = INITS.get(static.model.get("init"))
    if start is None:
        return model.init(init_key, data["train"]["x"][:1])
    return start(static, hparams, data, init_key), {}


def init_state(engine: Engine, static: Config, hparams: HParams, data: Tree) -> TrainState:
    """The state before the first step; a pure function of hparams (its seed) and data."""
    params, model_state, opt_state = engine.init(hparams, data, key(hparams["seed"], "init"))
    average = () if static.averaging is None else jax.tree.map(jnp.array, params)
    never, loss = jnp.int32(-1), jnp.float32(jnp.nan)
    rule = rules.init(static.rule)
    return TrainState(jnp.int32(0), params, model_state, opt_state, average, never, loss, rule)


def schedule_free_average(opt_state: Tree, params: Tree) -> Tree:
    """x of schedule-free training, which is the average to evaluate; the parameters are y = (1 - b) z + b x."""
    kind = optax.contrib.ScheduleFreeState
    states = jax.tree.leaves(opt_state, is_leaf=lambda part: isinstance(part, kind))
    return optax.contrib.schedule_free_eval_params(next(s for s in states if isinstance(s, kind)), params)


def _averaged(static: Config, hparams: HParams, state: TrainState, params: Tree, opt_state: Tree) -> Tree:
    if static.averaging is None:
        return ()
    if static.averaging == "schedule_free":
        return schedule_free_average(opt_state, params)
    since = jnp.maximum(state.step - hparams["averaging_start"], 0).astype(jnp.float32)
    uniform = 1.0 / (since + 1.0)
    weight = uniform if static.averaging == "uniform" else 1.0 - hparams["averaging_decay"]
    return jax.tree.map(lambda old, new: old + weight.astype(old.dtype) * (new - old), state.average, params)


def row_metrics(row: StepInputs) -> dict[str, jax.Array]:
    """What a row already says of its step (or of several): the learning rate and, of a single example, its index.

    Without weight decay, `learning_rate` is still the config's schedule, of a run with it; log10_learning_rate is what the
    step used and log10_scale the log10 P with theta = P theta~.
    """
    known = {"learning_rate": row.learning_rate}
    if row.index.shape[-1] == 1:
        known["example"] = row.index[..., 0]
    if row.coefficients.l2 is not None:
        known["l2"] = row.coefficients.l2
    if row.coefficients.tables is not None:
        known["log10_learning_rate"] = representation.log10_rate(row.coefficients.tables)
        known["log10_scale"] = row.coefficients.log10_scale
    return known


def train_step(
    engine: Engine,
    static: Config,
    state: TrainState,
    hparams: HParams,
    data: Tree,
    row: StepInputs,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of one lane.

    Args:
        engine, static: what is compiled in.
        state: the lane's state; it stands still where `row.active` is False or the lane has diverged.
        hparams: dotted key -> scalar array: every number that may change without a recompile.
        data: `{"train": {"x", "y"}, ...}`.
        row: batch indices, learning rate, active.
        axis_name: set under `jax.pmap`, to average gradients over devices.

    Returns:
        The new state, and scalars: loss (before the update), learning_rate, and what the engine adds.
    """
    if state.rule:
        row = row._replace(learning_rate=row.learning_rate * state.rule.scale)
    with jax.default_matmul_precision(static.matmul_precision):  # also of the convolutions; read as the step is traced
        new = engine.update(state, hparams, data, row, axis_name=axis_name)
    running = row.active & (state.diverged_at < 0)
    if state.rule:
        running &= state.rule.stopped_at < 0
    finite = jnp.isfinite(new.loss) & (new.loss <= hparams["divergence_loss"])
    moves = running & finite

    def keep(after: Tree, before: Tree) -> Tree:
        return jax.tree.map(lambda a, b: jnp.where(moves, a, b), after, before)

    state = TrainState(
        step=state.step + moves.astype(jnp.int32),
        params=keep(new.params, state.params),
        model_state=keep(new.model_state, state.model_state),
        opt_state=keep(new.opt_state, state.opt_state),
        average=keep(_averaged(static, hparams, state, new.params, new.opt_state), state.average),
        diverged_at=jnp.where(running & ~finite, state.step, state.diverged_at),
        last_finite_loss=jnp.where(moves, new.loss.astype(jnp.float32), state.last_finite_loss),
        rule=keep(rules.advance(static.rule, state.rule, state.step, new.loss, new.observed), state.rule)
        if state.rule
        else (),
    )
    return state, {"loss": new.loss, **new.metrics, **row_metrics(row)}
