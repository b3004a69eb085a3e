"""Buffers in the state of an optimizer, found by the names of their fields, and the power of c that each follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from lrjax.errors import check
from lrjax.transforms.leaves import is_array, is_plain_float

if TYPE_CHECKING:
    from jaxtyping import PyTree

# Field of an optimizer state, or "Type.field" -> power of c that it is multiplied by when parameters are: gradients are of
# degree -1. Fields that mean different things in different optimizers are given with the type alone.
FIELDS = {
    **dict.fromkeys(("trace", "acc_grads", "grad_acc", "avg_grad", "mu"), -1),
    **dict.fromkeys(("nu", "nu_max", "v_row", "v_col", "sum_of_squares"), -2),
    "params": 1,
    "FactoredState.v": -2,
    **{f"ScaleByAdanState.{field}": power for field, power in {"m": -1, "v": -1, "n": -2, "g": -1}.items()},
    **{f"ScaleByAdemamixState.{field}": -1 for field in ("m1", "m2")},
    **{f"ScaleBySimplifiedAdEMAMixState.{field}": power for field, power in {"m": -1, "n": -2}.items()},
    "ScaleByNovogradState.mu": 0,
    "ScaleByOptimisticGradientState.previous_gradient": -1,
    **{f"ScaleByLBFGSState.{field}": -1 for field in ("updates", "diff_updates_memory")},
    **{"ScaleByLBFGSState.diff_params_memory": 1, "ScaleByLBFGSState.weights_memory": 0},
    **{f"ScheduleFreeState.{field}": power for field, power in {"z": 1, "b1": 0}.items()},
    **{f"ReduceLROnPlateauState.{field}": 0 for field in ("scale", "best_value", "avg_value")},
    **{"MuonState.ns_coeffs": 0, "GaLoreState.projector": 0, "AddNoiseState.rng_key": 0},
    "hyperparams": 0,
    "hyperparams_states": 0,
    **{f"{kind}.alpha": 0 for kind in ("OpenWDFreeState", "WDFreeAdamState")},
    **{f"{kind}.log_scale": 0 for kind in ("OpenWDFreeState", "WDFreeAdamState")},
    **{f"{kind}.log_scale_error": 0 for kind in ("OpenWDFreeState", "WDFreeAdamState")},
    "OpenWDFreeState.kappa": 0,
}
STATISTICS_FIELDS = ("batch_stats", "model_state", "norm_eps")  # of a train state

# States whose updates are no longer of the degree of the gradient, so that a buffer behind them is not either.
CHANGE_DEGREE = ("ScaleByLionState", "MuonState", "ScaleByNovogradState", "ScaleByLBFGSState", "ScaleByScheduleState")
UNNAMED = "the state"


class Rescaling(NamedTuple):
    """What a walk through an optimizer state needs.

    Attributes:
        scaled: of a power, a tree and its name: the tree times 2^(power k), where its arrays scale.
        statistics: of a tree: the tree with its running statistics scaled.
        like_params: of a tree: whether its leaves have the names of all parameters.
        touches: of a tree: whether it is named like parameters some of which scale.
        covers: of a tree: whether a transformation with these buffers steps parameters that scale.
        fields: power of c by field.
        k: int32 scalar.
        group: label of the parameters that scale; None if all do.
    """

    scaled: Callable[[int, PyTree, str], PyTree]
    statistics: Callable[[PyTree], PyTree]
    like_params: Callable[[PyTree], bool]
    touches: Callable[[PyTree], bool]
    covers: Callable[[PyTree], bool]
    fields: Mapping[str, int]
    k: jax.Array
    group: str | None


def rescale_state(state: PyTree, by: Rescaling) -> PyTree:
    """An optimizer state with its buffers scaled and its gauges moved.

    Args:
        state: of optax, or any tree of registered nodes that has buffers in fields of known names.
        by: the rescaling.

    Returns:
        A tree like state.

    Raises:
        LrjaxError: naming an array whose power is not known.
    """
    return _walk(state, by, UNNAMED, None, None)


def children_of(node: PyTree) -> tuple[list[tuple[str, Any]], Any] | None:
    """The children of a node with the names of their fields, and its structure; None for a leaf.

    Args:
        node: of any registered type: named tuples, dicts, dataclasses of Flax, Chex and Equinox.

    Example:
        >>> from optax import TraceState
        >>> [name for name, _ in children_of(TraceState({"w": 1.0}))[0]]
        ['trace']
        >>> children_of(1.0) is None
        True
    """
    pairs, structure = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda child: child is not node)
    if jax.tree_util.treedef_is_leaf(structure) and structure.num_nodes == 1 and pairs and pairs[0][1] is node:
        return None
    return [(_field(node, path[-1], child) if path else "", child) for path, child in pairs], structure


def _field(node: Any, key: Any, child: Any) -> str:
    if isinstance(key, jax.tree_util.FlattenedIndexKey):
        # Registered without names: a dataclass still has them.
        is_dataclass = dataclasses.is_dataclass(node)
        names = (
            [field.name for field in dataclasses.fields(node)] if is_dataclass else list(getattr(node, "__dict__", ()))
        )
        return next((name for name in names if getattr(node, name, None) is child), str(key.key))
    return str(next(getattr(key, kind) for kind in ("name", "key", "idx") if hasattr(key, kind)))


def _walk(node: PyTree, by: Rescaling, name: str, moves: bool | None, behind: str | None) -> PyTree:
    """`moves` says whether gauges below move, None where their buffers tell; `behind` names a state of other degree before."""
    found = children_of(node)
    if found is None:
        check(
            not (is_array(node) or is_plain_float(node)),
            f"it is not known how {name} scales with the parameters: add its power of c, 0 for a constant, to the argument "
            f"fields, such as fields={{**FIELDS, {name.split('.')[-1]!r}: -1}} (FIELDS of lrjax.transforms.buffers)",
        )
        return node
    children, structure = found
    kind = type(node).__name__
    values = []
    for field, child in children:
        power = _known(kind, field, child, node, by)
        if field == "gauge" and "gauge" in getattr(node, "_fields", ()):
            value = child + by.k if _gauge_moves(kind, dict(children), by, moves) else child
        elif field == "inner_states" and isinstance(child, Mapping):
            value = _partition(child, by, name, behind)
        elif power is not None:
            check(
                not (behind and power and by.fields is FIELDS),
                f"{kind}.{field} comes behind {behind}, whose updates do not scale as gradients do: say the powers of c of "
                f"all buffers by the argument fields, such as fields={{**FIELDS, {field!r}: 0}}",
            )
            value = by.scaled(power, child, f"{kind}.{field}") if power else child
        elif field in STATISTICS_FIELDS and children_of(child) is not None:
            value = by.statistics(child)
        else:
            value = _walk(child, by, _name_of(node, field, name), moves, behind)
            if type(node) is tuple:  # a chain: the state of one transformation behind the other
                behind = behind or _changes_degree(child, by)
        values.append(value)
    return jax.tree.unflatten(structure, values)


def _name_of(node: Any, field: str, name: str) -> str:
    if isinstance(node, tuple | list) and not hasattr(node, "_fields"):
        return name
    if type(node).__name__ not in ("dict", "FrozenDict", "OrderedDict", "State"):
        return f"{type(node).__name__}.{field}"
    return field if name == UNNAMED else name  # the field that holds a dict tells more than its keys


def _known(kind: str, field: str, child: Any, node: Any, by: Rescaling) -> int | None:
    power = by.fields.get(f"{kind}.{field}", by.fields.get(field))
    if power is None or isinstance(node, tuple | list) and not hasattr(node, "_fields"):
        return None
    # In a dict a name may be anything: a label, a key of the user's. There the content decides.
    return None if isinstance(node, Mapping) and power and not by.like_params(child) else power


def _gauge_moves(kind: str, children: Mapping[str, Any], by: Rescaling, moves: bool | None) -> bool:
    if by.group is None or moves:
        return True
    powers = {field: by.fields.get(f"{kind}.{field}", by.fields.get(field)) for field in children}
    return all(by.covers(child) for field, child in children.items() if powers[field])


def _partition(states: Mapping, by: Rescaling, name: str, behind: str | None) -> Mapping:
    """`optax.partition`, whose labels are known, also where a state has no buffer to tell."""
    children, structure = children_of(states) or ([], jax.tree.structure(states))
    labels = [label for label, _ in children]
    moved = []
    for label, child in children:
        other = by.group in labels and label != by.group
        check(
            not (other and _touches(child, by)),
            f"the partition of the optimizer steps parameters of the group {by.group!r} under its label {label!r}: pass the "
            "labels of the partition to gauge_rescale",
        )
        moved.append(child if other else _walk(child, by, name, True if label == by.group else None, behind))
    return jax.tree.unflatten(structure, moved)


def _touches(node: PyTree, by: Rescaling) -> bool:
    found = children_of(node)
    if found is None:
        return False
    kind = type(node).__name__
    return any(
        by.touches(child) if by.fields.get(f"{kind}.{field}", by.fields.get(field)) else _touches(child, by)
        for field, child in found[0]
    )


def _changes_degree(node: PyTree, by: Rescaling) -> str | None:
    kind = type(node).__name__
    found = children_of(node)
    if found is None:
        return None
    powers = [by.fields.get(f"{kind}.{field}", by.fields.get(field)) for field, _ in found[0]]
    has_gauge = "gauge" in getattr(node, "_fields", ()) and kind != "ClipState"
    if has_gauge or kind in CHANGE_DEGREE or (-2 in powers and not isinstance(node, Mapping)):
        return kind
    return next((inner for _, child in found[0] if (inner := _changes_degree(child, by))), None)
