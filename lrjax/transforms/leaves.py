"""Leaves of trees as users pass them: which ones hold numbers that may be scaled, and in which dtype they are computed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check, path_of

if TYPE_CHECKING:
    from jaxtyping import Array, PyTree


class Entry(NamedTuple):
    """A leaf with its name.

    Attributes:
        name: its path, without the level that an `nnx.Variable` adds; "norm/mean" for statistics in an `eqx.nn.State`.
        parameter: whether it is a parameter although it lies among other state: an `nnx.Param`, or in the collection "params".
        leaf: of any kind.
    """

    name: str
    parameter: bool
    leaf: Any


def is_array(leaf: Any) -> bool:
    """Whether a leaf is a non-empty array of real or complex floats; all others (int, bool, keys, functions) are constants.

    Args:
        leaf: of any kind.

    Example:
        >>> [is_array(leaf) for leaf in (jnp.ones(2), np.ones(2), jnp.ones(0), jnp.arange(2), jax.random.key(0), 1.0)]
        [True, True, False, False, False, False]
    """
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and bool(jnp.issubdtype(dtype, jnp.inexact)) and leaf.size > 0


def is_plain_float(leaf: Any) -> bool:
    """Whether a leaf is a Python float: it may be a weight or a setting.

    Args:
        leaf: of any kind.

    Example:
        >>> is_plain_float(0.5), is_plain_float(1), is_plain_float(np.float64(0.5))
        (True, False, False)
    """
    return isinstance(leaf, float | complex) and not hasattr(leaf, "dtype")


def canonical(leaf: Any, name: str = "the array") -> Array:
    """A floating-point leaf as a JAX array of the dtype that JAX computes in: float64 only where it is enabled.

    Args:
        leaf: an array or a number.
        name: for the message.

    Returns:
        The array; unchanged if it is one of JAX.

    Raises:
        LrjaxError: a number that float32 cannot hold, with float64 disabled.

    Example:
        >>> canonical(np.full(2, 3.0)).dtype == jax.dtypes.canonicalize_dtype(np.float64)
        True
    """
    if isinstance(leaf, jax.Array):
        return leaf
    wide = np.asarray(leaf)
    dtype = np.dtype(jax.dtypes.canonicalize_dtype(wide.dtype))
    if dtype != wide.dtype and jnp.issubdtype(dtype, jnp.inexact):
        with np.errstate(over="ignore"):
            narrow = wide.astype(dtype)
        check(
            bool((np.isfinite(narrow) == np.isfinite(wide)).all()),
            f"{name} holds numbers beyond the range of {dtype.name}: divide it by a power of two first, or enable float64 "
            "(JAX_ENABLE_X64=1)",
        )
        wide = narrow
    return jnp.asarray(wide)


def canonical_tree(tree: PyTree) -> PyTree:
    """A tree with its floating-point leaves as `canonical` has them; constants are kept.

    Args:
        tree: any pytree.

    Example:
        >>> type(canonical_tree({"w": np.ones(2), "label": "w"})["w"]).__name__
        'ArrayImpl'
    """
    return jax.tree.map(lambda leaf: canonical(leaf) if is_array(leaf) else leaf, tree)


def named_leaves(tree: PyTree) -> list[Entry]:
    """The leaves in the order of `jax.tree.leaves`, named alike whether a tree is plain, an `nnx.State` or an `eqx.nn.State`.

    Args:
        tree: any pytree.

    Returns:
        An entry a leaf.

    Example:
        >>> [(entry.name, entry.parameter) for entry in named_leaves({"params": {"w": 1.0}, "batch_stats": {"mean": 2.0}})]
        [('batch_stats/mean', False), ('params/w', True)]
    """
    variable, state = _class("flax.nnx", "Variable"), _class("equinox.nn", "State")
    param: Any = _class("flax.nnx", "Param") or ()
    stop: tuple[type, ...] = tuple(kind for kind in (variable, state) if kind is not None)
    entries = []
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda node: isinstance(node, stop)):
        name = path_of(path)
        if variable is not None and isinstance(node, variable):
            entries += [Entry(name, isinstance(node, param), leaf) for leaf in jax.tree.leaves(node)]
        elif state is not None and isinstance(node, state):
            entries += _entries_of_state(name, node)
        else:
            inside = len(path) > 1 and getattr(path[0], "key", None) == "params"
            entries.append(Entry(name, inside, node))
    return entries


def _entries_of_state(name: str, state: Any) -> list[Entry]:
    # The markers of `eqx.nn.make_with_state` are paths in the model; those of `eqx.nn.State(model)` say nothing.
    children, _ = state.tree_flatten()
    entries = []
    for marker, child in zip(state._state, children, strict=True):
        marker = marker if isinstance(marker, str) else "an unnamed StateIndex"
        leaves = jax.tree.leaves(child)
        ends = [str(number) for number in range(len(leaves))] if len(leaves) > 1 else [""]
        if marker.endswith(("ema_state_index", "batch_state_index")) and len(leaves) == 2:
            ends = ["mean", "var"]
        entries += [
            Entry("/".join(part for part in (name, marker, end) if part), False, leaf)
            for end, leaf in zip(ends, leaves, strict=True)
        ]
    return entries


def _class(module: str, name: str) -> type | None:
    # A library that is not imported made none of the objects; importing it here would make it a dependency.
    return getattr(sys.modules.get(module), name, None)
