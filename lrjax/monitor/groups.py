"""Groups of parameters: by layer, by block, by role, or as the caller says."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp

from lrjax.errors import check, nearest, path_of
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.second_moments import plain

_NUMBERED = re.compile(r"^(.*?)[_.]?\d+$")
_EMBEDDING = re.compile(r"emb|wte|wpe", re.IGNORECASE)
_HEAD = re.compile(r"(^|[/_.])(lm_)?(head|classifier|logits|readout|unembed\w*)(?=$|[/_.\d])", re.IGNORECASE)


def layer(path: str, leaf: Any) -> str:
    """The path without the name of the array.

    Example:
        >>> layer("params/blocks/0/attention/kernel", None)
        'params/blocks/0/attention'
    """
    return path.rsplit("/", 1)[0]


def block(path: str, leaf: Any) -> str:
    """The path up to its first number, or its first name below "params".

    Example:
        >>> block("params/blocks/0/attention/kernel", None), block("params/Block_3/Dense_0/bias", None)
        ('blocks/0', 'Block_3')
    """
    names = [name for name in path.split("/") if name != "params"]
    for index, name in enumerate(names[:-1]):
        if name.isdigit() or _NUMBERED.match(name):
            return "/".join(names[: index + 1])
    return names[0]


def role(path: str, leaf: Any) -> str:
    """What a parameter is for: "embedding" and "head" by their names, "vector" (biases, scales) and "matrix" by the shape.

    Example:
        >>> [role(path, jnp.ones((2, 2))) for path in ("wte/embedding", "lm_head/kernel", "blocks/0/kernel")]
        ['embedding', 'head', 'matrix']
        >>> role("blocks/0/bias", jnp.ones(2))
        'vector'
    """
    if _EMBEDDING.search(path):
        return "embedding"
    if _HEAD.search(path):
        return "head"
    return "matrix" if jnp.ndim(leaf) >= 2 else "vector"


GROUPS: dict[str, Callable[[str, Any], Hashable]] = {
    "leaf": lambda path, leaf: path,
    "layer": layer,
    "block": block,
    "role": role,
    "all": lambda path, leaf: "all",
}
"""Ways to group parameters: name -> `(path, leaf) -> group`."""


def groups_of(params: Tree, by: str | Callable[[str, Any], Hashable] | Tree = "layer") -> tuple[str, ...]:
    """The group of each leaf, in the order of `jax.tree.leaves`.

    Args:
        params: the parameters.
        by: a name in `GROUPS`; a function `(path, leaf) -> group`; or a tree of labels like the parameters, or a prefix of
            it, or a function of the parameters that returns one, as `optax.partition` takes them (as `("labels", tree)`).

    Returns:
        A name a leaf.

    Raises:
        LrjaxError: an unknown name, a tree of labels that does not fit.

    Example:
        >>> groups_of({"a": {"w": 1.0, "b": 2.0}, "c": {"w": 3.0}})
        ('a', 'a', 'c')
        >>> groups_of({"a": {"w": 1.0, "b": 2.0}, "c": {"w": 3.0}}, ("labels", {"a": "muon", "c": "adam"}))
        ('muon', 'muon', 'adam')
    """
    params = plain(params)
    pairs = [(path_of(path), leaf) for path, leaf in jax.tree.leaves_with_path(params)]
    if isinstance(by, tuple) and len(by) == 2 and by[0] == "labels":
        labels = by[1](params) if callable(by[1]) else by[1]
        try:
            spread = jax.tree.map(lambda label, part: jax.tree.map(lambda _: label, part), labels, params)
        except (ValueError, TypeError):
            check(False, "the tree of labels does not fit the parameters; pass the one that optax.partition got")
        return tuple(str(label) for label in jax.tree.leaves(spread))
    if isinstance(by, str):
        check(by in GROUPS, f"there is no grouping {by!r}; {nearest(by, GROUPS)}")
        by = GROUPS[by]
    check(callable(by), f"groups must be one of {', '.join(GROUPS)}, a function or ('labels', tree), not {by!r}")
    function: Any = by
    return tuple(str(function(path, leaf)) for path, leaf in pairs)
