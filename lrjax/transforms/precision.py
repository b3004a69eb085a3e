"""The dtype that a function is computed in, and how small a number is rounding in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.transforms.leaves import canonical, is_array

if TYPE_CHECKING:
    from jaxtyping import PyTree

# Relative size below which an inner product or a change of a loss is rounding. Measured on residual networks: twice to ten
# times the rounding of their products.
TOLERANCES = {"float64": 1e-9, "float32": 3e-4, "float16": 2e-3, "bfloat16": 1e-2}


def computed_dtype(function: Callable[..., Any], params: PyTree, *args: PyTree) -> np.dtype:
    """The floating-point dtype of the largest rounding that params pass through.

    Args:
        function: of params and args.
        params, args: pytrees of arrays.

    Returns:
        The coarsest dtype among the parameters and all that is computed from them; casts of other inputs do not count.

    Example:
        >>> computed_dtype(lambda w, x: jnp.sum(w.astype(jnp.bfloat16) @ x), jnp.ones(3), jnp.ones(3, jnp.bfloat16)).name
        'bfloat16'
        >>> computed_dtype(lambda w, x: jnp.sum(w @ x.astype(jnp.float32)), jnp.ones(3, jnp.float32), np.ones(3)).name
        'float32'
    """
    closed = jax.make_jaxpr(lambda leaves: function(leaves, *args))(params)
    dtypes = [np.dtype(leaf.dtype) for leaf in jax.tree.leaves(params)]
    dtypes += _dtypes(closed.jaxpr, [True] * len(closed.jaxpr.invars))
    return max((dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.inexact)), key=_eps)


def _eps(dtype: np.dtype) -> float:
    return float(jnp.finfo(dtype).eps)


def _dtypes(jaxpr: Any, depends: Sequence[bool]) -> Iterator[np.dtype]:
    """Dtypes of the results that depend on the inputs marked."""
    marked = {id(variable) for variable, mark in zip(jaxpr.invars, depends, strict=True) if mark}
    for equation in jaxpr.eqns:
        inside = [id(variable) in marked for variable in equation.invars]
        if not any(inside):
            continue
        for variable in equation.outvars:
            marked.add(id(variable))
            dtype = getattr(variable.aval, "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.inexact):
                yield np.dtype(dtype)
        for inner in _inner(equation.params.values()):
            # The predicate of `cond` is no input of its branches; others whose inputs differ are taken to depend.
            of_inner = inside[len(inside) - len(inner.invars) :]
            aligned = len(of_inner) == len(inner.invars)
            yield from _dtypes(inner, of_inner if aligned else [True] * len(inner.invars))


def _inner(values: Any) -> Iterator[Any]:
    for value in jax.tree.leaves(list(values), is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")):
        jaxpr = getattr(value, "jaxpr", value)
        if hasattr(jaxpr, "eqns"):
            yield jaxpr


def widened(tree: PyTree) -> PyTree:
    """A tree with float16 and bfloat16 as float32, and arrays of the host as JAX computes with them.

    Args:
        tree: any pytree; leaves that are no arrays of floats are kept.

    Example:
        >>> widened({"w": jnp.ones(2, jnp.bfloat16), "label": 3})
        {'label': 3, 'w': Array([1., 1.], dtype=float32)}
    """

    def wide(leaf: Any) -> Any:
        if not is_array(leaf):
            return leaf
        leaf = canonical(leaf)
        return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))

    return jax.tree.map(wide, tree)
