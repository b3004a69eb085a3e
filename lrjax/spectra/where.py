"""Forms of `where`: a path, a pattern, a function, a tree of bools or a framework's filter, as one choice a leaf."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import jax
import numpy as np

from lrjax.errors import LrjaxError, check
from lrjax.spectra.frameworks import Leaf, Tree, is_a, loaded

Where = Any  # see `lrjax.spectra.selection.select`
Chooser = Callable[[int, Leaf], bool]


def chooser(where: Where, params: Tree, leaves: list[Leaf]) -> Chooser:
    """A function of a leaf's number and the leaf that says whether it is chosen.

    Args:
        where: as in `lrjax.spectra.selection.select`.
        params: the tree.
        leaves: of it, as `leaves_of` gives them.

    Raises:
        LrjaxError: a tree of bools of another structure, or something that is no choice.
    """
    if where is None or where is ...:
        return lambda number, leaf: leaf.trainable
    patterns = (where,) if isinstance(where, str) else where
    if isinstance(patterns, (tuple, list)) and patterns and all(isinstance(p, str) for p in patterns):
        return lambda number, leaf: leaf.trainable and any(_matches(leaf.path, p) for p in patterns)
    if _is_nnx_filter(where):
        return _of_nnx(where, leaves)
    if callable(where) and not _is_tree(where):
        return _of_function(where)
    mask = _mask(where, params)
    return lambda number, leaf: leaf.trainable and mask[number]


def _matches(path: str, pattern: str) -> bool:
    return path == pattern or path.startswith(pattern.rstrip("/") + "/") or fnmatchcase(path, pattern)


def _is_tree(where: Where) -> bool:
    """A module of bools may define `__call__`."""
    return not jax.tree_util.all_leaves([where])


def _of_function(where: Callable) -> Chooser:
    if str(getattr(where, "__module__", "")).startswith("equinox"):
        return lambda number, leaf: leaf.trainable and bool(where(leaf.value))
    try:
        parameters = inspect.signature(where).parameters.values()
    except ValueError:  # a builtin without a signature
        parameters = ()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in positional if p.default is p.empty]
    if len(needed) == 2:
        return lambda number, leaf: leaf.trainable and bool(where(leaf.path, leaf.value))
    return lambda number, leaf: leaf.trainable and bool(where(leaf.path))


def _is_nnx_filter(where: Where) -> bool:
    variable = loaded("flax.nnx", "Variable")
    if variable is None:
        return False
    parts = where if isinstance(where, (tuple, list)) and where else (where,)
    kinds = [isinstance(p, type) and issubclass(p, variable) or _is_filter_object(p) for p in parts]
    return all(kinds)


def _is_filter_object(where: Any) -> bool:
    module = str(type(where).__module__)
    return module.startswith("flax.nnx") and callable(where) and not is_a(where, "flax.nnx", "Module")


def _of_nnx(where: Any, leaves: list[Leaf]) -> Chooser:
    check(
        any(leaf.variable is not None for leaf in leaves),
        f"where={where!r} is a filter of NNX, and these parameters are no module or state of NNX: give a path or a pattern",
    )
    selects = loaded("flax.nnx.filterlib", "to_predicate")(where)

    def chosen(number: int, leaf: Leaf) -> bool:
        # A filter may name variables of one's own, but statistics and keys are never parameters.
        fixed = any(
            is_a(leaf.variable, "flax.nnx", name) for name in ("BatchStat", "RngState", "Cache", "Intermediate")
        )
        return leaf.variable is not None and not fixed and bool(selects(tuple(leaf.path.split("/")), leaf.variable))

    return chosen


def _mask(where: Tree, params: Tree) -> list[bool]:
    mask: list[bool] = []

    def spread(choice: Any, part: Tree) -> None:
        for value in jax.tree.leaves(part):
            mask.append(_one(choice(value) if callable(choice) else choice, where))

    try:
        jax.tree.map(spread, where, params, is_leaf=lambda node: node is None or _is_choice(node))
    except (ValueError, TypeError) as error:
        if isinstance(error, LrjaxError):
            raise
        raise LrjaxError(
            "`where` must be a path, a pattern, a function of path and leaf, a filter, or a tree of bools with the "
            f"structure of the parameters or a prefix of it, not {_short(where)}"
        ) from error
    return mask


def _is_choice(node: Any) -> bool:
    return callable(node) and not _is_tree(node)


def _one(choice: Any, where: Tree) -> bool:
    right = isinstance(choice, (bool, np.bool_)) or str(getattr(choice, "dtype", "")) == "bool" and np.ndim(choice) == 0
    check(right, f"a tree for `where` holds a bool for each leaf, and not {choice!r}, in {_short(where)}")
    return bool(choice)


def _short(where: Any) -> str:
    text = repr(where).replace("\n", " ")
    return text if len(text) <= 80 else text[:77] + "..."
