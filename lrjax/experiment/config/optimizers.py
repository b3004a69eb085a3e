"""The optimizers that a config may name: those of optax and optax.contrib, with their arguments."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from lrjax.errors import LrjaxError, nearest


@functools.cache
def optimizer_arguments(name: str) -> tuple[str, ...]:
    """The arguments of an optax optimizer, beside the learning rate.

    Raises:
        LrjaxError: optax has no optimizer of that name.

    Example:
        >>> optimizer_arguments("sgd")[:2]
        ('momentum', 'nesterov')
    """
    import optax  # here, because `--list` and a refused flag need no JAX
    from optax import contrib

    optimizers = [n for m in (optax, contrib) for n, f in vars(m).items() if callable(f) and _takes_learning_rate(f)]
    if name not in optimizers:
        raise LrjaxError(f"unknown optimizer.name {name!r}; {nearest(name, optimizers)}")
    return tuple(inspect.signature(optimizer_of(name)).parameters)[1:]


def optimizer_of(name: str) -> Callable:
    """The optimizer of that name, of optax or of optax.contrib."""
    import optax
    from optax import contrib

    return getattr(optax, name, None) or getattr(contrib, name)


def _takes_learning_rate(function: Any) -> bool:
    try:
        return next(iter(inspect.signature(function).parameters), None) == "learning_rate"
    except (TypeError, ValueError):
        return False
