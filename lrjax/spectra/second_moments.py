"""Second moments of gradients inside the state of any optax optimizer: one of them, by the optimizer and the group."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, NoReturn

import jax
import optax  # noqa: F401 -- of the example

from lrjax.errors import check, path_of, refuse
from lrjax.spectra.frameworks import Tree, is_a

SHOWN = 3  # parameters that a message names for each group

HOLDERS = {
    "ScaleByAdamState": ("adam", "nu"),
    "ScaleByAmsgradState": ("amsgrad", "nu_max"),
    "ScaleByAdanState": ("adan", "n"),
    "ScaleByBeliefState": ("adabelief", "nu"),
    "ScaleByRmsState": ("rmsprop", "nu"),
    "ScaleByRmsWithCountState": ("rmsprop", "nu"),
    "ScaleByRStdDevState": ("rmsprop", "nu"),
    "ScaleByRStdDevWithCountState": ("rmsprop", "nu"),
    "ScaleByRssState": ("adagrad", "sum_of_squares"),
    "ScaleByNovogradState": ("novograd", "nu"),
    "ScaleByAdemamixState": ("ademamix", "nu"),
    "ProdigyState": ("prodigy", "exp_avg_sq"),
}
"""Class of a state with second moments (optax exports few of them) -> optimizer that it belongs to, field that holds them."""

WITHOUT = {
    "ScaleByLionState": "Lion keeps no second moments: it steps by the sign of its momentum, whatever the gradient's size",
    "MuonState": "Muon keeps no second moments: it orthogonalises its momentum, which no diagonal does",
    "FactoredState": "Adafactor keeps its second moments as factors of rows and columns, not as a diagonal",
    "ScaleBySM3State": "SM3 keeps maxima of rows and columns, not a diagonal",
    "ScaleByAdaDeltaState": "Adadelta divides by a state that it has already replaced",
    "DAdaptAdamWState": "D-Adaptation scales its moments by rates that it has already replaced",
    "WDFreeAdamState": "wd_free_adamw keeps the moments of a rescaled gradient: give its nu and count to adam_preconditioner, "
    "with eps times the scale P of the parameters",
    "TraceState": "SGD with momentum preconditions nothing: measure the Hessian itself",
}


class Moments(NamedTuple):
    """A state inside an optimizer's.

    Attributes:
        state: such as `optax.ScaleByAdamState`.
        path: where it is.
        labels: of each `optax.partition` round it, the outermost first.
        injected: numbers that `optax.inject_hyperparams` holds for it.
    """

    state: Any
    path: str
    labels: tuple[Hashable, ...]
    injected: Mapping[str, Any]


def _children(node: Any) -> list[tuple[Any, Any]]:
    pairs = jax.tree.leaves_with_path(node, is_leaf=lambda inner: inner is not node)
    if len(pairs) == 1 and pairs[0][1] is node:
        # No pytree: an array, or a train state of plain Python that holds one.
        inner = getattr(node, "opt_state", None)
        return [] if inner is None else [((jax.tree_util.GetAttrKey("opt_state"),), inner)]
    return pairs


def walk(
    node: Any, path: tuple = (), labels: tuple = (), injected: Mapping = MappingProxyType({})
) -> Iterator[Moments]:
    """An optimizer's state and all states inside it, each with its path, the labels of partitions and injected numbers."""
    name = type(node).__name__
    yield Moments(node, path_of(path), labels, injected)
    if name in HOLDERS or name in WITHOUT:
        return
    if isinstance(numbers := getattr(node, "hyperparams", None), Mapping):
        injected = {**injected, **numbers}
    groups = getattr(node, "inner_states", None)
    for key, child in _children(node):
        if groups is not None and child is groups:
            for label, inner in groups.items():
                yield from walk(inner, (*path, *key, jax.tree_util.DictKey(label)), (*labels, label), injected)
        else:
            yield from walk(child, (*path, *key), labels, injected)


def plain(tree: Tree) -> Tree:
    """Arrays in place of the variables in which `flax.nnx` wraps them."""

    def wrapped(leaf: Any) -> bool:
        return is_a(leaf, "flax.nnx", "Variable")

    return jax.tree.map(lambda leaf: leaf[...] if wrapped(leaf) else leaf, tree, is_leaf=wrapped)


def _listed(found: Sequence[Moments]) -> str:
    """The names by which `group` chooses among these, each with some of its parameters."""
    labels, names = [one.labels[-1:] for one in found], []
    for one, label in zip(found, labels, strict=True):
        name = label[0] if label and labels.count(label) == 1 else one.path
        moments = plain(getattr(one.state, HOLDERS[type(one.state).__name__][1]))
        paths = [path_of(path) or "the array" for path, _ in jax.tree.leaves_with_path(moments)]
        names.append(f"{name!r} ({', '.join(paths[:SHOWN])}{', ...' * (len(paths) > SHOWN)})")
    return ", ".join(names)


def _absent(nodes: Sequence[Moments], optimizer: str, where: str) -> NoReturn:
    names = [type(one.state).__name__ for one in nodes]
    reasons = [WITHOUT[name] for name in names if name in WITHOUT]
    others = sorted({HOLDERS[name][0] for name in names if name in HOLDERS})
    if others:
        remedy = " or ".join(f"preconditioner({other!r}, ...)" for other in others)
        refuse(f"{where} holds no second moments of {optimizer!r}; what it holds is for {remedy}")
    refuse(
        f"{where} holds no second moments of {optimizer!r}; {reasons[0] if reasons else 'pass the state of that optimizer'}"
    )


def second_moments(opt_state: Any, optimizer: str, states: Sequence[str], group: Hashable | None = None) -> Moments:
    """The one state of an optimizer inside an optax state, a train state or an `nnx.Optimizer`.

    Args:
        opt_state: any of these.
        optimizer: its name in messages.
        states: class names of the states that it may have.
        group: label of an `optax.partition`, or the path of the state, where there are several.

    Raises:
        LrjaxError: there is none, or several and no group, or none in the group.

    Example:
        >>> import jax.numpy as jnp
        >>> tx = optax.partition({"a": optax.adam(0.1), "b": optax.adam(0.2)}, {"v": "a", "w": "b"})
        >>> state = tx.init({"v": jnp.ones(2), "w": jnp.ones(3)})
        >>> second_moments(state, "adam", ["ScaleByAdamState"], group="b").state.nu
        {'v': MaskedNode(), 'w': Array([0., 0., 0.], dtype=float32)}
    """
    nodes = list(walk(opt_state))
    found, where = [one for one in nodes if type(one.state).__name__ in states], "the optimizer state"
    if group is not None:
        inside = [one for one in nodes if group in one.labels or group == one.path]
        names = f"; groups: {_listed(found)}" if found else ""
        check(bool(inside), f"the optimizer state has no group {group!r}{names}")
        found, nodes, where = [one for one in inside if type(one.state).__name__ in states], inside, f"group {group!r}"
    if not found:
        _absent(nodes, optimizer, where)
    check(
        len(found) == 1,
        f"{where} holds the second moments of {len(found)} groups; choose by group=: {_listed(found)}",
    )
    return found[0]._replace(state=plain(found[0].state))
