"""The one error that a user is meant to read, the checks that raise it, and the names that messages give to leaves."""

import difflib
from collections.abc import Iterable
from typing import Any, NoReturn

FEW = 20  # names that an error message lists


class LrjaxError(ValueError):
    """Something the user can mend; its message is one sentence that says how.

    `lrjax.main` prints the sentence and exits with status 1, without a stack trace unless `--debug` is given.

    Example:
        >>> from lrjax.errors import LrjaxError
        >>> str(LrjaxError("unknown key 'sed'; did you mean 'seed'?"))
        "unknown key 'sed'; did you mean 'seed'?"
    """


def check(ok: bool, message: str) -> None:
    """Raises LrjaxError(message) unless ok."""
    if not ok:
        raise LrjaxError(message)


def refuse(message: str) -> NoReturn:
    """Raises LrjaxError(message)."""
    raise LrjaxError(message)


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the nearest valid one, or all of them.

    Example:
        >>> nearest("sed", ["seed", "scale"])
        "did you mean 'seed'?"
        >>> nearest("qqq", ["seed", "scale"])
        'valid names: scale, seed'
    """
    names = sorted(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6 if len(names) <= FEW else 0.0)
    return f"did you mean {close[0]!r}?" if close else "valid names: " + ", ".join(names)


def path_of(path: Any) -> str:
    """A leaf's path as one name, the same for attributes, keys and indices.

    Args:
        path: of `jax.tree.leaves_with_path`.

    Example:
        >>> import jax
        >>> [path_of(path) for path, _ in jax.tree.leaves_with_path({"conv1": {"kernel": 1}})]
        ['conv1/kernel']
    """
    import jax  # not above: a refused flag needs no JAX

    return jax.tree_util.keystr(path, simple=True, separator="/")


def by_path(tree: Any) -> dict[str, Any]:
    """Path -> leaf.

    Example:
        >>> by_path({"conv1": {"kernel": 1}})
        {'conv1/kernel': 1}
    """
    import jax

    return {path_of(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}
