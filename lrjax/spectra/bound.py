"""Bound operator: a symmetric linear map v -> A v on the selected parameters, the input of every algorithm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike, DTypeLike

from lrjax.errors import check
from lrjax.spectra.selection import Tree

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float


class Bound:
    """A symmetric linear map v -> A v on D selected parameters.

    Made by `Operator.bind`, `matrix` or `from_function`. Vectors are flat arrays [D] or trees like `params`; several are
    the rows of [k, D] and share one pass over the data.

    Attributes:
        name: of the operator.
        size: D.
        dtype: of vectors.
        params: the selected parameters; None in place of the others.
        num_examples: over all batches.
        psd: whether A is positive semi-definite by construction.
        products: vectors multiplied so far.
        unravel: flat [D] -> a tree like `params`.

    Raises:
        LrjaxError: in `matmat`, `matvec` and `ravel`, for vectors of another size.

    References:
        The interface is that of `scipy.sparse.linalg.LinearOperator`, with vectors as rows.

    Example:
        >>> bound = Bound(lambda vectors: 2 * vectors, {"w": jnp.zeros(2)}, name="twice")
        >>> bound.matvec({"w": jnp.ones(2)})["w"].tolist(), bound.matvec(jnp.ones(2)).tolist(), bound.products
        ([2.0, 2.0], [2.0, 2.0], 2)
    """

    def __init__(
        self,
        matmat: Callable[[Float[Array, "k D"]], Float[Array, "k D"]],
        params: Tree,
        *,
        name: str,
        num_examples: int = 0,
        psd: bool = False,
    ):
        flat, self.unravel = ravel_pytree(params)
        self._matmat = matmat
        self.name, self.params, self.num_examples, self.psd = name, params, num_examples, psd
        self.size, self.dtype, self.products = flat.size, flat.dtype, 0

    def matmat(self, vectors: Float[ArrayLike, "k D"]) -> Float[Array, "k D"]:
        """A v for every row of `vectors` [k, D], in one pass over the data.

        Raises:
            LrjaxError: wrong shape.
        """
        vectors = jnp.asarray(vectors, self.dtype)
        shape = np.shape(vectors)
        right = len(shape) == 2 and shape[0] > 0 and shape[1] == self.size
        check(right, f"vectors must be [k, {self.size}] with k of 1 or more, not {list(shape)}")
        self.products += shape[0]
        return self._matmat(vectors)

    def matvec(self, v: Tree) -> Tree:
        """A v for one vector: flat [D], or a tree like `params`; the same kind comes back.

        Raises:
            LrjaxError: another size.
        """
        product = self.matmat(self.ravel(v)[None])[0]
        return product if isinstance(v, (jax.Array, np.ndarray)) and v.ndim == 1 else self.unravel(product)

    def ravel(self, tree: Tree) -> Float[Array, "D"]:
        """A tree like `params`, or a flat vector, as a flat vector [D].

        Raises:
            LrjaxError: another size.
        """
        flat = ravel_pytree(tree)[0].astype(self.dtype)
        check(flat.size == self.size, f"a vector of {self.name} has {self.size} numbers, not {flat.size}")
        return flat


def from_function(
    matmat: Callable[[Float[Array, "k D"]], Float[Array, "k D"]],
    size: int,
    dtype: DTypeLike = jnp.float32,
    *,
    name: str = "function",
    psd: bool = False,
) -> Bound:
    """Any symmetric map as a bound operator, so that every algorithm works on it.

    The function is called as it is, never compiled: jit it where its dispatch is expensive.

    Args:
        matmat: `[k, size] -> [k, size]`, linear in each row.
        size: D.
        dtype: of vectors.
        name: of the operator, for results and messages.
        psd: whether it is positive semi-definite.

    Returns:
        The bound operator, of no examples.

    Raises:
        LrjaxError: in its products, for vectors of another size.

    References:
        The interface is that of `scipy.sparse.linalg.LinearOperator`, with vectors as rows.

    Example:
        >>> twice = from_function(lambda rows: 2 * rows, size=3)
        >>> twice.matvec(jnp.ones(3)).tolist()
        [2.0, 2.0, 2.0]
    """
    return Bound(matmat, jnp.zeros(size, dtype), name=name, psd=psd)


@jax.jit
def _dense_product(dense: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.matmul(rows, dense, precision="highest")


def matrix(a: Float[ArrayLike, "D D"], *, psd: bool = False) -> Bound:
    """A dense symmetric matrix [D, D] as a bound operator. One program serves all matrices of a size.

    Args:
        a: [D, D]; integers and half precision are taken as float32.
        psd: whether it is positive semi-definite.

    Returns:
        The bound operator, of no examples.

    Raises:
        LrjaxError: not square, or not symmetric.

    References:
        The interface is that of `scipy.sparse.linalg.aslinearoperator`, with vectors as rows.

    Example:
        >>> matrix(np.diag([1.0, 2.0])).matvec(jnp.array([1.0, 1.0])).tolist()
        [1.0, 2.0]
    """
    dense = jnp.asarray(a)
    symmetric = dense.ndim == 2 and dense.shape[0] == dense.shape[1] and bool(jnp.allclose(dense, dense.T, rtol=1e-4))
    check(symmetric, f"a matrix must be square and symmetric; this has shape {list(dense.shape)}")
    dense = dense.astype(jnp.promote_types(dense.dtype, jnp.float32))
    return from_function(functools.partial(_dense_product, dense), dense.shape[0], dense.dtype, name="matrix", psd=psd)
