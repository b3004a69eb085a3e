"""The direct engine: it differentiates any network, under any loss and optax optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from lrjax import models
from lrjax.data.augment import AUGMENTATIONS
from lrjax.experiment.config.canonical import Config
from lrjax.experiment.config.optimizers import optimizer_of
from lrjax.experiment.step import fine_tuning, micro_batches, representation, rules
from lrjax.experiment.step.hparams import HParams
from lrjax.experiment.step.losses import LOSSES
from lrjax.experiment.step.representation import NOTHING, Coefficients
from lrjax.experiment.step.scale import angle, scale_of
from lrjax.experiment.step.train_step import (
    Engine,
    StepInputs,
    TrainState,
    Tree,
    Update,
    initial_params,
    row_metrics,
    step_metrics,
    targets,
)
from lrjax.keys import key
from lrjax.transforms.sgd import follow_row


def optimizer(
    static: Config, hparams: HParams, learning_rate: jax.Array, coefficients: Coefficients = NOTHING
) -> optax.GradientTransformation:
    """The optax chain for this step; it is built inside the traced function, so that its numbers are arguments."""
    if coefficients.tables is not None:
        return follow_row(coefficients.tables)
    settings: dict[str, Any] = dict(static.optimizer.items()) | {
        k.removeprefix("optimizer."): v for k, v in hparams.items() if k.startswith("optimizer.")
    }
    name, l2 = settings.pop("name"), settings.pop("l2")
    settings.pop("learning_rate", None)
    chain = optimizer_of(name)(learning_rate, **{k: v for k, v in settings.items() if v is not None})
    return (
        chain
        if l2 is None
        else optax.chain(optax.add_decayed_weights(l2 if coefficients.l2 is None else coefficients.l2), chain)
    )


def scale_metrics(state: TrainState, hparams: HParams, row: StepInputs, params: Tree) -> dict[str, jax.Array]:
    """Per-step record of the weights as length and direction (`record_scale`).

    Returns:
        log10_norm: log10 |theta|, in the representation of the run but not in its gauge; log10_effective_rate:
        log10 (eta / |theta|^2); angle: between the weights before and after the step, in radians.
    """
    before, after = scale_of(state.params), scale_of(params)
    log10_norm = jnp.log10(before.norm) - representation.gauge(state.opt_state) * jnp.log10(2.0)
    rate = row_metrics(row).get("log10_learning_rate", jnp.log10(row.learning_rate))
    return {
        "log10_norm": log10_norm,
        "log10_effective_rate": rate - 2 * log10_norm,
        "angle": angle(before.unit, after.unit),
    }


def _doubled(leaf: jax.Array) -> jax.Array:
    """A floating-point array in float64; another one as it is."""
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def direct(static: Config, num_classes: int, shard_batch: Callable = lambda batch: batch) -> Engine:
    """The engine that differentiates the model: any network, loss and optax optimizer.

    Args:
        static: what is compiled in of the resolved config.
        num_classes: outputs of the model.
        shard_batch: lays a batch out over devices (`lrjax.devices.parallel`).
    """
    model = models.configured(static, num_classes, training=True)
    example_loss, augment = LOSSES[static.loss], AUGMENTATIONS[static.augment]

    def init(hparams: HParams, data: Tree, init_key: jax.Array) -> tuple[Tree, Tree, Tree]:
        params, model_state = initial_params(model, static, hparams, data, init_key)
        if static.compute_dtype == "float64":
            params, model_state = jax.tree.map(_doubled, (params, model_state))
        if static.representation == "weight_decay":
            return params, model_state, optimizer(static, hparams, jnp.float32(0)).init(params)
        return params, model_state, representation.initial(static, params)

    def update(
        state: TrainState, hparams: HParams, data: Tree, row: StepInputs, *, axis_name: str | None = None
    ) -> Update:
        batch = shard_batch(jax.tree.map(lambda a: a[row.index], {k: data["train"][k] for k in ("x", "y")}))
        y = targets(static, hparams, batch["y"], state.step)

        augment_key, model_key = jax.random.split(key(hparams["seed"], "step", state.step))
        x = augment(augment_key, batch["x"])

        def objective(params: Tree, part: Tree, part_key: jax.Array) -> tuple[jax.Array, tuple[Tree, jax.Array]]:
            params = fine_tuning.trained(static, params)
            train = fine_tuning.trains_body(static)
            output, model_state = model.apply(params, state.model_state, part["x"], train=train, key=part_key)
            return jnp.mean(example_loss(output, part["y"])), (model_state, output)

        # With statistics of each part, running ones are those of the last part.
        coupled = state.model_state if static.batch_statistics == "batch" else {}
        part = micro_batches.size(static.micro_batch, x.shape[0], state.params, coupled)
        (loss, (model_state, output)), gradient = micro_batches.value_and_grad(
            objective, state.params, {"x": x, "y": y}, model_key, part
        )
        metrics = step_metrics(output, batch["y"])
        if axis_name is not None:
            gradient, loss, model_state, metrics = jax.lax.pmean((gradient, loss, model_state, metrics), axis_name)
        chain = optimizer(static, hparams, row.learning_rate, row.coefficients)
        updates, opt_state = chain.update(gradient, state.opt_state, state.params)
        updates = fine_tuning.scaled(static, updates)
        rule = rules.RULES[static.rule.name]
        observed = (
            rule.observe(hparams, row.learning_rate, state.params, gradient, opt_state) if rule and rule.observe else {}
        )
        params = optax.apply_updates(state.params, updates)
        if static.record_scale:
            metrics |= scale_metrics(state, hparams, row, params)
        return Update(
            params, representation.followed(model_state, row.coefficients), opt_state, loss, metrics, observed
        )

    return Engine(init, update, weights=lambda params, hparams, data: params)
