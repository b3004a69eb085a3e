"""Flax Linen modules as (init, apply) on plain nested dicts, and the normalisation layers that models share."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax

from lrjax.models.conv.convolution import conv_general_dilated
from lrjax.models.layers import Norm
from lrjax.models.model import REMATERIALISES, Model

# `nn.Conv` with the convolution of this package; Linen asks for a function that returns it.
Conv = partial(nn.Conv, conv_general_dilated_cls=lambda: conv_general_dilated)


def through(block: Callable, module: nn.Module, *inputs: jax.Array) -> jax.Array:
    """`block(module, *inputs)`; where the model rematerialises, a backward pass keeps the inputs and computes it again.

    Args:
        block: a function of a module and arrays.
        module: one that was made before, or the one that calls this.
        inputs: arrays.
    """
    return nn.remat(block)(module, *inputs) if REMATERIALISES.get() else block(module, *inputs)


def from_linen(module: nn.Module) -> Model:
    """Turns a Linen module with `__call__(x, *, train)` into a `Model`.

    Every collection but "params" becomes model state. It is updated by `apply(..., train=True)` alone; `key` feeds the
    module's "dropout" stream.

    Args:
        module: a Linen module whose `__call__` takes `x` and the keyword `train`.

    Returns:
        The module as pure functions of plain nested dicts.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> class Linear(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x, *, train):
        ...         return nn.Dense(2)(x)
        >>> params, model_state = from_linen(Linear()).init(jax.random.key(0), jnp.ones((4, 3)))
        >>> params["Dense_0"]["kernel"].shape, model_state
        ((3, 2), {})
    """

    def init(key, x):
        collections = dict(module.init(key, x, train=False))
        params = collections.pop("params")
        return params, collections

    def apply(params, model_state, x, *, train: bool, key=None):
        collections = {"params": params, **model_state}
        rngs = None if key is None else {"dropout": key}
        if train and model_state:
            return module.apply(collections, x, train=train, rngs=rngs, mutable=list(model_state))
        return module.apply(collections, x, train=train, rngs=rngs), model_state

    return Model(init, apply)


def batch_norm(x: jax.Array, name: str, *, train: bool, axis_name: str | None = None, dtype: Any = None) -> jax.Array:
    """BatchNorm with statistics over `[B, H, W]`; to be called inside a compact Linen method.

    The statistics are those of the whole batch: over all devices under `jit` with shardings, over `axis_name` under
    `pmap`. The running averages have momentum 0.9.

    Args:
        x: activations `[B, H, W, C]`.
        name: the layer's name in `params` and `batch_stats`.
        train: use the statistics of this batch if true, the running averages otherwise.
        axis_name: a mapped axis to average over.
        dtype: compute dtype; None takes that of inputs and parameters.

    Returns:
        Activations `[B, H, W, C]`.
    """
    return Norm(kind="batch", axis_name=axis_name, dtype=dtype, name=name)(x, train=train)


def no_norm(x: jax.Array, name: str, *, train: bool, axis_name: str | None = None, dtype: Any = None) -> jax.Array:
    """Returns `x`: takes the place of `batch_norm` in a network without normalisation."""
    del name, train, axis_name, dtype
    return x


NORMS = {"batch": batch_norm, "none": no_norm}
