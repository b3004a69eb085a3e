"""Loss and gradient of a batch, taken a few examples at a time: what a convolution writes then stays in the cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lrjax.config import check

Tree = Any
ON_CPU = 16  # examples; measured by `python -m tests.benchmarks.speed --parts=micro_batch`


def size(asked: int, x: jax.ShapeDtypeStruct | jax.Array, model_state: Tree) -> int:
    """How many examples of a batch a gradient sees at once.

    Args:
        asked: the config's `micro_batch`; 0 leaves the choice to lrjax: on a CPU the largest divisor of the batch up to 16
            where the inputs are images and the model has no statistics over a batch, else the whole batch.
        x: the inputs `[B, ...]`.
        model_state: as from `model.init`. With "batch_stats" in it a part of a batch would not have the batch's statistics.

    Raises:
        LrjaxError: `asked` does not divide the batch, or the model has BatchNorm.

    Example:
        >>> size(0, jax.ShapeDtypeStruct((100, 7), "float32"), {}), size(25, jax.ShapeDtypeStruct((100, 7), "float32"), {})
        (100, 25)
    """
    whole = x.shape[0]
    statistics = "batch_stats" in model_state
    if asked == 0:
        if statistics or x.ndim != 4 or jax.default_backend() != "cpu":
            return whole
        divisor = max(part for part in range(1, min(ON_CPU, whole) + 1) if whole % part == 0)
        return divisor if divisor >= ON_CPU // 2 else whole
    check(whole % asked == 0, f"micro_batch={asked} must divide batch_size={whole}")
    reason = "BatchNorm takes its statistics over the whole batch"
    check(asked == whole or not statistics, f"micro_batch={asked} is not possible: {reason}; set micro_batch=0")
    return asked


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
