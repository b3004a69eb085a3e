"""An operator as a value, and bound to parameters and data: what every algorithm takes. It counts its products."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.products import Batches, Products, highest
from lrjax.spectra.programs import Functions
from lrjax.spectra.rules import LinearizeContext, Rule, mean_gradient, whole
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
    matmat: Callable[[jax.Array], jax.Array],
    size: int,
    dtype: Any = jnp.float32,
    *,
    name: str = "function",
    psd: bool = False,
) -> Bound:
    """Any symmetric map as a bound operator, so that every algorithm works on it.

    Nothing is compiled for it: a function that is dear to dispatch should be jitted.

    Args:
        matmat: `[k, size] -> [k, size]`, linear in each row.
        size: D.
        dtype: of vectors.
        name: what results call it.
        psd: whether it is positive semi-definite.

    Returns:
        The bound operator, of no examples.

    Raises:
        LrjaxError: in its products, for vectors of another size.

    Source: the interface is that of scipy.sparse.linalg.LinearOperator, with vectors as rows.

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
    """A dense symmetric matrix [D, D] as a bound operator. One program serves all matrices of a size.

    Args:
        a: the matrix; integers and half precision are taken as float32.
        psd: whether it is positive semi-definite.

    Returns:
        The bound operator, of no examples.

    Raises:
        LrjaxError: not square, or not symmetric.

    Source: the interface is that of scipy.sparse.linalg.aslinearoperator, with vectors as rows.

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
    operator: "Operator",
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

    The first product compiles, and so does the first with another number of vectors, with batches of another shape or with
    another choice of parameters. What is compiled serves every binding of every operator equal to this one but for its
    diagonal and key: at other parameters, with other data. Operators are equal where their functions are the same objects,
    and what is compiled is forgotten with the first function that nothing else holds.

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
        checks: look at the loss (deterministic? right shape?) and at the parameters (finite?) first. It calls the loss two
            or three times, outside any compiled program.

    Returns:
        The bound operator. `matmat` on k vectors takes about k times the memory of the tangents of one batch.

    Raises:
        LrjaxError: no examples; a loss that is not a scalar, or not deterministic; coupled per-example losses; NaN
            parameters; nothing selected.

    Source: products summed over batches as in Yao et al. 2020, PyHessian: Neural networks through the lens of the Hessian.

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
        validation.loss(operator.rule, operator.functions, selection.merge(selected, rest), data.first, data.sizes[0])
    if mesh is not None:
        selected, rest = parallel.put_shared((selected, rest), mesh)
    scale = None
    if operator.diagonal is not None:
        scale = jax.lax.rsqrt(ravel_pytree(selection.split(operator.diagonal)[0])[0])
    definition = (operator.rule, operator.functions, operator.key)
    made = Products(definition, selection, (selected, rest), data, chunk, keep_bytes)
    product = made if scale is None else lambda vectors: made(vectors * scale[None]) * scale[None]
    return Bound(highest(product), selected, name=operator.name, num_examples=data.num_examples, psd=operator.psd)


def _same_numbers(a: Tree, b: Tree) -> bool:
    """Whether two trees hold equal arrays; a traced array equals itself alone."""
    (first, treedef), (second, other) = jax.tree.flatten(a), jax.tree.flatten(b)
    return treedef == other and all(x is y or _equal(x, y) for x, y in zip(first, second, strict=True))


def _equal(x: Any, y: Any) -> bool:
    if isinstance(x, jax.core.Tracer) or isinstance(y, jax.core.Tracer) or jnp.result_type(x) != jnp.result_type(y):
        return False
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        x, y = jax.random.key_data(x), jax.random.key_data(y)
    return np.array_equal(x, y)


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """A curvature matrix as a value; made by the functions of `lrjax.spectra.operators`. It holds no parameters and no data.

    Two operators are equal if they are of one kind, their functions are the same objects and their arrays have the same
    numbers. Equal operators share what is compiled, and so do those that differ in key or diagonal.

    Attributes:
        name: what results call it.
        rule: what A v is of given functions.
        functions: of the caller.
        key: for operators that draw labels.
        diagonal: P of P^(-1/2) A P^(-1/2), a tree like params; None for A itself.
    """

    name: str
    rule: Rule
    functions: Functions
    key: jax.Array | None = None
    diagonal: Tree = None

    def __eq__(self, other: Any) -> bool:
        return (
            isinstance(other, Operator)
            and (self.name, self.rule, self.functions) == (other.name, other.rule, other.functions)
            and _same_numbers((self.key, self.diagonal), (other.key, other.diagonal))
        )

    def __hash__(self) -> int:
        return hash((self.name, self.rule, self.functions))

    @property
    def psd(self) -> bool:
        """Whether the matrix is positive semi-definite by construction."""
        return self.rule.psd

    @property
    def example_loss(self) -> Callable | None:
        """`(params, batch) -> [n]` for operators of per-example gradients, else None."""
        return self.functions[0] if self.rule.of_examples else None

    def value(self, params: Tree, batch: Tree) -> Any:
        """What is differentiated, at a batch."""
        return self.rule.value(self.functions, params, batch)

    def matvec(self, params: Tree, v: Tree, batch: Tree) -> Tree:
        """A v for the mean over one batch; a pure function that may be jitted, mapped and differentiated.

        It compiles nothing itself, and jitted it keeps the operator's functions for as long as the program.
        """
        mean = mean_gradient(self.functions, params, batch, whole) if self.rule.centred else None
        context = LinearizeContext(mean_gradient=mean, key=self.key)
        root = jax.tree.map(jnp.sqrt, self.diagonal)
        scaled = v if root is None else jax.tree.map(jnp.divide, v, root)
        product = self.rule.linearize(self.functions, params, batch, context)(scaled)
        return product if root is None else jax.tree.map(jnp.divide, product, root)

    bind = bind  # one signature and one docstring for the function and the method
