"""Bound operator: a symmetric linear map v -> A v on the selected parameters, the input of every algorithm."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike, DTypeLike

from lrjax.errors import check
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.selection import like_selected

if TYPE_CHECKING:
    import scipy.sparse.linalg
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
        unchecked: what could not be checked at binding, a sentence each.
        differentiation: "forward_over_reverse" or "reverse_over_reverse"; "" where nothing is differentiated.

    Raises:
        LrjaxError: in `matmat`, `matvec` and `ravel`, for vectors of another size, structure or leaf shape.

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
        matvec: Callable[[Float[Array, "D"]], Float[Array, "D"]] | None = None,
        num_examples: int = 0,
        psd: bool = False,
        unchecked: tuple[str, ...] = (),
        differentiation: str = "",
    ):
        flat, self.unravel = ravel_pytree(params)
        # A row would be a copy of a vector, and its product copied again.
        self._matmat, self._matvec = matmat, matvec or (lambda v: matmat(v[None])[0])
        self.name, self.params, self.num_examples, self.psd = name, params, num_examples, psd
        self.size, self.dtype, self.products = flat.size, flat.dtype, 0
        self.unchecked, self.differentiation = unchecked, differentiation
        self.of_squares = False  # whether it goes with the square of the loss's scale
        self.symmetric = True  # False where only a product can tell
        self.wide: Callable[[Any], np.ndarray] | None = None  # a product in float64, to tell why one in float32 failed
        self.holes: Callable[[], str] | None = None  # where the data hold NaN
        self._treedef = jax.tree.structure(params)
        self._shapes = [leaf.shape for leaf in jax.tree.leaves(params)]

    def __repr__(self) -> str:
        lines = [f"{self.name}: {self.size} x {self.size} {np.dtype(self.dtype).name}"]
        if self.num_examples:
            lines[0] += f", mean over {self.num_examples} examples"
        if self.psd:
            lines[0] += ", positive semi-definite"
        if self.differentiation:
            lines[0] += f", {self.differentiation.replace('_', ' ')}"
        return "\n".join([lines[0] + f"; {self.products} products so far", *self.unchecked])

    def matmat(self, vectors: Float[ArrayLike, "k D"]) -> Float[Array, "k D"]:
        """A v for every row of `vectors` [k, D], in one pass over the data.

        Raises:
            LrjaxError: wrong shape, or complex.
        """
        shape = np.shape(vectors)
        right = len(shape) == 2 and shape[0] > 0 and shape[1] == self.size
        check(right, f"vectors must be [k, {self.size}] with k of 1 or more, not {list(shape)}")
        check(not jnp.iscomplexobj(vectors), "vectors must be real; multiply the real and the imaginary part apart")
        self.products += shape[0]
        return self._matmat(self._array(vectors))

    def _array(self, vectors: ArrayLike) -> jax.Array:
        if isinstance(vectors, jax.Array) and vectors.dtype == self.dtype:
            return vectors
        return jnp.asarray(vectors, self.dtype)

    def multiply(self, vectors: Float[Array, "... D"]) -> Float[Array, "... D"]:
        """A v for one vector [D] or for every row of [k, D], arrays of the right size and dtype: the product of algorithms."""
        self.products += vectors.shape[0] if vectors.ndim == 2 else 1
        return self._matmat(vectors) if vectors.ndim == 2 else self._matvec(vectors)

    def matvec(self, v: Tree) -> Tree:
        """A v for one vector: flat [D], or a tree like `params` or like all parameters; a tree comes back like `params`.

        Raises:
            LrjaxError: another size, structure or leaf shape.
        """
        flat = isinstance(v, (jax.Array, np.ndarray)) and v.ndim == 1 and v.size == self.size
        product = self.multiply(self.ravel(v))
        return product if flat else self.unravel(product)

    def ravel(self, tree: Tree) -> Float[Array, "D"]:
        """A tree like `params` or like all parameters, or a flat vector, as a flat vector [D]; leaves are found by path.

        Raises:
            LrjaxError: another size, structure or leaf shape.
        """
        if isinstance(tree, (jax.Array, np.ndarray)) and tree.ndim == 1:
            size = tree.size
            check(size == self.size, f"a vector of {self.name} has {self.size} numbers, not {size}")
            check(not jnp.iscomplexobj(tree), "a vector must be real, and this is complex")
            return self._array(tree)
        leaves, treedef = jax.tree.flatten(tree)
        same = treedef == self._treedef and [np.shape(leaf) for leaf in leaves] == self._shapes
        if not same or any(jnp.iscomplexobj(leaf) for leaf in leaves):
            leaves = like_selected(self.params, tree, f"a vector of {self.name}")
        return jnp.concatenate([jnp.asarray(leaf, self.dtype).reshape(-1) for leaf in leaves])

    def as_linear_operator(self) -> scipy.sparse.linalg.LinearOperator:
        """The same map for SciPy, with columns for vectors: `eigsh`, `cg`, `svds` and whatever takes a `LinearOperator`.

        Returns:
            A `scipy.sparse.linalg.LinearOperator` of shape [D, D]; `matmat` takes [D, k] in one pass over the data.

        Example:
            >>> from lrjax.spectra import matrix
            >>> operator = matrix(np.diag([1.0, 2.0])).as_linear_operator()
            >>> operator.shape, operator.matvec(np.array([1.0, 1.0])).tolist()
            ((2, 2), [1.0, 2.0])
        """
        from scipy.sparse.linalg import LinearOperator

        def columns(vectors: np.ndarray) -> np.ndarray:
            return np.asarray(self.matmat(np.ascontiguousarray(vectors.T))).T

        def column(v: np.ndarray) -> np.ndarray:
            return np.asarray(self.matmat(np.reshape(v, (1, -1))))[0]

        # SciPy's own signature depends on the arguments, which its annotations do not say.
        build: Any = LinearOperator
        dtype, shape = np.dtype(self.dtype), (self.size, self.size)
        return build(shape, matvec=column, rmatvec=column, matmat=columns, rmatmat=columns, dtype=dtype)

    def underflows(self, vectors: Float[Array, "k D"]) -> bool:
        """Whether a product that is zero in float32 is not zero in float64."""
        wide = self._in_float64(vectors)
        return wide is not None and bool(np.any(wide))

    def _in_float64(self, vectors: jax.Array) -> np.ndarray | None:
        if self.wide is None:
            return None
        try:
            return self.wide(vectors)
        except Exception:  # a loss that asks for float32
            return None

    def explain(self, vectors: Float[Array, "k D"], fault: str) -> str:
        """A sentence on why a product failed, and what to do.

        Args:
            vectors: that were multiplied, [D] or [k, D].
            fault: "is not finite" or "underflows".
        """
        holes = self.holes() if self.holes is not None else ""
        if holes:
            return f"a product with {self.name} {fault}: {holes}"
        square = "; the eigenvalues of this matrix go with the square of the loss's scale" if self.of_squares else ""
        dtype = np.dtype(self.dtype).name
        if fault != "is not finite":
            return f"a product with {self.name} {fault} in {dtype}: multiply the loss by a large constant, such as 1e15{square}"
        wide = self._in_float64(vectors)
        if wide is not None and np.all(np.isfinite(wide)):
            return f"a product with {self.name} overflows {dtype}: multiply the loss by a small constant, such as 1e-15{square}"
        return (
            f"a product with {self.name} is not finite: the loss has no second derivative there (a root or a norm at "
            f"zero?), or it leaves the range of {dtype}"
        )


def from_function(
    matmat: Callable[[Float[Array, "k D"]], Float[Array, "k D"]],
    size: int,
    dtype: DTypeLike = jnp.float32,
    *,
    name: str = "function",
    psd: bool = False,
) -> Bound:
    """Any symmetric map as a bound operator, so that every algorithm works on it.

    Algorithms check the symmetry on the first vectors that they multiply.

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
        LrjaxError: in its products, for vectors of another size; in an algorithm, for a map that is not symmetric.

    References:
        The interface is that of `scipy.sparse.linalg.LinearOperator`, with vectors as rows.

    Example:
        >>> twice = from_function(lambda rows: 2 * rows, size=3)
        >>> twice.matvec(jnp.ones(3)).tolist()
        [2.0, 2.0, 2.0]
    """
    check(callable(matmat), f"matmat must be a function of rows [k, size], not {type(matmat).__name__}")
    bound = Bound(matmat, jnp.zeros(size, dtype), name=name, psd=psd)
    bound.symmetric = False
    return bound


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
        LrjaxError: not square, not symmetric, not finite, or out of the range of float32.

    References:
        The interface is that of `scipy.sparse.linalg.aslinearoperator`, with vectors as rows.

    Example:
        >>> matrix(np.diag([1.0, 2.0])).matvec(jnp.array([1.0, 1.0])).tolist()
        [1.0, 2.0]
    """
    given = np.asarray(a)
    check(
        given.ndim == 2 and given.shape[0] == given.shape[1],
        f"a matrix must be square, not of shape {list(given.shape)}",
    )
    check(not np.iscomplexobj(given), "a matrix must be real here; this is complex")
    dense = jnp.asarray(a)
    dense = dense.astype(jnp.promote_types(dense.dtype, jnp.float32))
    largest = float(jnp.max(jnp.abs(dense))) if dense.size else 0.0
    check(bool(np.isfinite(given.astype(np.float64)).all()), "the matrix holds NaN or infinity")
    info = jnp.finfo(dense.dtype)
    inside = largest == 0 and not np.any(given) or float(info.tiny) / float(info.eps) <= largest < float(info.max)
    check(
        inside,
        f"the matrix leaves the range of {dense.dtype}: its largest entry is {np.max(np.abs(given)):.1e}; rescale it",
    )
    symmetric = largest == 0 or bool(jnp.max(jnp.abs(dense / largest - dense.T / largest)) <= 1e-4)
    check(symmetric, "the matrix is not symmetric; these algorithms need A = A^T, such as (A + A^T) / 2")
    return Bound(
        functools.partial(_dense_product, dense), jnp.zeros(dense.shape[0], dense.dtype), name="matrix", psd=psd
    )
