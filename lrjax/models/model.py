"""What every part of lrjax knows of a network: two functions on plain pytrees."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lrjax.errors import LrjaxError


class Model(NamedTuple):
    """A network as a pair of pure functions; `params` and `model_state` are nested dicts of arrays.

    Attributes:
        init: `init(key, x) -> (params, model_state)`. `model_state` holds what is not trained, such as
            `{"batch_stats": ...}`, and is `{}` when there is nothing of the kind.
        apply: `apply(params, model_state, x, *, train, key=None) -> (outputs, model_state)`. `x` is `[B, ...]`;
            the returned `model_state` differs from the given one only when `train` is true.

    Example:
        >>> import jax.numpy as jnp
        >>> linear = Model(
        ...     init=lambda key, x: ({"w": jnp.ones((x.shape[-1], 1))}, {}),
        ...     apply=lambda params, model_state, x, *, train, key=None: (x @ params["w"], model_state),
        ... )
        >>> params, model_state = linear.init(None, jnp.ones((4, 3)))
        >>> linear.apply(params, model_state, jnp.ones((4, 3)), train=True)[0].shape
        (4, 1)
    """

    init: Callable
    apply: Callable


def lookup(table: Mapping[str, Any], name: str, what: str) -> Any:
    """Returns `table[name]`, or says which name was probably meant.

    Args:
        table: a registry, from name to function.
        name: the name that a user wrote.
        what: what the table holds, for the message ("model", "norm").

    Raises:
        LrjaxError: if the table has no such name.

    Example:
        >>> lookup({"simple_cnn": 1}, "simplecnn", "model")
        Traceback (most recent call last):
        lrjax.errors.LrjaxError: unknown model 'simplecnn': did you mean 'simple_cnn'? (there is: simple_cnn)
    """
    if name not in table:
        nearest = difflib.get_close_matches(str(name), table, n=1, cutoff=0.0)[0]
        raise LrjaxError(f"unknown {what} {name!r}: did you mean {nearest!r}? (there is: {', '.join(sorted(table))})")
    return table[name]
