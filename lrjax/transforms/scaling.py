"""Normalisation eps, running statistics and clipping thresholds that follow the scale of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from lrjax.errors import check
from lrjax.transforms.leaves import canonical
from lrjax.transforms.log_space import exp_split
from lrjax.transforms.measured_statistics import recompute_statistics, statistic_powers
from lrjax.transforms.plan import refuse_traced, split_power
from lrjax.transforms.settings import check_scalar
from lrjax.transforms.statistics import Powers, is_eps, powers_of, statistic_power

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int32, PyTree

__all__ = [
    "ClipState",
    "clip_by_scaled_norm",
    "correct_statistics",
    "recompute_statistics",
    "scale_eps",
    "scaled_eps",
    "statistic_powers",
]


class ClipState(NamedTuple):
    """State of `clip_by_scaled_norm`.

    Attributes:
        count: updates so far.
        gauge: k of `gauge_rescale`.
    """

    count: Int32[ArrayLike, ""]
    gauge: Int32[Array, ""]


def scaled_eps(eps: ArrayLike, log_scale: ArrayLike, gauge: ArrayLike = 0) -> Float[Array, ""]:
    """The eps of a normalisation in the run without weight decay: eps / P_t^2, times 4^gauge.

    With sigma~ = sigma / P, (x~ - mean~) / sqrt(sigma~^2 + eps / P^2) is what the run with weight decay computes.

    Args:
        eps: of the run with weight decay, a scalar.
        log_scale: log P_t, of the weights that step t reads (`WDFreePlan.log_scale[t]`).
        gauge: sum of the k of `gauge_rescale`.

    Returns:
        A scalar; P_t itself need not be in range.

    References:
        Derived here. The networks of Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, have
        eps = 0, which needs no scaling.

    Example:
        >>> round(float(scaled_eps(1e-5, jnp.log(0.1))), 8), round(float(scaled_eps(1e-5, -69.3147, gauge=-100)), 7)
        (0.001, 1e-05)
    """
    mantissa, exponent = exp_split(-2 * jnp.asarray(log_scale, float), jnp.log(jnp.asarray(eps, float)))
    return jnp.ldexp(mantissa, exponent + 2 * jnp.asarray(gauge, jnp.int32))


def scale_eps(model_state: PyTree, eps: ArrayLike, log_scale: ArrayLike, gauge: ArrayLike = 0) -> PyTree:
    """Sets the eps of every normalisation that keeps it in model_state (models with `eps_in_state=True`) to `scaled_eps`.

    Args:
        model_state: with the collection "norm_eps".
        eps, log_scale, gauge: as for `scaled_eps`. Set it before step t to the value for log P_t.

    Returns:
        model_state with the new eps.

    Raises:
        LrjaxError: model_state has no such collection.

    References:
        Derived here, as `scaled_eps`.

    Example:
        >>> scale_eps({"norm_eps": {"norm1": {"eps": jnp.float32(1e-5)}}}, 1e-5, jnp.log(0.1))
        {'norm_eps': {'norm1': {'eps': Array(0.001, dtype=float32)}}}
    """
    check(
        "norm_eps" in model_state,
        "this model_state holds no eps: build the model with eps_in_state=True, or with eps=0",
    )
    value = scaled_eps(eps, log_scale, gauge)
    return {
        **model_state,
        "norm_eps": jax.tree.map(lambda leaf: value.astype(canonical(leaf).dtype), model_state["norm_eps"]),
    }


def correct_statistics(model_state: PyTree, alpha: ArrayLike, statistics: Powers = statistic_power) -> PyTree:
    """Takes running statistics to the scale of the next step's weights: mean / alpha, variance / alpha^2.

    An average over steps mixes weights of different scale: uncorrected, the variance lags by 1 % at decay 0.9, by 9 % at
    0.99. Call it after each step t with alpha_{t+1} = P_{t+1} / P_t (`WDFreePlan.alpha[t]`).

    Args:
        model_state: after the step, in any form that `gauge_rescale` takes.
        alpha: scalar, positive.
        statistics: power of c by path, as for `gauge_rescale`. eps in model_state is set by `scale_eps` instead.

    Returns:
        model_state with the corrected statistics.

    Raises:
        LrjaxError: naming an array whose power is not known; alpha is not a positive scalar.

    References:
        Derived here from theta_t = P_t theta~_t of Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning,
        section 2.

    Example:
        >>> correct_statistics({"batch_stats": {"n": {"mean": jnp.ones(1), "var": jnp.ones(1)}}}, 0.5)
        {'batch_stats': {'n': {'mean': Array([2.], dtype=float32), 'var': Array([4.], dtype=float32)}}}
    """

    alpha = _positive(alpha, "alpha")
    entries, powers = powers_of(model_state, statistics)

    def correct(leaf: Any, name: str) -> jax.Array:
        leaf = canonical(leaf, name)
        wide = jnp.promote_types(leaf.dtype, jnp.float32)
        return (leaf.astype(wide) / alpha.astype(wide) ** power).astype(leaf.dtype)

    new = []
    for (name, _, leaf), power in zip(entries, powers, strict=True):
        new.append(correct(leaf, name) if power and not is_eps(name) else leaf)
    return jax.tree.unflatten(jax.tree.structure(model_state), new)


def _positive(value: ArrayLike, name: str) -> jax.Array:
    array = jnp.asarray(value, float)
    check(array.ndim == 0, f"{name} must be a scalar, not of shape {array.shape}; map over several by jax.vmap")
    check(isinstance(array, Tracer) or bool(array > 0), f"{name} must be positive, not {value}")
    return array


def clip_by_scaled_norm(max_norm: float, log_scale: Float[np.ndarray, " T+1"]) -> optax.GradientTransformationExtraArgs:
    """`optax.clip_by_global_norm` for the run without weight decay, whose gradients are P_t g: it clips at P_t * max_norm.

    For a chain that clips the gradient before weight decay is added to it: `chain(clip_by_global_norm(c),
    add_decayed_weights(wd), sgd(...))` becomes `chain(clip_by_scaled_norm(c, plan.log_scale), wd_free_sgd(...))`.

    Args:
        max_norm: c, of the run with weight decay; positive.
        log_scale: [T + 1], `WDFreePlan.log_scale`.

    Returns:
        An optax transformation with state `ClipState`, which `gauge_rescale` keeps up to date. Beyond the table NaN.

    Raises:
        LrjaxError: max_norm is not positive.

    References:
        Pascanu et al. (2013), On the Difficulty of Training Recurrent Neural Networks, Algorithm 1; the scale is derived here.

    Example:
        >>> clip = clip_by_scaled_norm(1.0, np.log([1.0, 0.5, 0.25]))
        >>> state = clip.init(None)
        >>> first, state = clip.update(jnp.array([3.0, 4.0]), state)
        >>> second, state = clip.update(jnp.array([3.0, 4.0]), state)
        >>> float(jnp.linalg.norm(first).round(5)), float(jnp.linalg.norm(second).round(5))
        (1.0, 0.5)
    """
    check_scalar("max_norm", max_norm, "clip_by_scaled_norm takes a number")
    refuse_traced("clip_by_scaled_norm", max_norm=max_norm, log_scale=log_scale)
    check(max_norm > 0, f"max_norm must be positive, not {max_norm}")
    log2 = (np.log(max_norm) + np.asarray(log_scale, np.float64)) / np.log(2.0)
    mantissa, exponent = (jnp.asarray(a) for a in split_power(log2))
    mantissa = mantissa.astype(float)

    def init(params: PyTree) -> ClipState:
        return ClipState(jnp.int32(0), jnp.int32(0))

    def update(updates: PyTree, state: Any, params: PyTree = None, **extra_args: Any) -> tuple[PyTree, Any]:
        # In a gauge k gradients are 2^-k P g.
        row = jnp.take(mantissa, state.count, mode="fill"), jnp.take(exponent, state.count, mode="clip")
        threshold = jnp.ldexp(row[0], row[1] - state.gauge)
        # In float32 throughout: optax.tree.norm adds bfloat16 to float32, which strict promotion refuses.
        updates = jax.tree.map(canonical, updates)
        norm = optax.tree.norm(jax.tree.map(lambda g: g.astype(threshold.dtype), updates))
        factor = threshold / jnp.maximum(norm, threshold)
        clipped = jax.tree.map(lambda g: None if g is None else g * factor.astype(g.dtype), updates)
        return clipped, ClipState(optax.safe_increment(state.count), state.gauge)

    return optax.GradientTransformationExtraArgs(init, update)
