"""Parameter selection by path: the leaves an operator acts on, as a static value, so that equal choices share a program."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrjax.errors import check, path_of

Tree = Any  # a pytree of arrays
Where = None | str | tuple[str, ...] | Callable[[str], bool]


class Selection(NamedTuple):
    """The leaves of a pytree that are selected; hashable."""

    treedef: Any  # a jax.tree_util.PyTreeDef, which pyright takes for a variable
    mask: tuple[bool, ...]

    def split(self, params: Tree) -> tuple[Tree, Tree]:
        """`(selected, rest)`: trees of the same containers, with None in place of the leaves of the other."""
        leaves = jax.tree.leaves(params)
        selected = [leaf if chosen else None for leaf, chosen in zip(leaves, self.mask, strict=True)]
        rest = [None if chosen else leaf for leaf, chosen in zip(leaves, self.mask, strict=True)]
        return jax.tree.unflatten(self.treedef, selected), jax.tree.unflatten(self.treedef, rest)

    def merge(self, selected: Tree, rest: Tree) -> Tree:
        """The whole tree again."""
        mine, others = iter(jax.tree.leaves(selected)), iter(jax.tree.leaves(rest))
        return jax.tree.unflatten(self.treedef, [next(mine if chosen else others) for chosen in self.mask])


def _chosen(where: Where, path: str) -> bool:
    if where is None:
        return True
    if callable(where):
        return bool(where(path))
    patterns = (where,) if isinstance(where, str) else where
    return any(path == p or path.startswith(p.rstrip("/") + "/") or fnmatchcase(path, p) for p in patterns)


def select(params: Tree, where: Where = None) -> Selection:
    """Chooses leaves by path. Leaves that are not floating-point are never chosen: nothing differentiates them.

    Args:
        params: any pytree of arrays.
        where: None for all; a path or the beginning of one ("conv1"), or a pattern ("*/kernel"); several of these; or a
            function of the path.

    Returns:
        The selection; `split` and `merge` apply it.

    Raises:
        LrjaxError: nothing is selected.

    References:
        Patterns are those of `fnmatch`; paths those of `jax.tree_util.keystr` with "/" between keys.

    Example:
        >>> params = {"conv": {"kernel": jnp.ones(3), "bias": jnp.ones(1)}, "dense": {"kernel": jnp.ones(2)}}
        >>> select(params, "*/kernel").mask
        (False, True, True)
        >>> selected, rest = select(params, "conv").split(params)
        >>> selected["dense"], rest["conv"]
        ({'kernel': None}, {'bias': None, 'kernel': None})
    """
    leaves, treedef = jax.tree.flatten_with_path(params)
    floating = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for _, leaf in leaves]
    mask = tuple(real and _chosen(where, path_of(path)) for (path, _), real in zip(leaves, floating, strict=True))
    names = ", ".join(path_of(path) for (path, _), real in zip(leaves[:20], floating, strict=False) if real)
    check(any(mask), f"where={where!r} selects no parameters; there is: {names or 'no floating-point array'}")
    return Selection(treedef, mask)


def in_float32(params: Tree) -> Tree:
    """The parameters with half-precision leaves as float32; float64 leaves stay float64."""
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.promote_types(jnp.result_type(a), jnp.float32)), params)
