"""Matrix-vector products summed over batches: the compiled programs, and linearisations kept between products."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from lrjax.devices.accelerators import platform
from lrjax.errors import path_of
from lrjax.spectra.batches import Batches
from lrjax.spectra.differentiation import needs_reverse
from lrjax.spectra.examples import in_float64
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.rules import LinearizeContext, Rule, mean_gradient
from lrjax.spectra.selection import Selection


def _complete(selection: Selection, rest: Tree) -> Callable[[Tree], Tree]:
    return lambda selected: selection.merge(selected, rest)


TANGENT_BYTES = 2**32


@compiled(static=1)
def flat_mean_gradient(
    functions: Any, selection: Selection, params: Tree, rest: Tree, batch: Tree, weights: Any
) -> jax.Array:
    """The gradient [D] of the mean of per-example losses, or of their sum by `weights`."""
    return ravel_pytree(mean_gradient(functions, params, batch, _complete(selection, rest), weights))[0]


def _linear_map(
    functions: Any,
    rule: Rule,
    selection: Selection,
    params: Tree,
    rest: Tree,
    batch: Tree,
    mean: Any,
    offset: Any,
    key: Any,
    weights: Any,
) -> Callable:
    context = LinearizeContext(_complete(selection, rest), mean, offset, key, weights, rule.reverse)
    return rule.linearize(functions, params, batch, context)


_linearized = compiled(static=2)(_linear_map)


def _cut(vector: jax.Array, params: Tree) -> Tree:
    """[D] as a tree like `params`."""
    leaves, treedef = jax.tree.flatten(params)
    parts = jnp.split(vector, np.cumsum([leaf.size for leaf in leaves[:-1]]))
    cut = [part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(parts, leaves, strict=True)]
    return jax.tree.unflatten(treedef, cut)


def _joined(tree: Tree, like: jax.Array) -> jax.Array:
    """A tree as a vector like `like`, [D]."""
    if platform() != "cpu":
        return ravel_pytree(tree)[0].astype(like.dtype)
    # XLA:CPU makes a concatenation a loop that asks at every element for its part; a part written in place is a copy. Not
    # written into zeros: they and the first part would become a `pad`, which is such a loop too.
    joined, start = like, 0
    for leaf in jax.tree.leaves(tree):
        joined = jax.lax.dynamic_update_slice(joined, leaf.reshape(-1).astype(like.dtype), (start,))
        start += leaf.size
    return joined


def _products(linear: Callable, params: Tree, vectors: jax.Array, weight: Any, total: jax.Array | None) -> jax.Array:
    """`total + weight * A v` for one vector [D] or every row of [k, D]; A v where `total` is None."""
    # One vector goes unmapped: a mapped axis of length one costs a convolution its fast path.
    if vectors.ndim == 1:
        product = linear(_cut(vectors, params))
        if total is not None:  # leaf by leaf: XLA:CPU would write the last part again at every element of a sum
            product = jax.tree.map(lambda old, new: old + weight * new, _cut(total, params), product)
        return _joined(product, vectors)
    unravel = ravel_pytree(params)[1]
    products = jax.vmap(lambda v: ravel_pytree(linear(unravel(v)))[0])(vectors)
    return products if total is None else total + weight * products


@compiled(static=2, donate=("total",))
def _add_product_of(functions, rule, selection, linear, params, vectors, weight, total):
    """Keyed by operator too, though it calls no function: a linear map carries constants of the loss that are not arrays."""
    return _products(linear, params, vectors, weight, total)


@compiled(static=2, donate=("total",))
def add_product(functions, rule, selection, params, rest, batch, mean, offset, key, weights, vectors, weight, total):
    """`total + weight * A v` for every row v, A of one batch; `total` is given up. A v where `total` is None."""
    linear = _linear_map(functions, rule, selection, params, rest, batch, mean, offset, key, weights)
    return _products(linear, params, vectors, weight, total)


def highest(call: Callable) -> Callable:
    """Curvature in full float32: on a GPU or TPU the default matmul has ten or seven bits of mantissa."""

    @functools.wraps(call)
    def precise(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return call(*args)

    return precise


def shares(share: Any) -> tuple[Any, float]:
    """`(share of each example or None, share of the batch)` as the rules take them: one of the two weighs."""
    return (None, share) if isinstance(share, float) else (share, 1.0)


class Products:
    """[k, D] -> [k, D] over all batches; linearisations that fit are kept."""

    def __init__(
        self,
        matrix: tuple[Rule, Functions, jax.Array | None],
        selection: Selection,
        values: tuple[Tree, Tree],
        data: Batches,
        chunk: int | None,
        keep: int,
        differentiation: str = "auto",
    ):
        """matrix: rule, functions and key; values: the selected parameters and the others."""
        self.rule, self.functions, self.key = matrix
        self.selection, self.values, self.data = selection, values, data
        # The only batch has its own mean, which a rule takes from its products for nothing.
        self.alone = len(data.sizes) == 1 and data.total == float(np.sum(data.weights[0]))
        centred = self.rule.centred and not self.alone
        self.mean = (
            values[0] if centred else None
        )  # of the right shape, for the trace; a loss that fails must fail there
        self.rule = self.rule._replace(reverse=highest(needs_reverse)(self.functions, differentiation, self._traced))
        self.mean = highest(self._mean_gradient)() if centred else None
        # Looked up once: for a small network that would be a good part of a product.
        self.add, self.add_of, self.linearized = (
            program.of(self.functions, self.rule, selection) for program in (add_product, _add_product_of, _linearized)
        )
        self.at_once = (lambda count: chunk) if chunk else self._fitting
        self.kept: dict[int, tuple[Callable, float]] = {}
        # In the precision of products, so that they use what is traced here.
        self.keeps = keep > 0 and highest(self._bytes)(keep) <= keep

    def _traced(self, reverse: bool) -> Any:
        """The first product as traced."""
        flat = jax.eval_shape(lambda tree: ravel_pytree(tree)[0], self.values[0])
        vector = jax.ShapeDtypeStruct((flat.size,), flat.dtype)
        arguments = self.arguments(self.data.first, 0, shares(self.data.share(0))[0])
        program = add_product.of(self.functions, self.rule._replace(reverse=reverse), self.selection)
        return program.trace(*arguments, vector, 1.0, None if self.alone else vector)

    def _mean_gradient(self) -> Tree:
        flat, unravel = ravel_pytree(self.values[0])
        gradient, total = flat_mean_gradient.of(self.functions, self.selection), jnp.zeros_like(flat)
        for _, batch, _, share in self.data:
            weights, weight = shares(share)
            total = total + weight * gradient(*self.values, batch, weights)
        return unravel(total)

    def arguments(self, batch: Tree, offset: int, weights: Any) -> tuple:
        """Arguments of the programs for a batch."""
        return *self.values, batch, self.mean, offset, self.key, weights

    def _batch_bytes(self, batch: Tree, offset: int, weights: Any) -> int:
        shapes = self.linearized.eval_shape(*self.arguments(batch, offset, weights))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))

    def _bytes(self, enough: int) -> int:
        total = 0
        for _, batch, offset, share in self.data:
            total += self._batch_bytes(batch, offset, shares(share)[0])
            if total > enough:
                break
        return total

    def _fitting(self, count: int) -> int:
        """As many of `count` vectors as fit into the memory set aside for their tangents."""
        return count if count <= 1 else max(1, min(count, TANGENT_BYTES // max(1, self.first_bytes)))

    @functools.cached_property
    def first_bytes(self) -> int:
        """Bytes of the linearisation of the first batch."""
        return self._batch_bytes(self.data.first, 0, shares(self.data.share(0))[0])

    def _linear_maps(self) -> Iterator[tuple[Callable, float]]:
        """(linear map, weight) of every batch."""
        if self.complete:  # the data need not be read again
            yield from self.kept.values()
            return
        for number, batch, offset, share in self.data:
            weights, weight = shares(share)
            linear = self.linearized(*self.arguments(batch, offset, weights))
            if self.keeps:
                self.kept[number] = linear, weight
            yield linear, weight
        self.complete = self.keeps

    complete = False

    def __call__(self, vectors: jax.Array) -> jax.Array:
        """A v for one vector [D] or every row of [k, D]."""
        count = 1 if vectors.ndim == 1 else vectors.shape[0]
        step = max(1, self.at_once(count))
        pieces = [vectors] if step >= count else [vectors[start : start + step] for start in range(0, count, step)]
        # One vector is [D] wherever it comes from, so that one program serves; a row would be a copy of it.
        pieces = [piece[0] if piece.shape[:-1] == (1,) else piece for piece in pieces]
        # The product with the only batch is the result: a total of zeros would cost a small network a good part of it.
        totals: list[Any] = [None if self.alone else jnp.zeros_like(piece) for piece in pieces]
        if len(pieces) == 1 and not self.keeps:
            for _, batch, offset, share in self.data:
                weights, weight = shares(share)
                totals[0] = self.add(*self.arguments(batch, offset, weights), pieces[0], weight, totals[0])
        else:
            for linear, weight in self._linear_maps():
                totals = [
                    self.add_of(linear, self.values[0], v, weight, t) for v, t in zip(pieces, totals, strict=True)
                ]
        if len(totals) == 1:
            return totals[0].reshape(vectors.shape)
        return jnp.concatenate([jnp.atleast_2d(total) for total in totals])

    def in_float64(self, vectors: jax.Array) -> np.ndarray:
        """The same product with everything in float64, not compiled into any cache; for telling why one in float32 failed."""
        with jax.enable_x64(True):
            selected, rest, mean = (jax.tree.map(in_float64, tree) for tree in (*self.values, self.mean))
            unravel = ravel_pytree(selected)[1]
            total = 0.0
            for _, batch, offset, share in self.data:
                weights, weight = shares(share)
                arguments = selected, rest, jax.tree.map(in_float64, batch), mean, offset, self.key, weights
                linear = _linear_map(self.functions, self.rule, self.selection, *arguments)
                rows = [ravel_pytree(linear(unravel(v)))[0] for v in jnp.atleast_2d(in_float64(vectors))]
                total = total + weight * np.stack([np.asarray(row) for row in rows])
            return np.asarray(total)

    def holes(self) -> str:
        """Which batch holds NaN or infinity, or an empty text."""
        for number, batch, _, _ in self.data:
            for path, leaf in jax.tree.leaves_with_path(batch):
                real = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
                if real and not bool(jnp.all(jnp.isfinite(leaf))):
                    return f"leaf {path_of(path)!r} of batch {number} holds NaN or infinity"
        return ""
