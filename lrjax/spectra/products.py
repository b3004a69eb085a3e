"""Matrix-vector products summed over batches: the compiled programs, and linearisations kept between products."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.rules import LinearizeContext, Rule, mean_gradient
from lrjax.spectra.selection import Selection, Tree


def _complete(selection: Selection, rest: Tree) -> Callable[[Tree], Tree]:
    return lambda selected: selection.merge(selected, rest)


TANGENT_BYTES = 2**32


@compiled(static=1)
def _gradient(functions: Any, selection: Selection, params: Tree, rest: Tree, batch: Tree) -> jax.Array:
    return ravel_pytree(mean_gradient(functions, params, batch, _complete(selection, rest)))[0]


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
) -> Callable:
    return rule.linearize(functions, params, batch, LinearizeContext(_complete(selection, rest), mean, offset, key))


_linearized = compiled(static=2)(_linear_map)


def _rows(linear: Callable, params: Tree, vectors: jax.Array, weight: Any, total: jax.Array) -> jax.Array:
    unravel = ravel_pytree(params)[1]

    def one(v: jax.Array) -> jax.Array:
        return ravel_pytree(linear(unravel(v)))[0]

    # One vector goes unmapped: a mapped axis of length one costs a convolution its fast path.
    products = one(vectors[0])[None] if vectors.shape[0] == 1 else jax.vmap(one)(vectors)
    return total + weight * products


@compiled(static=2, donate=("total",))
def _add_product_of(functions, rule, selection, linear, params, vectors, weight, total):
    """Keyed by operator too, though it calls no function: a linear map carries constants of the loss that are not arrays."""
    return _rows(linear, params, vectors, weight, total)


@compiled(static=2, donate=("total",))
def add_product(functions, rule, selection, params, rest, batch, mean, offset, key, vectors, weight, total):
    """`total + weight * A v` for every row v, A of one batch; `total` is given up."""
    linear = _linear_map(functions, rule, selection, params, rest, batch, mean, offset, key)
    return _rows(linear, params, vectors, weight, total)


class Batches:
    """The batches of one binding, with the number of examples and the offset and weight of each."""

    def __init__(self, batches: validation.BatchSource, mesh: Mesh | None):
        self.mesh = mesh
        self.source = validation.batch_list(batches)
        if isinstance(self.source, list):
            self.source = [parallel.put_examples(batch, mesh) for batch in self.source]
        self.sizes = []
        for number, batch in enumerate(self._raw()):
            self.first = batch if number == 0 else self.first
            self.sizes.append(validation.count(batch, number))
        check(bool(self.sizes), "there are no batches: the function gave an empty iterator")
        self.num_examples = sum(self.sizes)

    def _raw(self) -> Iterable[Tree]:
        return self.source if isinstance(self.source, list) else self.source()

    def __iter__(self) -> Iterator[tuple[int, Tree, int, float]]:
        """(number, batch, offset of its first example, weight)."""
        offset = 0
        for number, batch in enumerate(self._raw()):
            size = validation.count(batch, number)
            placed = batch if isinstance(self.source, list) else parallel.put_examples(batch, self.mesh)
            yield number, placed, offset, size / self.num_examples
            offset += size
        check(
            offset == self.num_examples,
            f"batches gave {self.num_examples} examples before and {offset} now: the function must return a fresh iterator "
            "over the same batches at every call",
        )


def highest(call: Callable) -> Callable:
    """Curvature in full float32: on a GPU or TPU the default matmul has ten or seven bits of mantissa."""

    @functools.wraps(call)
    def precise(*args: Any) -> Any:
        with jax.default_matmul_precision("highest"):
            return call(*args)

    return precise


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
    ):
        """matrix: rule, functions and key; values: the selected parameters and the others."""
        rule, self.functions, self.key = matrix
        self.selection, self.values, self.data = selection, values, data
        # Looked up once: for a small network that would be a good part of a product.
        self.add, self.add_of, self.linearized = (
            program.of(self.functions, rule, selection) for program in (add_product, _add_product_of, _linearized)
        )
        self.at_once = (lambda count: chunk) if chunk else self._fitting
        self.mean = highest(self._mean_gradient)() if rule.centred else None
        self.kept: dict[int, Callable] = {}
        # In the precision of products, so that they use what is traced here.
        self.keeps = keep > 0 and highest(self._bytes)(keep) <= keep

    def _mean_gradient(self) -> Tree:
        flat, unravel = ravel_pytree(self.values[0])
        gradient, total = _gradient.of(self.functions, self.selection), jnp.zeros_like(flat)
        for _, batch, _, weight in self.data:
            total = total + weight * gradient(*self.values, batch)
        return unravel(total)

    def arguments(self, batch: Tree, offset: int) -> tuple:
        """Arguments of the programs for a batch."""
        return *self.values, batch, self.mean, offset, self.key

    def _batch_bytes(self, batch: Tree, offset: int) -> int:
        shapes = self.linearized.eval_shape(*self.arguments(batch, offset))
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))

    def _bytes(self, enough: int) -> int:
        total = 0
        for _, batch, offset, _ in self.data:
            total += self._batch_bytes(batch, offset)
            if total > enough:
                break
        return total

    def _fitting(self, count: int) -> int:
        """As many of `count` vectors as fit into the memory set aside for their tangents."""
        return count if count <= 1 else max(1, min(count, TANGENT_BYTES // max(1, self.first_bytes)))

    @functools.cached_property
    def first_bytes(self) -> int:
        """Bytes of the linearisation of the first batch."""
        return self._batch_bytes(self.data.first, 0)

    def _linear_maps(self) -> Iterator[tuple[Callable, float]]:
        """(linear map, weight) of every batch."""
        if len(self.kept) == len(self.data.sizes):  # the data need not be read again
            yield from ((self.kept[i], size / self.data.num_examples) for i, size in enumerate(self.data.sizes))
            return
        for number, batch, offset, weight in self.data:
            linear = self.linearized(*self.arguments(batch, offset))
            if self.keeps:
                self.kept[number] = linear
            yield linear, weight

    def __call__(self, vectors: jax.Array) -> jax.Array:
        """A v for every row."""
        step = max(1, self.at_once(vectors.shape[0]))
        pieces = [vectors[start : start + step] for start in range(0, vectors.shape[0], step)]
        totals = [jnp.zeros_like(piece) for piece in pieces]
        if len(pieces) == 1 and not self.keeps:
            total = totals[0]
            for _, batch, offset, weight in self.data:
                total = self.add(*self.arguments(batch, offset), vectors, weight, total)
            return total
        for linear, weight in self._linear_maps():
            totals = [self.add_of(linear, self.values[0], v, weight, t) for v, t in zip(pieces, totals, strict=True)]
        return totals[0] if len(totals) == 1 else jnp.concatenate(totals)
