"""An operator at fixed parameters and data: what every algorithm takes. It sums over batches and counts its products."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.operators import Operator
from lrjax.spectra.products import Batches, Products, highest
from lrjax.spectra.selection import Tree, Where, select


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
    """

    def __init__(
        self,
        matmat: Callable[[jax.Array], jax.Array],
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

    def matmat(self, vectors: jax.Array) -> jax.Array:
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
        """A v for one vector: flat [D], or a tree like `params`; the same kind comes back."""
        product = self.matmat(self.ravel(v)[None])[0]
        return product if isinstance(v, (jax.Array, np.ndarray)) and v.ndim == 1 else self.unravel(product)

    def ravel(self, tree: Tree) -> jax.Array:
        """A tree like `params`, or a flat vector, as a flat vector [D].

        Raises:
            LrjaxError: neither.
        """
        flat = ravel_pytree(tree)[0].astype(self.dtype)
        check(flat.size == self.size, f"a vector of {self.name} has {self.size} numbers, not {flat.size}")
        return flat


def from_function(
    matmat: Callable[[jax.Array], jax.Array], size: int, dtype: Any = jnp.float32, *, name: str = "function", psd=False
) -> Bound:
    """Any symmetric map as a bound operator, so that every algorithm works on it.

    Args:
        matmat: `[k, size] -> [k, size]`, linear in each row.

    Example:
        >>> twice = from_function(lambda rows: 2 * rows, size=3)
        >>> twice.matvec(jnp.ones(3)).tolist()
        [2.0, 2.0, 2.0]
    """
    return Bound(matmat, jnp.zeros(size, dtype), name=name, psd=psd)


@jax.jit
def _dense_product(dense: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.matmul(rows, dense, precision="highest")


def matrix(a: Any, *, psd: bool = False) -> Bound:
    """A dense symmetric matrix [D, D] as a bound operator.

    Example:
        >>> matrix(np.diag([1.0, 2.0])).matvec(jnp.array([1.0, 1.0])).tolist()
        [1.0, 2.0]
    """
    dense = jnp.asarray(a)
    symmetric = dense.ndim == 2 and dense.shape[0] == dense.shape[1] and bool(jnp.allclose(dense, dense.T, rtol=1e-4))
    check(symmetric, f"a matrix must be square and symmetric; this has shape {list(dense.shape)}")
    dense = dense.astype(jnp.promote_types(dense.dtype, jnp.float32))
    return from_function(functools.partial(_dense_product, dense), dense.shape[0], dense.dtype, name="matrix", psd=psd)


def bind(
    operator: Operator,
    params: Tree,
    batches: Any,
    where: Where = None,
    *,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    keep_bytes: int = 0,
    checks: bool = True,
) -> Bound:
    """An operator at fixed parameters, averaged over all examples of the batches.

    Args:
        operator: from `lrjax.spectra.operators`.
        params: a pytree of any library. Half-precision leaves are measured in float32.
        batches: a list of batches (any pytrees, examples along the first axis of the first array), or a function that
            returns a fresh iterator over them, so that they stream. The last may be short: every example weighs the same.
        where: which parameters, by path: see `select`. The others are constants.
        mesh: spreads each batch over the devices of the mesh; with several processes each passes the same batches.
        chunk: vectors multiplied at once. None for as many as an algorithm asks for while what they take beside the vectors
            themselves, about the linearisation of one batch each, stays under 4 GiB.
        keep_bytes: the linearisations of the batches are kept between products while they take no more than this.
        checks: look at the loss (deterministic? right shape?) and at the parameters (finite?) first.

    Returns:
        The bound operator. `matmat` on k vectors takes about k times the memory of the tangents of one batch.

    Raises:
        LrjaxError: no examples; a loss that is not a scalar, or not deterministic; coupled per-example losses; NaN
            parameters; nothing selected.

    Example:
        >>> from lrjax.spectra import hessian
        >>> op = hessian(lambda w, x: jnp.mean((x @ w) ** 2))
        >>> bound = bind(op, jnp.zeros(2), [jnp.eye(2), jnp.ones((1, 2))])  # 2 x^T x / 3
        >>> bound.matvec(jnp.array([3.0, 0.0])).tolist(), bound.num_examples
        ([4.0, 2.0], 3)
    """
    selection = select(params, where)
    selected, rest = selection.split(params)
    selected = jax.tree.map(lambda a: jnp.asarray(a, jnp.promote_types(jnp.result_type(a), jnp.float32)), selected)
    data = Batches(batches, mesh)
    if checks:
        validation.finite(selected, operator.name)
        validation.loss(operator, selection.merge(selected, rest), data.first, data.sizes[0])
    if mesh is not None:
        selected, rest = parallel.put_shared((selected, rest), mesh)
    scale = None
    if operator.diagonal is not None:
        scale = jax.lax.rsqrt(ravel_pytree(selection.split(operator.diagonal)[0])[0])
    bare = operator._replace(name="", diagonal=None)  # so that a preconditioned operator shares the programs of its own
    made = Products(bare, selection, selected, rest, data, chunk, keep_bytes)
    product = made if scale is None else lambda vectors: made(vectors * scale[None]) * scale[None]
    return Bound(highest(product), selected, name=operator.name, num_examples=data.num_examples, psd=operator.psd)
