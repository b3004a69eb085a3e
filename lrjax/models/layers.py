"""Layers for networks that do not know the scale of their weights: normalisation without eps or affine, a frozen head."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from lrjax.models.model import lookup

DECAY = 0.9  # of running averages


def _over_batch(x: jax.Array, groups: int) -> tuple[tuple[int, ...], jax.Array]:
    return tuple(range(x.ndim - 1)), x


def _over_channels(x: jax.Array, groups: int) -> tuple[tuple[int, ...], jax.Array]:
    grouped = x.reshape((*x.shape[:-1], groups, x.shape[-1] // groups))
    return (*range(1, x.ndim - 1), x.ndim), grouped


# name -> (axes of one mean, view of x); one group is layer norm, a group a channel is instance norm.
KINDS = {
    "batch": _over_batch,
    "group": _over_channels,
    "layer": lambda x, groups: _over_channels(x, 1),
    "instance": lambda x, groups: _over_channels(x, x.shape[-1]),
}


def standardize(x: jax.Array, mean: jax.Array, var: jax.Array, eps: Any) -> jax.Array:
    """`(x - mean) / sqrt(var + eps)`, and zero, with zero derivatives, where that would be 0 / 0.

    Args:
        x: activations.
        mean, var: statistics, of shapes that broadcast against `x`.
        eps: added to the variance; a number or a scalar array.

    Returns:
        The standardized activations.

    Example:
        >>> import jax.numpy as jnp
        >>> standardize(jnp.array([2.0, 3.0]), jnp.array([1.0]), jnp.array([0.0]), 0.0).tolist()
        [0.0, 0.0]
    """
    total = var + eps
    dead = total <= 0
    # The inner `where` keeps the infinite derivative at zero out of the gradient. Not rsqrt: its derivative is the power
    # -3/2 of the variance, the first number to leave the range of floats where weights grow without end.
    return (x - mean) * jnp.where(dead, 0, 1 / jnp.sqrt(jnp.where(dead, 1, total)))


class Norm(nn.Module):
    """Batch, group, layer or instance normalisation over `[B, ..., C]`, exactly scale invariant at `eps = 0`.

    The running averages of "batch" are those of `flax.linen.BatchNorm` with momentum 0.9 and `use_fast_variance=False`:
    biased variance, as the mean of (x - mean)^2. A channel whose variance is zero gives zeros, not NaN.

    Attributes:
        kind: "batch", "group", "layer", "instance" or "none", which returns its input.
        affine: multiply by a trainable scale [C] and add a trainable bias [C].
        eps: added to the variance.
        eps_in_state: keep eps in the collection "norm_eps", where it can follow the scale of the weights
            (`lrjax.transforms.scaling.scale_eps`) without a recompile.
        groups: number of groups of channels of "group".
        axis_name: a mapped axis over which statistics of "batch" are averaged.
        dtype: dtype of the result; None takes that of inputs and parameters. Statistics are float32 at least.
    """

    kind: str = "batch"
    affine: bool = True
    eps: float = 1e-5
    eps_in_state: bool = False
    groups: int = 8
    axis_name: str | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Activations `[B, ..., C]` to activations of the same shape."""
        if self.kind == "none":
            return x
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        axes, view = lookup(KINDS, self.kind, "norm")(wide, self.groups)
        eps = self._eps()
        if self.kind == "batch":
            mean, var = self._statistics(wide, axes, train)
        else:
            mean = view.mean(axes, keepdims=True)
            var = jnp.square(view - mean).mean(axes, keepdims=True)
        y = standardize(view, mean, var, eps).reshape(x.shape)
        if self.affine:
            shape = (1,) * (x.ndim - 1) + x.shape[-1:]
            scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
            bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
            y = y * scale.reshape(shape) + bias.reshape(shape)
            x = x.astype(jnp.promote_types(x.dtype, scale.dtype))
        return y.astype(self.dtype or x.dtype)

    def _eps(self) -> Any:
        if not self.eps_in_state:
            return self.eps
        return self.variable("norm_eps", "eps", lambda: jnp.float32(self.eps)).value

    def _statistics(self, x: jax.Array, axes: tuple[int, ...], train: bool) -> tuple[jax.Array, jax.Array]:
        shape, features = (1,) * (x.ndim - 1) + x.shape[-1:], x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(features))
        running_var = self.variable("batch_stats", "var", lambda: jnp.ones(features))
        if not train:
            return running_mean.value.reshape(shape), running_var.value.reshape(shape)
        mean = self._over_devices(x.mean(axes, keepdims=True))
        var = self._over_devices(jnp.square(x - mean).mean(axes, keepdims=True))
        if not self.is_initializing():
            running_mean.value = DECAY * running_mean.value + (1 - DECAY) * mean.reshape(features)
            running_var.value = DECAY * running_var.value + (1 - DECAY) * var.reshape(features)
        return mean, var

    def _over_devices(self, value: jax.Array) -> jax.Array:
        if self.axis_name is None or self.is_initializing():
            return value
        return jax.lax.pmean(value, self.axis_name)


class FrozenDense(nn.Module):
    """A linear map without bias whose weights, N(0, 1 / fan-in), lie in the collection "frozen".

    They are model state, not parameters, so that no optimizer, decay or rescaling can move them.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, C]` to `[B, features]`."""
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        shape = (x.shape[-1], self.features)
        kernel = self.variable("frozen", "kernel", lambda: init(self.make_rng("params"), shape))
        return x @ kernel.value


def free_head(features: int, name: str) -> nn.Module:
    """A dense layer with bias; it has no dtype of its own, so that logits are never bfloat16."""
    return nn.Dense(features, name=name)


def frozen_head(features: int, name: str) -> nn.Module:
    """`FrozenDense`."""
    return FrozenDense(features, name=name)


HEADS = {"free": free_head, "frozen": frozen_head}


def norm_layer(model_config: Any, *, kind: str, affine: bool = True, eps: float = 1e-5) -> Callable[..., Norm]:
    """The `Norm` that a model's options ask for: a function from `name` to the layer.

    Args:
        model_config: mapping with the optional keys `norm`, `affine`, `eps`, `eps_in_state` (False), `groups` (8),
            `axis_name` (None) and `dtype` (None).
        kind, affine, eps: what the model takes where its config says nothing.

    Raises:
        LrjaxError: for an unknown norm.

    Example:
        >>> norm_layer({"eps": 0.0}, kind="batch")(name="norm1").eps
        0.0
    """
    kind = model_config.get("norm", kind)
    lookup({**KINDS, "none": None}, kind, "norm")
    return partial(
        Norm,
        kind=kind,
        affine=model_config.get("affine", affine),
        eps=model_config.get("eps", eps),
        eps_in_state=model_config.get("eps_in_state", False),
        groups=model_config.get("groups", 8),
        axis_name=model_config.get("axis_name"),
        dtype=model_config.get("dtype"),
    )
