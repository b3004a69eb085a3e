"""Rescaling by powers of two between chunks of steps, so that weights that grow without end stay in the range of floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from lrjax.errors import check, path_of

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int32, PyTree

Powers = Callable[[str], int] | Mapping[str, int]

# Field of an optimizer state -> power of c that it is multiplied by when parameters are: gradients are of degree -1.
FIELDS = {"trace": -1, "acc_grads": -1, "mu": -1, "nu": -2}

# Homogeneity degree of each running statistic: collection -> name of a leaf -> power of c.
STATISTICS = {"batch_stats": {"mean": 1, "var": 2}, "norm_eps": {"eps": 2}}


def statistic_power(path: str) -> int:
    """Homogeneity degree of an array of model state in the parameters before its normalisation.

    For normalisation whose input has degree 1 in the scaled parameters, as in a network without affine.

    Args:
        path: such as "batch_stats/norm1/var".

    Returns:
        1 for a running mean, 2 for a running variance and for eps, 0 for all else.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, appendix C.

    Example:
        >>> [statistic_power(path) for path in ("batch_stats/norm1/var", "norm_eps/norm1/eps", "frozen/head/kernel")]
        [2, 2, 0]
    """
    collection, *_, name = path.split("/")
    return STATISTICS.get(collection, {}).get(name, 0)


def times_power_of_two(x: Float[Array, ...], k: ArrayLike) -> Float[Array, ...]:
    """x * 2^k, exact unless the result leaves the range of normal numbers.

    Args:
        x: floating point, any shape.
        k: int32 scalar, within twice the range of exponents of x.

    Returns:
        Shape and dtype of x.

    Raises:
        LrjaxError: x is not floating point.

    References:
        IEEE 754: a power of two changes the exponent alone.

    Example:
        >>> float(times_power_of_two(jnp.float32(1.5), 3)), bool(times_power_of_two(jnp.float32(2.0**-100), 200) == 2.0**100)
        (12.0, True)
    """
    check(jnp.issubdtype(x.dtype, jnp.floating), f"x must be floating point, not {x.dtype}")
    info = jnp.finfo(x.dtype)
    integer = jnp.dtype(f"int{info.bits}")
    k = jnp.asarray(k, jnp.int32)
    # Two factors, because 2^k may be out of range where x * 2^k is not. Built from bits: a power function may round.
    for part in (k // 2, k - k // 2):
        biased = jnp.clip(part + info.maxexp - 1, 1, 2 * info.maxexp - 2).astype(integer)
        x = x * jax.lax.bitcast_convert_type(biased << info.nmant, x.dtype)
    return x


def gauge_rescale(
    params: optax.Params,
    opt_state: optax.OptState,
    model_state: PyTree = None,
    *,
    labels: PyTree[str] | Callable[[optax.Params], PyTree[str]] | None = None,
    group: str = "si",
    k: ArrayLike | None = None,
    statistics: Powers = statistic_power,
    fields: Mapping[str, int] = FIELDS,
) -> tuple[optax.Params, optax.OptState, PyTree, Int32[Array, ""]]:
    r"""Multiplies scale-invariant parameters by a power of two, and optimizer and model state by the power that follows.

    .. math::
        \theta \leftarrow 2^k \theta, \quad v \leftarrow 2^{-k} v, \quad \eta \leftarrow 2^{2k} \eta, \quad
        \mu \leftarrow 2^k \mu, \quad \sigma^2 \leftarrow 2^{2k} \sigma^2

    The functions are the same, bit for bit, because a power of two changes no mantissa; and no chain of `apply_updates` can
    do it, because it adds. Call it every few hundred steps. States of lrjax's own transforms keep k (their field `gauge`) and
    follow by themselves; with any other optimizer the caller keeps the sum of the k and multiplies its learning rate by
    2^(2k), for Adam by 2^k and its eps by 2^-k.

    Args:
        params: pytree of floating-point arrays of any shapes.
        opt_state: of an optax transformation, chains, partitions, masks, MultiSteps and hyperparameters included.
        model_state: pytree with running statistics; None if there is none.
        labels: tree of labels like params, or a function from params to it, as for `optax.partition`; None scales all.
        group: the label of the parameters that scale. Parameters that are only invariant jointly belong to one group.
        k: int; None takes the largest absolute weight of the group to [1/2, 1).
        statistics: function or mapping from the path of an array in model_state ("batch_stats/norm1/var") to its power
            of c; `lrjax.transforms.scaling.statistic_powers` measures them where affine layers make them differ.
        fields: power of c for each field of optimizer states that holds arrays like the parameters.

    Returns:
        params, opt_state, model_state, and k. Works under jit, and under vmap with one k a lane.

    Raises:
        LrjaxError: opt_state holds arrays whose power is not known, or that are not like the parameters.

    References:
        Li & Arora (2020), An Exponential Learning Rate Schedule for Deep Learning, section 2: the equivalent scaling
        (c, c^2, c), with c = 2^k.

    Example:
        >>> params = {"conv": jnp.array([3e20, 4e20])}
        >>> opt_state = optax.TraceState({"conv": jnp.array([1e-20, 2e-20])})
        >>> params, opt_state, _, k = gauge_rescale(params, opt_state)
        >>> int(k), params["conv"].round(3).tolist(), opt_state.trace["conv"].round(3).tolist()
        (-69, [0.50..., 0.67...], [5.90..., 11.80...])
    """
    chosen = _chosen(params, labels, group)
    if k is None:
        k = _power_of(params, chosen)
    k = jnp.asarray(k, jnp.int32)

    def scaled(power: int, tree: PyTree) -> PyTree:
        def one(path: Any, leaf: jax.Array) -> jax.Array:
            name = path_of(path)
            check(name in chosen, f"the optimizer state holds an array {name!r} that is not among the parameters")
            return times_power_of_two(leaf, power * k) if chosen[name] else leaf

        return jax.tree_util.tree_map_with_path(one, tree)

    def state(path: Any, leaf: jax.Array) -> jax.Array:
        power = statistics(path_of(path)) if callable(statistics) else statistics.get(path_of(path), 0)
        return times_power_of_two(leaf, power * k) if power else leaf

    covered = None if labels is None else group
    opt_state = _walk(opt_state, scaled, fields, k, covered, lambda tree: _covers(tree, chosen))
    if model_state is not None:
        model_state = jax.tree_util.tree_map_with_path(state, model_state)
    return scaled(1, params), opt_state, model_state, k


def _chosen(params: PyTree, labels: Any, group: str) -> dict[str, bool]:
    paths = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if labels is None:
        return dict.fromkeys(paths, True)
    tree = labels(params) if callable(labels) else labels
    # As in optax.partition, labels may be a prefix of the tree.
    full = jax.tree.leaves(jax.tree.map(lambda label, part: jax.tree.map(lambda _: label, part), tree, params))
    check(group in full, f"no parameter has the label {group!r}; there is {', '.join(sorted(map(str, set(full))))}")
    return {path: label == group for path, label in zip(paths, full, strict=True)}


def _power_of(params: PyTree, chosen: Mapping[str, bool]) -> jax.Array:
    leaves = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params) if chosen[path_of(path)]]
    # Not the Euclidean norm: its squares would be the first to leave range.
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)).astype(jnp.result_type(*leaves)) for leaf in leaves]))
    usable = jnp.isfinite(largest) & (largest > 0)
    return jnp.where(usable, -jnp.frexp(jnp.where(usable, largest, 1))[1], 0)


def _covers(tree: PyTree, chosen: Mapping[str, bool]) -> bool:
    names = [path_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    inside = [chosen[name] for name in names if name in chosen]
    check(
        bool(inside) or all(chosen.values()),
        "a transformation with a gauge keeps no array that tells which parameters it steps; give each group its own by "
        "optax.partition",
    )
    check(
        all(inside) or not any(inside),
        "one transformation with a gauge steps parameters that scale and others that do not; give each group its own by "
        "optax.partition",
    )
    return all(inside)


def _walk(
    node: PyTree,
    scaled: Callable,
    fields: Mapping[str, int],
    k: jax.Array,
    group: str | None,
    covers: Callable,
    name: str = "the state",
) -> PyTree:
    """The state with its buffers scaled and its gauges moved; `group` is None where all parameters scale."""

    def deeper(child: PyTree, name: str = name) -> PyTree:
        return _walk(child, scaled, fields, k, group, covers, name)

    if hasattr(node, "inner_states"):  # optax.partition: labels are known, also where a state has no buffer to tell
        inner = {
            label: _walk(s, scaled, fields, k, None, covers, name) if group in (None, label) else s
            for label, s in node.inner_states.items()
        }
        return node._replace(inner_states=inner)
    if hasattr(node, "_fields"):
        values = {field: getattr(node, field) for field in node._fields}
        if "gauge" in values and (group is None or all(covers(values[f]) for f in fields if f in values)):
            values["gauge"] = values["gauge"] + k
        for field, value in values.items():
            if field in fields:
                values[field] = scaled(fields[field], value)
            elif field != "gauge":
                values[field] = deeper(value, f"{type(node).__name__}.{field}")
        return type(node)(**values)
    if isinstance(node, dict):
        return {key: deeper(child) for key, child in node.items()}
    if isinstance(node, tuple | list):
        return type(node)(deeper(child) for child in node)
    check(
        getattr(node, "ndim", 0) == 0 or not jnp.issubdtype(node.dtype, jnp.floating),
        f"it is not known how {name} scales with the parameters: add its power of c to the argument fields, such as "
        f"fields={{**FIELDS, {name.split('.')[-1]!r}: -1}}",
    )
    return node
