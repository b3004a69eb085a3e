"""Parameter selection: the leaves an operator acts on, as a static value, so that equal choices share a program."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lrjax.errors import check
from lrjax.spectra.frameworks import Constant, Graph, Leaf, Tree, is_nnx_module, leaves_of, loaded, refuse_states
from lrjax.spectra.where import Where, chooser

Named = dict[str, Any]  # path -> leaf


class Selection(NamedTuple):
    """The leaves of a tree that are selected; hashable.

    Attributes:
        treedef: of the tree; None for an NNX module.
        mask: a leaf each, whether it is selected.
        constants: a leaf each, what is no array (functions, strings); None for arrays.
        graph: the structure of an NNX module; None for other trees.

    References:
        Partition and combine of Equinox, arXiv 2111.00254: the parameters and the rest as two trees.

    Example:
        >>> selection = select({"w": jnp.ones(2), "step": 3})
        >>> selected, rest = selection.split({"w": jnp.ones(2), "step": 3})
        >>> rest, selection.merge(selected, rest)["step"]
        ({'step': 3, 'w': None}, 3)
    """

    treedef: Any  # a jax.tree_util.PyTreeDef, which pyright takes for a variable
    mask: tuple[bool, ...]
    constants: tuple[Constant | None, ...] = ()
    graph: Graph | None = None

    def split(self, params: Tree) -> tuple[Tree, Tree]:
        """`(selected, rest)`: trees of the same containers, with None in place of the leaves of the other."""
        if self.graph is not None:
            return self.graph.split(params)
        leaves = jax.tree.leaves(params)
        constants = self.constants or (None,) * len(leaves)
        selected = [leaf if chosen else None for leaf, chosen in zip(leaves, self.mask, strict=True)]
        rest = [
            None if chosen or constant is not None else leaf
            for leaf, chosen, constant in zip(leaves, self.mask, constants, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, selected), jax.tree.unflatten(self.treedef, rest)

    def merge(self, selected: Tree, rest: Tree) -> Tree:
        """The whole tree again."""
        if self.graph is not None:
            return self.graph.merge(selected, rest)
        mine, others = iter(jax.tree.leaves(selected)), iter(jax.tree.leaves(rest))
        constants = self.constants or (None,) * len(self.mask)
        leaves = [
            constant.value if constant is not None else next(mine if chosen else others)
            for chosen, constant in zip(self.mask, constants, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)


def select(params: Tree, where: Where = None) -> Selection:
    """Chooses the parameters that vary; the others are constants.

    Only real floating-point arrays are ever chosen, and of a module only what its optimizer steps: parameters, and neither
    running statistics nor the keys of a dropout. Of a Flax model's variables (`{"params": ..., "batch_stats": ...}`) that is
    "params". Variables that an NNX module shares count once.

    Args:
        params: any pytree of arrays, an NNX or an Equinox module.
        where: None for all. A path or the beginning of one ("conv1"), or a pattern ("*/kernel"); several of these. A
            function of the path, or of path and leaf, that returns whether the leaf is chosen. A tree of bools like
            params, or a prefix of it, such as a filter specification of Equinox. A filter of NNX, for its modules and
            states.

    Returns:
        The selection; `split` and `merge` apply it.

    Raises:
        LrjaxError: nothing is selected; complex parameters; a tree of bools of another structure; a training state.

    References:
        Patterns are those of `fnmatch`; paths those of `jax.tree_util.keystr` with "/" between keys.

    Example:
        >>> params = {"conv": {"kernel": jnp.ones(3), "bias": jnp.ones(1)}, "dense": {"kernel": jnp.ones(2)}}
        >>> select(params, "*/kernel").mask
        (False, True, True)
        >>> selected, rest = select(params, {"conv": True, "dense": False}).split(params)
        >>> selected["dense"], rest["conv"]
        ({'kernel': None}, {'bias': None, 'kernel': None})
    """
    refuse_states(params)
    module = params if is_nnx_module(params) else None
    definition, tree = loaded("flax.nnx", "split")(module) if module is not None else (None, params)
    leaves = leaves_of(tree)
    chosen = chooser(where, tree, leaves)
    wanted = [chosen(number, leaf) for number, leaf in enumerate(leaves)]
    mask = tuple(want and _is_real(leaf) for leaf, want in zip(leaves, wanted, strict=True))
    _check_complex(leaves, wanted)
    names = ", ".join([leaf.path for leaf in leaves if leaf.trainable and _is_real(leaf)][:20])
    check(any(mask), f"where={where!r} selects no parameters; there is: {names or 'no floating-point array'}")
    if definition is not None:
        paths = frozenset(leaf.path for leaf, take in zip(leaves, mask, strict=True) if take)
        return Selection(None, mask, (), Graph(definition, paths))
    constants = tuple(None if leaf.traced else Constant(leaf.value) for leaf in leaves)
    return Selection(jax.tree.structure(params), mask, () if all(c is None for c in constants) else constants)


def _is_real(leaf: Leaf) -> bool:
    return leaf.traced and jnp.issubdtype(jnp.result_type(leaf.value), jnp.floating)


def _check_complex(leaves: list[Leaf], wanted: list[bool]) -> None:
    for leaf, want in zip(leaves, wanted, strict=True):
        is_complex = want and leaf.traced and jnp.issubdtype(jnp.result_type(leaf.value), jnp.complexfloating)
        check(
            not is_complex,
            f"parameter {leaf.path} is complex, and curvature is defined for real numbers: pass its real and imaginary part as "
            "two leaves and join them inside the loss, or leave it out by `where`",
        )


def in_float32(params: Tree) -> Tree:
    """The parameters as arrays of JAX: half precision as float32; float64 stays where x64 is on, and is float32 elsewhere."""

    def wide(leaf: Any) -> jax.Array:
        dtype = jnp.promote_types(jnp.result_type(leaf), jnp.float32)
        return jnp.asarray(leaf, jax.dtypes.canonicalize_dtype(dtype))

    return jax.tree.map(wide, params)


def named_leaves(tree: Tree) -> Named:
    """Path -> leaf; the same paths for an NNX module, its state, and gradients of either."""
    if is_nnx_module(tree):
        tree = loaded("flax.nnx", "state")(tree)
    return {leaf.path: leaf.value for leaf in leaves_of(tree)}


A_LIST_IS_A_TREE = (
    "it must be a tree like the parameters or a flat vector (a list is a tree; several vectors are a tuple)"
)


def like_selected(selected: Tree, tree: Tree, name: str, remedy: str = A_LIST_IS_A_TREE) -> list[Any]:
    """The leaves of a tree that belong to the selected parameters, found by path, in their order.

    The tree may be like the selected parameters or like all parameters: a gradient, an update, an eigenvector.

    Args:
        selected: the parameters.
        tree: what should be like them.
        name: of the tree in the message.
        remedy: of a tree that lacks a leaf, in the message.

    Raises:
        LrjaxError: names the leaf that is missing, or of another shape.
    """
    given = named_leaves(tree)
    leaves = []
    for path, parameter in named_leaves(selected).items():
        place = f"leaf {path}" if path else "the array"
        check(
            path in given,
            f"{name} has no {place}, but {', '.join(list(given)[:8]) or 'no array'}: {remedy}",
        )
        shape, right = jnp.shape(given[path]), jnp.shape(parameter)
        check(shape == right, f"{place} of {name} has shape {shape}, and the parameter {right}")
        kind = jnp.result_type(given[path])
        check(not jnp.issubdtype(kind, jnp.complexfloating), f"{place} of {name} is complex; a vector is real")
        leaves.append(given[path])
    return leaves
