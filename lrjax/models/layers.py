"""Layers for networks that do not know the scale of their weights: normalisation without eps or affine, a frozen head."""

import math
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


def _mean(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The mean with the axes of x; over the last axis after the others, a mean of fewer rows of adjacent numbers."""
    last = x.ndim - 1
    for some in ([axis for axis in axes if axis != last], [axis for axis in axes if axis == last]):
        if some:  # in one reduction, XLA for CPUs takes twice the time over a training step of group norm
            x = x.mean(some, keepdims=True)
    return x


def moments(
    x: jax.Array, axes: tuple[int, ...], axis_name: str | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A pivot, the mean less the pivot, and the biased variance, by the corrected two-pass algorithm.

        d = x - pivot,    var = mean(d^2) - mean(d)^2

    The pivot is a first mean, as a constant of differentiation, since the result does not depend on it. How far it is off
    is known only to the order in which a machine adds, and mean(d) corrects it. Little cancels, and the gradient of a
    normalisation needs two sums over the activations, where that of mean((x - mean)^2) needs four. A variance so small
    beside mean(d^2) that the rounding of these sums can make it is zero: the variance of equal numbers always is.

    Args:
        x: activations.
        axes: to take the mean over.
        axis_name: a mapped axis to take the mean over as well.

    Returns:
        Three arrays with the axes of x, those of `axes` of length 1.

    References:
        Chan, Golub, LeVeque 1983, Algorithms for computing the sample variance: analysis and recommendations.

    Example:
        >>> import jax.numpy as jnp
        >>> pivot, mean, var = moments(jnp.array([[1e4], [1e4 + 1], [1e4 + 2]]), (0,))
        >>> pivot.item(), mean.item(), round(var.item(), 4)
        (10001.0, 0.0, 0.6667)
    """
    of_all = partial(jax.lax.pmean, axis_name=axis_name) if axis_name is not None else lambda part: part
    pivot = of_all(jax.lax.stop_gradient(_mean(x, axes)))
    away = x - pivot
    mean, square = of_all((_mean(away, axes), _mean(jnp.square(away), axes)))
    var = square - jnp.square(mean)
    # What equal numbers leave is the rounding of two sums: number by number, less than half of `count` epsilons of square.
    # The upper bound is for counts so large that no machine adds them one by one.
    count = math.prod(x.shape[axis] for axis in axes)
    rounding = min(max(1e-5, count * float(jnp.finfo(x.dtype).eps)), 1e-2)
    return pivot, mean, jnp.where(var < rounding * square, 0, var)


def inverse_deviation(var: jax.Array, eps: Any) -> jax.Array:
    """`1 / sqrt(var + eps)`, and zero, with a zero derivative, where that would be 1 / 0.

    Args:
        var: variances.
        eps: added to them; a number or a scalar array.

    Example:
        >>> import jax.numpy as jnp
        >>> inverse_deviation(jnp.array([0.0, 4.0]), 0.0).tolist()
        [0.0, 0.5]
    """
    total = var + eps
    dead = total <= 0
    # The inner `where` keeps the infinite derivative at zero out of the gradient. Not rsqrt: its derivative is the power
    # -3/2 of the variance, the first number to leave the range of floats where weights grow without end.
    return jnp.where(dead, 0, 1 / jnp.sqrt(jnp.where(dead, 1, total)))


class Norm(nn.Module):
    """Batch, group, layer or instance normalisation over `[B, ..., C]`, exactly scale invariant at `eps = 0`.

    The running averages of "batch" are those of `flax.linen.BatchNorm` with momentum 0.9 and `use_fast_variance=False`:
    biased variance, without the cancellation of E[x^2] - mean^2. A channel whose variance is zero gives zeros, not NaN.

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
        pivot, mean, var = self._statistics(wide, axes, train) if self.kind == "batch" else moments(view, axes)
        factor, bias = inverse_deviation(var, self._eps()), jnp.zeros((), wide.dtype)
        if self.affine:
            scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
            bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
            shape = (1,) * (x.ndim - 1) + view.shape[x.ndim - 1 :]
            factor, bias = factor * scale.reshape(shape), bias.reshape(shape)
            x = x.astype(jnp.promote_types(x.dtype, scale.dtype))
        # All that is done a channel is done before the activations are read again: a gradient then needs but two sums.
        y = (view - pivot) * factor + (bias - mean * factor)
        return y.reshape(x.shape).astype(self.dtype or x.dtype)

    def _eps(self) -> Any:
        if not self.eps_in_state:
            return self.eps
        return self.variable("norm_eps", "eps", lambda: jnp.float32(self.eps)).value

    def _statistics(self, x: jax.Array, axes: tuple[int, ...], train: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        """As `moments`; the pivot is the running mean in evaluation."""
        shape, features = (1,) * (x.ndim - 1) + x.shape[-1:], x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", lambda: jnp.zeros(features))
        running_var = self.variable("batch_stats", "var", lambda: jnp.ones(features))
        if not train:
            return running_mean.value.reshape(shape), jnp.zeros(shape), running_var.value.reshape(shape)
        pivot, mean, var = moments(x, axes, None if self.is_initializing() else self.axis_name)
        if not self.is_initializing():
            running_mean.value = DECAY * running_mean.value + (1 - DECAY) * (pivot + mean).reshape(features)
            running_var.value = DECAY * running_var.value + (1 - DECAY) * var.reshape(features)
        return pivot, mean, var


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
