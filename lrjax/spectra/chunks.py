"""How many gradients of single examples to compute at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax

from lrjax.devices import accelerators
from lrjax.spectra.frameworks import Tree

ON_CPU = 8  # a convolution mapped over examples is a grouped one there, which is no faster for more of them
SHARE = 0.25  # of the memory that is free on an accelerator


def chunk_size(gradient: Callable[[Tree], Any], example: Tree, most: int) -> int:
    """Examples at once: few on a CPU, and on an accelerator as many as a quarter of its free memory holds.

    Args:
        gradient: of one example's loss.
        example: one example, or its shapes.
        most: examples of the longest batch.

    Returns:
        A power of two, or `most`; at least 1.

    Example:
        >>> import jax.numpy as jnp
        >>> chunk_size(jax.grad(lambda x: jnp.sum(x**2)), jnp.ones(3), most=128)
        8
    """
    free = accelerators.free_memory()
    if free is None:
        return ON_CPU if accelerators.platform() == "cpu" else most
    held = int(SHARE * free) // max(1, bytes_written(gradient, example))
    return most if held >= most else 2 ** max(0, held.bit_length() - 1)


def bytes_written(function: Callable[[Tree], Any], argument: Tree) -> int:
    """Bytes of all that a function computes on its way: no compiled program of it holds more at a time.

    Example:
        >>> import jax.numpy as jnp
        >>> bytes_written(lambda x: jnp.sin(x) + 1, jnp.ones(10, jnp.float32))
        80
    """
    return sum(_sizes(jax.make_jaxpr(function)(argument).jaxpr))


def _sizes(jaxpr: Any) -> Iterator[int]:
    for equation in jaxpr.eqns:
        yield from (v.aval.size * v.aval.dtype.itemsize for v in equation.outvars if hasattr(v.aval, "size"))
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if hasattr(inner, "eqns"):
                    yield from _sizes(getattr(inner, "jaxpr", inner))
