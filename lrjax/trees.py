"""Names of the leaves of a pytree."""

from typing import Any

import jax


def path_of(path: Any) -> str:
    """A leaf's path as one name, the same for attributes, keys and indices.

    Args:
        path: of `jax.tree.leaves_with_path`.

    Example:
        >>> [path_of(path) for path, _ in jax.tree.leaves_with_path({"conv1": {"kernel": 1}})]
        ['conv1/kernel']
    """
    return jax.tree_util.keystr(path, simple=True, separator="/")


def by_path(tree: Any) -> dict[str, Any]:
    """Path -> leaf.

    Example:
        >>> by_path({"conv1": {"kernel": 1}})
        {'conv1/kernel': 1}
    """
    return {path_of(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
