"""Rescaling by powers of two between chunks of steps, so that weights that grow without end stay in the range of floats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax

from lrjax.errors import check, refuse
from lrjax.transforms.buffers import FIELDS, Rescaling, rescale_state
from lrjax.transforms.leaves import canonical, is_array, is_plain_float, named_leaves
from lrjax.transforms.statistics import STATISTICS, Powers, powers_of, statistic_power

if TYPE_CHECKING:
    from jaxtyping import Array, ArrayLike, Float, Int32, PyTree

__all__ = ["FIELDS", "STATISTICS", "Powers", "gauge_rescale", "statistic_power", "times_power_of_two"]


def times_power_of_two(x: Float[Array, ...], k: ArrayLike) -> Float[Array, ...]:
    """x * 2^k, exact unless the result leaves the range of normal numbers.

    Args:
        x: floating point or complex, any shape; an array of the host takes the dtype that JAX computes in.
        k: int32 scalar, within twice the range of exponents of x.

    Returns:
        Shape and dtype of x.

    Raises:
        LrjaxError: x is not floating point, or is beyond the range of the dtype that JAX computes in.

    References:
        IEEE 754: a power of two changes the exponent alone.

    Example:
        >>> float(times_power_of_two(jnp.float32(1.5), 3)), bool(times_power_of_two(jnp.float32(2.0**-100), 200) == 2.0**100)
        (12.0, True)
    """
    x = canonical(x, "x")
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        return jax.lax.complex(times_power_of_two(x.real, k), times_power_of_two(x.imag, k))
    check(jnp.issubdtype(x.dtype, jnp.floating), f"x must be floating point, not {x.dtype}")
    info = jnp.finfo(x.dtype)
    integer = jnp.dtype(f"int{info.bits}")
    k = _whole(k)
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
        params: pytree of arrays of any shapes, an `nnx.State` of parameters too. Integers, bools, keys, None and empty arrays
            are constants.
        opt_state: of an optax transformation, chains, partitions, masks, MultiSteps and hyperparameters included; or a train
            state (Flax, Chex, Equinox, any registered node), whose parameters, buffers and statistics are all rescaled.
        model_state: pytree with running statistics: the collection "batch_stats" or all variables of Flax, an `nnx.State`,
            an `eqx.nn.State` of `eqx.nn.make_with_state`, a state of Haiku; None if there is none.
        labels: tree of labels like params, or a function from params to it, as for `optax.partition`; None scales all.
        group: the label of the parameters that scale. Parameters that are only invariant jointly belong to one group.
        k: int; None takes the largest absolute weight of the group to [1/2, 1).
        statistics: function or mapping from the path of an array in model_state ("batch_stats/norm1/var") to its power
            of c; `lrjax.transforms.scaling.statistic_powers` measures them where affine layers make them differ. Arrays that
            a mapping does not name, or for which a function returns None, must be known by their names.
        fields: power of c for each field ("trace", or "TraceState.trace") of optimizer states. What optax keeps in a field of
            the same name may differ: `optax.adamax` needs `{**FIELDS, "nu": -1}`, and a momentum behind `scale_by_trust_ratio`
            (`optax.lars`) `{**FIELDS, "trace": 1}`.

    Returns:
        params, opt_state, model_state, and k. Works under jit, and under vmap with one k a lane.

    Raises:
        LrjaxError: naming an array of opt_state or model_state whose power is not known, or a buffer that is not like the
            parameters; params hold running statistics, or no array that scales.

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
    k = _power_of(params, chosen) if k is None else _whole(k)

    def scaled(power: int, tree: PyTree, where: str = "params") -> PyTree:
        leaves, structure = jax.tree.flatten(tree)
        if leaves and jax.tree_util.treedef_is_leaf(structure) and "" not in chosen:  # a number for all parameters
            check(
                all(chosen.values()), f"{where} belongs to all parameters, and only those of the group {group!r} scale"
            )
            return _times(leaves[0], power * k, where)
        scales = [_scales(chosen, entry.name, where) for entry in named_leaves(tree)]
        new = [_times(leaf, power * k, where) if yes else leaf for leaf, yes in zip(leaves, scales, strict=True)]
        return jax.tree.unflatten(structure, new)

    def statistics_of(tree: PyTree) -> PyTree:
        entries, powers = powers_of(tree, statistics)
        new = []
        for (name, parameter, leaf), power in zip(entries, powers, strict=True):
            if parameter:
                power = int(_scales(chosen, name if name in chosen else name.removeprefix("params/"), "model_state"))
            new.append(_times(leaf, power * k, name) if power else leaf)
        return jax.tree.unflatten(jax.tree.structure(tree), new)

    def names(tree: PyTree) -> list[str]:
        return [entry.name for entry in named_leaves(tree)]

    rescaling = Rescaling(
        scaled,
        statistics_of,
        like_params=lambda tree: set(names(tree)) == set(names(params)),
        touches=lambda tree: any(chosen.get(name, False) for name in names(tree)),
        covers=lambda tree: _covers(tree, chosen),
        fields=fields,
        k=k,
        group=None if labels is None else group,
    )
    opt_state = rescale_state(opt_state, rescaling)
    return scaled(1, params), opt_state, None if model_state is None else statistics_of(model_state), k


def _whole(k: ArrayLike) -> jax.Array:
    k = jnp.asarray(k)
    check(
        k.ndim == 0 and bool(jnp.issubdtype(k.dtype, jnp.integer)),
        f"k must be one integer, the exponent of a power of two, not {k.dtype} of shape {k.shape}; for several use "
        "jax.vmap",
    )
    return k.astype(jnp.int32)


def _times(leaf: Any, k: jax.Array, name: str) -> Any:
    check(
        not is_plain_float(leaf),
        f"{name} holds the plain number {leaf}, a weight or a setting: make it an array if it scales, and take it out "
        "(eqx.filter(model, eqx.is_inexact_array)) if it does not",
    )
    return times_power_of_two(leaf, k) if is_array(leaf) else leaf


def _scales(chosen: Mapping[str, bool], name: str, where: str) -> bool:
    if name not in chosen:
        refuse(f"{where} of the state holds an array {name!r} that is not among the parameters")
    return chosen[name]


def _chosen(params: PyTree, labels: Any, group: str) -> dict[str, bool]:
    entries = named_leaves(params)
    statistics = [entry.name for entry in entries if entry.name.startswith("batch_stats/")]
    variables = [entry for entry in entries if entry.parameter and not entry.name.startswith("params/")]
    # An nnx.State of parameters holds variables of the type Param alone.
    statistics += [entry.name for entry in entries if variables and not entry.parameter and is_array(entry.leaf)]
    check(
        not statistics,
        f"params hold {(statistics or [''])[0]!r}, which is no parameter: pass variables['params'] or nnx.state(model, "
        "nnx.Param), and the running statistics as model_state",
    )
    paths = [entry.name for entry in entries]
    if labels is None:
        full = [group] * len(paths)
    else:
        tree = labels(params) if callable(labels) else labels
        try:  # as in optax.partition, labels may be a prefix of the tree
            full = jax.tree.leaves(jax.tree.map(lambda label, part: jax.tree.map(lambda _: label, part), tree, params))
        except (ValueError, TypeError) as error:
            refuse(f"labels must be a tree like params, or a prefix of it: {str(error).splitlines()[0]}")
        check(group in full, f"no parameter has the label {group!r}; there is {', '.join(sorted(map(str, set(full))))}")
    chosen = {path: label == group for path, label in zip(paths, full, strict=True)}
    # The inner state of optax.lookahead is that of the fast parameters.
    return (
        {path.removeprefix("fast/"): yes for path, yes in chosen.items()} | chosen if _is_lookahead(params) else chosen
    )


def _is_lookahead(params: PyTree) -> bool:
    return getattr(params, "_fields", ()) == ("fast", "slow")


def _power_of(params: PyTree, chosen: Mapping[str, bool]) -> jax.Array:
    leaves = [canonical(entry.leaf, entry.name) for entry in named_leaves(params) if _fits(entry, chosen)]
    check(bool(leaves), "no array of floats among the parameters scales; give k, or pass parameters that do")
    # Not the Euclidean norm: its squares would be the first to leave range.
    sizes = [jnp.max(jnp.abs(leaf)) for leaf in leaves]
    largest = jnp.max(jnp.stack([size.astype(jnp.result_type(*sizes)) for size in sizes]))
    usable = jnp.isfinite(largest) & (largest > 0)
    return jnp.where(usable, -jnp.frexp(jnp.where(usable, largest, 1))[1], 0)


def _fits(entry: Any, chosen: Mapping[str, bool]) -> bool:
    return chosen[entry.name] and is_array(entry.leaf)


def _covers(tree: PyTree, chosen: Mapping[str, bool]) -> bool:
    inside = [chosen[entry.name] for entry in named_leaves(tree) if entry.name in chosen]
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
