"""An operator at fixed parameters and data: what every algorithm takes. It sums over batches and counts its products."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from lrjax import parallel
from lrjax.config import check
from lrjax.spectra import inspection
from lrjax.spectra.operators import At, Operator, gradient
from lrjax.spectra.selection import Selection, Tree, Where, select


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
        check(len(shape) == 2 and shape[1] == self.size, f"vectors must be [k, {self.size}], not {list(shape)}")
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


def _complete(selection: Selection, rest: Tree) -> Callable[[Tree], Tree]:
    return lambda selected: selection.merge(selected, rest)


_STATIC = ("operator", "selection")


@functools.partial(jax.jit, static_argnames=_STATIC)
def _gradient(operator: Any, selection: Selection, params: Tree, rest: Tree, batch: Tree) -> jax.Array:
    return ravel_pytree(gradient(operator.example_loss, params, batch, _complete(selection, rest)))[0]


def _linear_map(operator: Any, selection: Selection, params: Tree, rest: Tree, batch: Tree, mean: Any, offset: Any):
    return operator.linearize(params, batch, At(_complete(selection, rest), mean, offset))


_linearized = jax.jit(_linear_map, static_argnames=_STATIC)


def _rows(linear: Callable, params: Tree, vectors: jax.Array, weight: Any, total: jax.Array) -> jax.Array:
    unravel = ravel_pytree(params)[1]

    def one(v: jax.Array) -> jax.Array:
        return ravel_pytree(linear(unravel(v)))[0]

    # One vector goes unmapped: a mapped axis of length one costs a convolution its fast path.
    products = one(vectors[0])[None] if vectors.shape[0] == 1 else jax.vmap(one)(vectors)
    return total + weight * products


_add_product_of = jax.jit(_rows, donate_argnames=("total",))


@functools.partial(jax.jit, static_argnames=_STATIC, donate_argnames=("total",))
def _add_product(operator, selection, params, rest, batch, mean, offset, vectors, weight, total):
    linear = _linear_map(operator, selection, params, rest, batch, mean, offset)
    return _rows(linear, params, vectors, weight, total)


class _Batches:
    """The batches of one binding: how many examples, where each begins, and what may be kept of them between products."""

    def __init__(self, batches: Any, mesh: Mesh | None):
        self.mesh = mesh
        self.source = inspection.batch_list(batches)
        if isinstance(self.source, list):
            self.source = [parallel.put_examples(batch, mesh) for batch in self.source]
        self.sizes = []
        for number, batch in enumerate(self._raw()):
            self.first = batch if number == 0 else self.first
            self.sizes.append(inspection.count(batch, number))
        check(bool(self.sizes), "there are no batches: the function gave an empty iterator")
        self.num_examples = sum(self.sizes)

    def _raw(self) -> Iterable:
        return self.source if isinstance(self.source, list) else self.source()

    def __iter__(self) -> Iterator[tuple[int, Tree, int, float]]:
        """(number, batch, place of its first example, weight)."""
        offset = 0
        for number, batch in enumerate(self._raw()):
            size = inspection.count(batch, number)
            placed = batch if isinstance(self.source, list) else parallel.put_examples(batch, self.mesh)
            yield number, placed, offset, size / self.num_examples
            offset += size
        check(
            offset == self.num_examples,
            f"batches gave {self.num_examples} examples before and {offset} now: the function must return a fresh iterator "
            "over the same batches at every call",
        )


def _highest(call: Callable) -> Callable:
    """Curvature in full float32: on a GPU or TPU the default matmul has ten or seven bits of mantissa."""

    @functools.wraps(call)
    def precise(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return call(*args)

    return precise


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
        chunk: vectors multiplied at once; None for all that an algorithm asks for. Fewer need less memory.
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
    data = _Batches(batches, mesh)
    if checks:
        inspection.finite(selected, operator.name)
        inspection.loss(operator, selection.merge(selected, rest), data.first, data.sizes[0])
    if mesh is not None:
        selected, rest = parallel.put_shared((selected, rest), mesh)
    scale = None
    if operator.diagonal is not None:
        scale = jax.lax.rsqrt(ravel_pytree(selection.split(operator.diagonal)[0])[0])
    bare = operator._replace(name="", diagonal=None)  # so that a preconditioned operator shares the programs of its own
    made = _Products(bare, selection, selected, rest, data, chunk, keep_bytes)
    product = made if scale is None else lambda vectors: made(vectors * scale[None]) * scale[None]
    return Bound(_highest(product), selected, name=operator.name, num_examples=data.num_examples, psd=operator.psd)


class _Products:
    """[k, D] -> [k, D] over all batches; linearisations that fit are kept."""

    def __init__(self, operator: Operator, selection: Selection, params: Tree, rest: Tree, data: _Batches, chunk, keep):
        self.what, self.data, self.chunk = (operator, selection, params, rest), data, chunk
        self.mean = _highest(self._mean_gradient)() if operator.centred else None
        self.kept: dict[int, Callable] = {}
        self.keeps = keep > 0 and self._bytes(keep) <= keep

    def _mean_gradient(self) -> Tree:
        flat, unravel = ravel_pytree(self.what[2])
        total = jnp.zeros_like(flat)
        for _, batch, _, weight in self.data:
            total = total + weight * _gradient(*self.what, batch)
        return unravel(total)

    def _bytes(self, enough: int) -> int:
        total = 0
        for _, batch, offset, _ in self.data:
            arguments = (*self.what[2:], batch, self.mean, offset)
            shapes = jax.eval_shape(functools.partial(_linear_map, *self.what[:2]), *arguments)
            total += sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
            if total > enough:
                break
        return total

    def _linear_maps(self) -> Iterator[tuple[Callable, float]]:
        """(linear map, weight) of every batch."""
        if len(self.kept) == len(self.data.sizes):  # the data need not be read again
            yield from ((self.kept[i], size / self.data.num_examples) for i, size in enumerate(self.data.sizes))
            return
        for number, batch, offset, weight in self.data:
            linear = _linearized(*self.what, batch, self.mean, offset)
            if self.keeps:
                self.kept[number] = linear
            yield linear, weight

    def __call__(self, vectors: jax.Array) -> jax.Array:
        step = self.chunk or max(1, vectors.shape[0])
        pieces = [vectors[start : start + step] for start in range(0, vectors.shape[0], step)]
        totals = [jnp.zeros_like(piece) for piece in pieces]
        if len(pieces) == 1 and not self.keeps:
            total = totals[0]
            for _, batch, offset, weight in self.data:
                total = _add_product(*self.what, batch, self.mean, offset, vectors, weight, total)
            return total
        for linear, weight in self._linear_maps():
            totals = [_add_product_of(linear, self.what[2], v, weight, t) for v, t in zip(pieces, totals, strict=True)]
        return totals[0] if len(totals) == 1 else jnp.concatenate(totals)
