"""Leaves of a parameter tree with what a framework says of them: trainable, statistics, or not an array at all.

No framework is imported: where one of its objects is passed, its package is loaded already.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrjax.errors import path_of, refuse

Tree = Any  # a pytree of arrays

# Collections of Flax beside "params", which no optimizer steps.
COLLECTIONS = frozenset(
    {"batch_stats", "cache", "intermediates", "spectral_stats", "norm_eps", "perturbations", "metrics"}
)


class Leaf(NamedTuple):
    """A leaf of a parameter tree.

    Attributes:
        path: such as "conv1/kernel".
        value: an array, or whatever else the tree holds.
        variable: the `nnx.Variable` around it; None elsewhere.
        trainable: whether its framework lets an optimizer step it; dtype and `where` apart.
        traced: whether it can be an argument of a compiled program.
    """

    path: str
    value: Any
    variable: Any
    trainable: bool
    traced: bool


def loaded(package: str, name: str) -> Any:
    """`package.name` where the package has been imported, else None."""
    return getattr(sys.modules.get(package), name, None)


def is_a(value: Any, package: str, name: str) -> bool:
    """Whether `value` is an instance of `package.name`, without importing the package."""
    kind = loaded(package, name)
    return kind is not None and isinstance(value, kind)


def is_nnx_module(params: Tree) -> bool:
    """Whether `params` is a module of Flax NNX, whose variables may be shared."""
    return is_a(params, "flax.nnx", "Module")


def is_numeric(value: Any) -> bool:
    """Whether a leaf is an array of numbers or of keys, or a number, and no function, string or configuration."""
    if not hasattr(value, "dtype"):
        return isinstance(value, (bool, int, float, complex))
    try:
        return any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.number, jnp.bool_, jax.dtypes.prng_key))
    except TypeError:  # a dtype of another library, such as that of a tensor of PyTorch
        return False


def refuse_states(params: Tree) -> None:
    """Refuses a training state, whose optimizer's buffers are no parameters.

    Raises:
        LrjaxError: names the field to pass.
    """
    if hasattr(params, "opt_state"):
        field = "params" if hasattr(params, "params") else "model"
        refuse(f"params is a {type(params).__name__}, which holds the buffers of an optimizer too; pass its .{field}")


def leaves_of(params: Tree) -> list[Leaf]:
    """The leaves in the order of `jax.tree.leaves`, each with its path and what its framework says of it."""
    modules, collections = _contains(params, "equinox", "Module"), has_collections(params)
    leaves = []
    for path, node in jax.tree.leaves_with_path(params, is_leaf=_is_box):
        variable = node if is_a(node, "flax.nnx", "Variable") else None
        boxed = _is_box(node)
        stepped = is_a(variable, "flax.nnx", "Param") if variable is not None else not boxed
        for inner, value in jax.tree.leaves_with_path(node) if boxed else [((), node)]:
            name = path_of(path) if variable is not None else path_of((*path, *inner))
            # Equinox takes Python numbers for settings, such as the rate of a dropout; `if` asks for a Python bool.
            setting = not hasattr(value, "dtype") and (modules or isinstance(value, bool))
            traced = is_numeric(value) and not setting
            inside = not collections or name.split("/")[0] == "params"
            leaves.append(Leaf(name, value, variable, stepped and inside and traced, traced))
    return leaves


def _is_box(node: Any) -> bool:
    return is_a(node, "flax.nnx", "Variable") or is_a(node, "equinox.nn", "StateIndex")


def _contains(params: Tree, package: str, name: str) -> bool:
    if loaded(package, name) is None:
        return False
    nodes = jax.tree.leaves(params, is_leaf=lambda node: is_a(node, package, name))
    return any(is_a(node, package, name) for node in nodes)


def has_collections(params: Tree) -> bool:
    """Whether these are the variables of a Flax model: "params" beside statistics or the like."""
    return isinstance(params, Mapping) and "params" in params and bool(COLLECTIONS & set(params))


class Constant:
    """A leaf that is no array, as part of a static value: equal where it is the same object, or equal and hashable."""

    def __init__(self, value: Any):
        self.value = value
        try:
            self.identity: tuple = (type(value), hash(value))
        except TypeError:
            self.identity = (id(value),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant) or self.identity != other.identity:
            return False
        return self.value is other.value or (len(self.identity) == 2 and bool(self.value == other.value))

    def __hash__(self) -> int:
        return hash(self.identity)


class Graph(NamedTuple):
    """The structure of an NNX module, and which of its variables are selected; hashable."""

    definition: Any
    chosen: frozenset[str]

    def split(self, module: Any) -> tuple[Any, Any]:
        """`(selected, rest)`, two `nnx.State`; a shared variable is in one of them, once."""
        _, selected, rest = loaded("flax.nnx", "split")(module, self._selects, ...)
        return selected, rest

    def _selects(self, path: tuple, variable: Any) -> bool:
        return "/".join(map(str, path)) in self.chosen

    def merge(self, selected: Any, rest: Any) -> Any:
        """A new module, so that what a loss changes in it (statistics, counters of keys) is lost with it."""
        # Variables anew: those of `rest` belong to an outer trace, or to the call before.
        fresh = (jax.tree.map(_same, state) for state in (selected, rest))
        return loaded("flax.nnx", "merge")(self.definition, *fresh)


def _same(leaf: Any) -> Any:
    return leaf
