"""Batches of one measurement: which axis holds examples, what each batch weighs, and whether a stream repeats itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrjax.devices import parallel
from lrjax.errors import LrjaxError, check, path_of
from lrjax.spectra.examples import checksum
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.sources import BatchSource, as_arrays, batch_list

Axes = tuple[int | None, ...]  # of examples, a leaf each
Look = Callable[[int, Tree, "Batches"], None]


class Measure(NamedTuple):
    """Length and weight of a batch.

    Attributes:
        size: number of examples; 0 where no axis of the batch holds them.
        weight: a number, or [size] numbers, one an example.
    """

    size: int
    weight: float | np.ndarray


class Batches:
    """The batches of one measurement. Iterating gives `(number, batch, offset of its first example, share)`.

    A share is the batch's weight over the sum of weights (or `num_examples`); with a `weight` and `per_example` it is an
    array [B], a share an example. Batches without weight are left out.

    Args:
        batches: a list, a loader, or a function that returns a fresh iterator.
        mesh: spreads each batch over devices.
        weight: batch -> its weight, a number or one an example; None for the number of examples.
        num_examples: what weights are divided by; None for their sum.
        in_axes: where the examples lie, as in `jax.vmap`: an axis, None, or a tree of them, the prefix of a batch.
        per_example: whether a weight must be given for each example.
        shuffles: whether a stream may give other batches at each pass.
        look: called with the number of each batch, the batch, and this object, in the pass that counts the examples.
    """

    def __init__(
        self,
        batches: BatchSource,
        mesh: Mesh | None = None,
        *,
        weight: Callable[[Tree], Any] | None = None,
        num_examples: int | None = None,
        in_axes: Tree = 0,
        per_example: bool = False,
        shuffles: bool = False,
        look: Look | None = None,
    ):
        self.mesh, self.weight, self.in_axes, self.per_example = mesh, weight, in_axes, per_example
        source = batch_list(batches)
        self.streams = callable(source)
        self.source: Any = source if callable(source) else [as_arrays(b, i) for i, b in enumerate(source)]
        self.sizes: list[int] = []
        self.weights: list[float | np.ndarray] = []
        self.shapes: list | None = None
        self.sums: list[int] | None = [] if self.streams and not shuffles else None
        for number, batch in enumerate(self._raw()):
            self.first = batch if number == 0 else self.first
            self._count(batch, number)
            if look is not None:
                look(number, batch, self)
        check(bool(self.sizes), "there are no batches: the function gave an empty iterator")
        self.num_examples = self.counted = sum(self.sizes)
        self.total = self._total(num_examples)
        if num_examples is not None:
            self.num_examples = int(num_examples)
        if not self.streams:
            self.source = [parallel.put_examples(batch, mesh) for batch in self.source]

    def _raw(self) -> Iterable[Tree]:
        if not self.streams:
            return self.source
        return (as_arrays(batch, number) for number, batch in enumerate(self.source()))

    def _count(self, batch: Tree, number: int) -> None:
        axes = self.axes(batch, number)
        measure = self.measure(batch, number, axes)
        shapes = [
            s[:a] + s[a + 1 :]
            for s, a in zip(map(np.shape, jax.tree.leaves(batch)), axes, strict=True)
            if a is not None
        ]
        if self.weight is None and self.shapes is not None and len(shapes) == len(self.shapes):
            wrong = [pair for pair in zip(self.shapes, shapes, strict=True) if pair[0] != pair[1]]
            check(
                not wrong,
                f"batches 0 and {number} differ in more than the number of examples (shapes {wrong[:1]} of one): say what a "
                "batch weighs by weight=, such as weight=lambda batch: len(batch['x']), or where its examples lie by in_axes=",
            )
        self.shapes = self.shapes or shapes
        self.sizes.append(measure.size)
        self.weights.append(measure.weight)
        if self.sums is not None:
            self.sums.append(checksum(batch))

    def _total(self, num_examples: int | None) -> float:
        weights = float(sum(np.sum(w, dtype=np.float64) for w in self.weights))
        check(weights > 0, "the weights of the batches add up to zero: there is nothing to average")
        if num_examples is None:
            return weights
        right = isinstance(num_examples, (int, np.integer)) and num_examples > 0
        check(right, f"num_examples must be a positive integer, not {num_examples!r}")
        check(
            self.weight is not None or num_examples == self.num_examples,
            f"the batches hold {self.num_examples} examples, and num_examples is {num_examples}: say what a batch weighs by "
            "weight=, such as the sum of its mask",
        )
        return float(num_examples)

    def axes(self, batch: Tree, number: int = 0) -> Axes:
        """The axis of examples of each leaf; None for one that holds none.

        Raises:
            LrjaxError: `in_axes` does not fit the batch.
        """
        prefix = self.in_axes
        if isinstance(prefix, Mapping) and isinstance(batch, Mapping):
            unknown = set(prefix) - set(batch)
            check(not unknown, f"in_axes names {sorted(unknown)}, and batch {number} holds {sorted(batch)}")
            prefix = {key: prefix.get(key, 0) for key in batch}
            batch = dict(batch)
        axes: list[int | None] = []

        def spread(axis: int | None, part: Tree) -> None:
            axes.extend(_axis(axis, leaf, number) for leaf in jax.tree.leaves(part))

        try:
            jax.tree.map(spread, prefix, batch, is_leaf=lambda node: node is None)
        except (ValueError, TypeError) as error:
            if isinstance(error, LrjaxError):
                raise
            raise LrjaxError(
                f"in_axes must be an axis, None, or a tree of them with the structure of a batch or a prefix of it, not "
                f"{self.in_axes!r}"
            ) from error
        return tuple(axes)

    def measure(self, batch: Tree, number: int, axes: Axes | None = None) -> Measure:
        """Length and weight of a batch, or of some examples of one.

        Raises:
            LrjaxError: leaves of different lengths, no examples, or a weight that is none.
        """
        axes = self.axes(batch, number) if axes is None else axes
        lengths = {
            path_of(path): np.shape(leaf)[axis]
            for (path, leaf), axis in zip(jax.tree.leaves_with_path(batch), axes, strict=True)
            if axis is not None
        }
        known = self.weight is not None and not self.per_example
        if known and len(set(lengths.values())) != 1:
            return Measure(0, _number(self._weigh(batch, number), number))
        check(bool(lengths), f"batch {number} has no array with an axis of examples")
        shown = ", ".join(f"{path or 'the array'}: {size}" for path, size in list(lengths.items())[:6])
        check(
            len(set(lengths.values())) == 1,
            f"the leaves of batch {number} disagree about the number of examples ({shown}): say which hold examples by "
            "in_axes=, such as in_axes={'class_weights': None}, or what a batch weighs by weight=",
        )
        size = next(iter(lengths.values()))
        check(size > 0, f"batch {number} has no examples; leave empty batches out")
        if self.weight is None:
            return Measure(size, float(size))
        given = self._weigh(batch, number)
        if not self.per_example:
            return Measure(size, _number(given, number))
        check(
            given.shape == (size,),
            f"weight must give one number an example here, shape ({size},), not {given.shape}: each example has a gradient of "
            "its own, and padding would count as one; return the mask itself",
        )
        return Measure(size, _checked(given, number))

    def _weigh(self, batch: Tree, number: int) -> np.ndarray:
        assert self.weight is not None
        try:
            return np.asarray(self.weight(batch), np.float64)
        except (TypeError, ValueError) as error:
            raise LrjaxError(
                f"weight must be a function of a batch that gives numbers; on batch {number}: {error}"
            ) from error

    def __iter__(self) -> Iterator[tuple[int, Tree, int, Any]]:
        offset, count = 0, 0
        for number, batch in enumerate(self._raw()):
            count += 1
            if self.streams:
                self._compare(batch, number)
            if np.any(self.weights[number]):
                placed = parallel.put_examples(batch, self.mesh) if self.streams else batch
                yield number, placed, offset, self.share(number)
            offset += self.sizes[number]
        check(count == len(self.sizes), f"the stream gave {len(self.sizes)} batches before and {count} now: {REPEAT}")
        check(
            offset == sum(self.sizes) == self.counted,
            f"batches gave {self.counted} examples before and {offset} now: {REPEAT}",
        )
        self.sums = None  # one pass the same as the first is enough

    def share(self, number: int) -> Any:
        """The share of a batch: a float, or [B] float32 with `per_example` and a `weight`."""
        weight = self.weights[number]
        if isinstance(weight, np.ndarray):
            return jnp.asarray(weight / self.total, jnp.float32)
        return weight / self.total

    def _compare(self, batch: Tree, number: int) -> None:
        check(number < len(self.sizes), f"the stream gave {len(self.sizes)} batches before and more now: {REPEAT}")
        if self.sums is not None:
            check(
                self.sums[number] == checksum(batch),
                f"the stream gave another batch {number} at its second pass: a matrix needs the same examples in each product. "
                f"{REPEAT[0].upper()}{REPEAT[1:]}; if it only shuffles them, pass shuffles=True",
            )
            return
        measure = self.measure(batch, number)
        self.sizes[number], self.weights[number] = measure


REPEAT = "the function must return a fresh iterator over the same batches at every call, augmentation with a fixed key included"


def _axis(axis: int | None, leaf: Any, number: int) -> int | None:
    dimensions = np.ndim(leaf)
    if axis is None or dimensions == 0:
        return None
    right = isinstance(axis, (int, np.integer)) and -dimensions <= axis < dimensions
    check(right, f"in_axes={axis!r} does not fit a leaf of batch {number} of shape {np.shape(leaf)}")
    return int(axis) % dimensions


def _number(weight: np.ndarray, number: int) -> float:
    check(weight.ndim <= 1, f"weight must give a number, or one an example, not an array of shape {weight.shape}")
    return float(np.sum(_checked(weight, number)))


def _checked(weight: np.ndarray, number: int) -> np.ndarray:
    good = bool(np.all(np.isfinite(weight)) and np.all(weight >= 0))
    check(
        good,
        f"the weight of batch {number} is negative, NaN or infinite; a weight says how much of the mean a batch is",
    )
    return weight
