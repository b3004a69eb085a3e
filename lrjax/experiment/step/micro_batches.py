"""Evaluation and gradients in micro-batches, whose activations fit the caches of a CPU."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrjax.devices.accelerators import platform
from lrjax.devices.parallel import examples_at_once
from lrjax.errors import check
from lrjax.models.model import Model

Tree = Any


def size(asked: int, batch_size: int, params: Tree, model_state: Tree) -> int:
    """How many examples of a batch a gradient sees at once.

    Args:
        asked: the config's `micro_batch`; 0 leaves the choice to lrjax: the largest divisor of the batch that is no more than
            `lrjax.devices.parallel.examples_at_once`, or the whole batch where that is less than half of it.
        batch_size: B.
        params, model_state: as from `model.init`. With "batch_stats" a part of a batch would not have the batch's statistics.

    Raises:
        LrjaxError: `asked` does not divide the batch, or the model has BatchNorm.

    Example:
        >>> dense = {"kernel": jnp.ones((784, 10))}
        >>> size(0, 100, dense, {}), size(25, 100, dense, {})
        (100, 25)
    """
    statistics = "batch_stats" in model_state
    if asked == 0:
        wanted = examples_at_once(params, statistics)
        if statistics or batch_size <= wanted or platform() != "cpu":
            return batch_size
        divisor = max(part for part in range(1, wanted + 1) if batch_size % part == 0)
        return divisor if 2 * divisor >= wanted else batch_size
    check(batch_size % asked == 0, f"micro_batch={asked} must divide batch_size={batch_size}")
    reason = "BatchNorm takes its statistics over the whole batch"
    check(asked == batch_size or not statistics, f"micro_batch={asked} is not possible: {reason}; set micro_batch=0")
    return asked


def outputs(model: Model, params: Tree, model_state: Tree, x: jax.Array) -> jax.Array:
    """What a network says of examples in evaluation mode, a few of them at a time where `size` says that this is faster.

    Args:
        model: as `lrjax.models.build_model` makes it.
        params, model_state: as from `model.init`.
        x: `[N, ...]`.

    Returns:
        `[N, ...]`, what `model.apply(params, model_state, x, train=False)` gives for all at once.

    Example:
        >>> from lrjax.models import build_model
        >>> model = build_model({"name": "mlp", "widths": (4,), "norm": "none"}, num_classes=3)
        >>> params, model_state = model.init(jax.random.key(0), jnp.ones((2, 6)))
        >>> outputs(model, params, model_state, jnp.ones((5, 6))).shape
        (5, 3)
    """

    def of_part(own: jax.Array) -> jax.Array:
        return model.apply(params, model_state, own, train=False)[0]

    whole = x.shape[0]
    part = size(0, whole, params, {})  # running statistics, where there are any, are the same for every part
    if part == whole:
        return of_part(x)
    found = jax.lax.map(of_part, x.reshape(-1, part, *x.shape[1:]))
    return found.reshape(whole, *found.shape[2:])


def value_and_grad(objective: Callable, params: Tree, batch: Tree, key: jax.Array, part: int) -> tuple[Any, Tree]:
    """`jax.value_and_grad(objective, has_aux=True)` as the mean over parts of a batch.

    A part takes every (B / part)-th example, so that each device of a mesh keeps its own. Beyond one part, what the model
    draws at random (dropout) comes from a key of the part.

    Args:
        objective: `(params, batch, key) -> (mean loss, (model_state, outputs [B, ...]))`.
        params: where to differentiate.
        batch: tree of `[B, ...]`.
        key: handed on to the objective.
        part: examples at once; divides B.

    Returns:
        `((loss, (model_state, outputs)), gradient)`, with outputs in the order of the batch.

    Example:
        >>> def objective(w, x, key):
        ...     return jnp.mean((w * x) ** 2), ({}, w * x)
        >>> (loss, (_, outputs)), slope = value_and_grad(objective, 2.0, jnp.arange(4.0), jax.random.key(0), 2)
        >>> float(loss), outputs.tolist(), float(slope)
        (14.0, [0.0, 2.0, 4.0, 6.0], 14.0)
    """
    one = jax.value_and_grad(objective, has_aux=True)
    whole = jax.tree.leaves(batch)[0].shape[0]
    if part == whole:
        return one(params, batch, key)
    count = whole // part
    parts = jax.tree.map(lambda a: jnp.swapaxes(a.reshape(part, count, *a.shape[1:]), 0, 1), batch)

    def add(total: Tree, number_and_part: Any) -> tuple[Tree, Any]:
        number, own = number_and_part
        (loss, (model_state, outputs)), gradient = one(params, own, jax.random.fold_in(key, number))
        return jax.tree.map(jnp.add, total, gradient), (loss, model_state, outputs)

    # Made from the parameters: inside `shard_map` a plain zero would not vary over the mesh as the gradient does.
    zero = jax.tree.map(lambda p: 0 * p, params)
    gradient, (losses, states, outputs) = jax.lax.scan(add, zero, (jnp.arange(count), parts))
    outputs = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1).reshape(whole, *a.shape[2:]), outputs)
    last = jax.tree.map(lambda a: a[-1], states)
    return (jnp.mean(losses), (last, outputs)), jax.tree.map(lambda g: g / count, gradient)
