"""Normalisation eps, running statistics and clipping thresholds that follow the scale of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from lrjax.errors import check, path_of
from lrjax.transforms.gauge import STATISTICS, Powers, statistic_power
from lrjax.transforms.log_space import exp_split
from lrjax.transforms.plan import split_power

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int32, PyTree


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
    return {**model_state, "norm_eps": jax.tree.map(lambda leaf: value.astype(leaf.dtype), model_state["norm_eps"])}


def correct_statistics(model_state: PyTree, alpha: ArrayLike, statistics: Powers = statistic_power) -> PyTree:
    """Takes running statistics to the scale of the next step's weights: mean / alpha, variance / alpha^2.

    An average over steps mixes weights of different scale: uncorrected, the variance lags by 1 % at decay 0.9, by 9 % at
    0.99. Call it after each step t with alpha_{t+1} = P_{t+1} / P_t (`WDFreePlan.alpha[t]`).

    Args:
        model_state: after the step.
        alpha: scalar.
        statistics: power of c by path, as for `gauge_rescale`. eps in model_state is set by `scale_eps` instead.

    Returns:
        model_state with the corrected statistics.

    References:
        Derived here from theta_t = P_t theta~_t of Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning,
        section 2.

    Example:
        >>> correct_statistics({"batch_stats": {"n": {"mean": jnp.ones(1), "var": jnp.ones(1)}}}, 0.5)
        {'batch_stats': {'n': {'mean': Array([2.], dtype=float32), 'var': Array([4.], dtype=float32)}}}
    """

    def correct(path: Any, leaf: jax.Array) -> jax.Array:
        name = path_of(path)
        power = 0 if name.startswith("norm_eps/") else _power(statistics, name)
        return leaf / jnp.asarray(alpha, leaf.dtype) ** power if power else leaf

    return jax.tree_util.tree_map_with_path(correct, model_state)


def recompute_statistics(
    apply: Callable[..., tuple[PyTree, PyTree]],
    params: optax.Params,
    model_state: PyTree,
    batches: Iterable[Float[Array, "B ..."]],
    *,
    decay: float = 0.9,
) -> PyTree:
    """Replaces running statistics by those of the present weights over some batches, for an evaluation.

    Means and variances are those of all examples together: the mean of the batch variances plus the variance of the
    batch means. Batches have the same size, such as the training batches of `lrjax.data`.

    Args:
        apply: `apply(params, model_state, x, *, train) -> (outputs, model_state)` of a `Model`; jit it before.
        params, model_state: of the step.
        batches: inputs `[B, ...]`, at least one.
        decay: of the running averages in `apply`.

    Returns:
        model_state with the new statistics.

    Raises:
        LrjaxError: no batch, or a model without running statistics.

    References:
        Ioffe & Szegedy (2015), Batch Normalization, Algorithm 2: population statistics from several batches.

    Example:
        >>> def apply(params, state, x, *, train):
        ...     mean, var = state["batch_stats"]["norm"]["mean"], state["batch_stats"]["norm"]["var"]
        ...     new = {"mean": 0.9 * mean + 0.1 * x.mean(0), "var": 0.9 * var + 0.1 * x.var(0)}
        ...     return x, {"batch_stats": {"norm": new}}
        >>> state = {"batch_stats": {"norm": {"mean": jnp.zeros(1), "var": jnp.ones(1)}}}
        >>> x = jnp.array([[1.0], [3.0], [5.0], [7.0]])
        >>> new = recompute_statistics(apply, {}, state, [x[:2], x[2:]])["batch_stats"]["norm"]
        >>> float(new["mean"][0].round(4)), float(new["var"][0].round(4)), float(x.var())
        (4.0, 5.0, 5.0)
    """
    check("batch_stats" in model_state, "this network keeps no running statistics: model_state has no 'batch_stats'")
    zero = {**model_state, "batch_stats": jax.tree.map(jnp.zeros_like, model_state["batch_stats"])}
    rows = []
    for x in batches:
        _, state = apply(params, zero, x, train=True)
        rows.append(jax.tree.map(lambda leaf: leaf / (1 - decay), state["batch_stats"]))
    check(len(rows) > 0, "recompute_statistics needs at least one batch")

    def total(layer: PyTree) -> PyTree:
        if isinstance(layer, Mapping) and set(layer) == set(STATISTICS["batch_stats"]):
            return {"mean": layer["mean"].mean(0), "var": layer["var"].mean(0) + layer["mean"].var(0)}
        return {name: total(part) for name, part in layer.items()}

    return {**model_state, "batch_stats": total(jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows))}


def statistic_powers(
    apply: Callable[..., tuple[PyTree, PyTree]],
    params: optax.Params,
    model_state: PyTree,
    x: Float[Array, "B ..."],
    labels: PyTree[str] | Callable[[optax.Params], PyTree[str]] | None = None,
    group: str = "si",
) -> dict[str, int]:
    """Homogeneity degree of each running statistic in a group of parameters, measured.

    A mean before whose normalisation the activations have degree d scales by c^d, a variance by c^2d. Without affine
    d = 1; behind trained scales and biases d may be 2, and 0 where no parameter of the group stands before.

    Args:
        apply: `apply(params, model_state, x, *, train) -> (outputs, model_state)`.
        params, model_state: generic values, neither zero nor one.
        x: a batch of inputs `[B, ...]`.
        labels, group: which parameters scale, as for `gauge_rescale`.

    Returns:
        `{path: power}` for the argument `statistics` of `gauge_rescale` and `correct_statistics`.

    Raises:
        LrjaxError: naming a statistic that is no power of c.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, appendix C: degrees of homogeneity.

    Example:
        >>> def apply(params, state, x, *, train):
        ...     h = x @ params["w"]
        ...     return h, {"batch_stats": {"norm": {"mean": 0.1 * h.mean(0), "var": 0.1 * h.var(0)}}}
        >>> statistic_powers(apply, {"w": jnp.eye(2)}, {}, jnp.array([[1.0, 2.0], [3.0, 5.0]]))
        {'batch_stats/norm/mean': 1, 'batch_stats/norm/var': 2}
    """
    tree = jax.tree.map(lambda _: group, params) if labels is None else labels(params) if callable(labels) else labels
    scaled = jax.tree.map(
        lambda label, part: jax.tree.map(lambda w: 4 * w, part) if label == group else part, tree, params
    )
    start = {k: jax.tree.map(jnp.zeros_like, v) if k == "batch_stats" else v for k, v in model_state.items()}
    before, after = (apply(p, start, x, train=True)[1].get("batch_stats", {}) for p in (params, scaled))
    powers = {}
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        name = "batch_stats/" + path_of(path)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        power = round(float(np.log2(np.linalg.norm(b) / np.linalg.norm(a)) / 2)) if np.any(a) and np.any(b) else 0
        check(
            bool(np.linalg.norm(b - 4.0**power * a) <= 1e-3 * np.linalg.norm(b)),
            f"{name} is no power of the scale of the group: what reaches it adds terms of different degree",
        )
        powers[name] = power
    eps = {name: leaf for name, leaf in model_state.items() if name == "norm_eps"}
    for path, _ in jax.tree_util.tree_leaves_with_path(eps):
        name = path_of(path)
        powers[name] = powers.get(name.replace("norm_eps/", "batch_stats/")[: -len("eps")] + "var", 2)
    return powers


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
        norm = optax.tree.norm(jax.tree.map(lambda g: g.astype(threshold.dtype), updates))
        factor = threshold / jnp.maximum(norm, threshold)
        clipped = jax.tree.map(lambda g: None if g is None else g * factor.astype(g.dtype), updates)
        return clipped, ClipState(optax.safe_increment(state.count), state.gauge)

    return optax.GradientTransformationExtraArgs(init, update)


def _power(statistics: Powers, name: str) -> int:
    return statistics(name) if callable(statistics) else statistics.get(name, 0)
