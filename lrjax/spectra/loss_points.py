"""The loss at many points of parameter space: one compiled program, a loop over batches on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.selection import Selection, Tree


class Batching(NamedTuple):
    """The batches of a mean of losses, and the weight of each.

    Attributes:
        batches: a list, or a function that streams them.
        weight: `batch -> number`; None for the number of examples.
        num_examples: divisor of the weighted sum; None for the sum of the weights.
    """

    batches: validation.BatchSource
    weight: Callable[[Tree], ArrayLike] | None = None
    num_examples: float | None = None

    def weighted(self) -> Iterator[tuple[Tree, float]]:
        """(batch, weight) of every batch."""
        for number, (batch, size) in enumerate(validation.iter_batches(self.batches)):
            weight = np.asarray(size if self.weight is None else self.weight(batch), np.float64)
            check(weight.ndim == 0 and bool(np.isfinite(weight)), f"the weight of batch {number} is no finite number")
            yield batch, float(weight)


class LossPoints(NamedTuple):
    """Losses at linear combinations of anchors.

    Attributes:
        functions: the loss function.
        selection: which parameters are moved.
        anchors: trees of the selected parameters; a point is sum_i c_i anchors[i].
        rest: the other parameters.
        has_aux: the loss function returns `(loss, aux)`.
    """

    functions: Functions
    selection: Selection
    anchors: tuple[Tree, ...]
    rest: Tree
    has_aux: bool = False

    def check_loss(self, batching: Batching) -> None:
        """Validates the shape of the loss on the first batch.

        Raises:
            LrjaxError: it is not a scalar.
        """
        for batch, _ in batching.weighted():
            program = _losses.of(self.functions, self.selection, self.has_aux)
            shape = program.eval_shape(self.anchors, self.rest, batch, jnp.ones((1, len(self.anchors)))).shape[1:]
            check(
                shape == (), f"the loss must be a scalar, the mean over the batch, not of shape {shape}; use jnp.mean"
            )
            break

    def losses(self, batching: Batching, coefficients: np.ndarray, chunk: int) -> np.ndarray:
        """The mean loss at each row of `coefficients` [n, anchors]: float64 [n], in one pass over the batches.

        Raises:
            LrjaxError: no batches, weights of zero, or a chunk below 1.
        """
        check(chunk >= 1, f"chunk must be >= 1, got {chunk}")
        program = _losses.of(self.functions, self.selection, self.has_aux)
        count = len(coefficients)
        chunk = min(chunk, count)
        # Filled up with copies of the last point, so that one program serves all chunks.
        filled = np.concatenate([coefficients, np.repeat(coefficients[-1:], -count % chunk, axis=0)])
        rows = [jnp.asarray(filled[start : start + chunk]) for start in range(0, len(filled), chunk)]
        total, weights = np.zeros(count), 0.0
        with jax.default_matmul_precision("highest"):
            for batch, weight in batching.weighted():
                parts = [program(self.anchors, self.rest, batch, row) for row in rows]
                total += weight * np.concatenate([np.asarray(part, np.float64) for part in parts])[:count]
                weights += weight
        divisor = weights if batching.num_examples is None else batching.num_examples
        check(weights > 0 and divisor > 0, "there are no batches, or their weights are zero: the loss has no mean")
        return total / divisor

    def recomputed(
        self, batching: Batching, coefficients: np.ndarray, recompute: Callable[[Tree], Tree] | None, chunk: int
    ) -> np.ndarray:
        """`losses` at the parameters that `recompute` makes of each point; `losses` itself for None."""
        if recompute is None:
            return self.losses(batching, coefficients, chunk)
        means = []
        for row in coefficients:
            moved = self.selection.merge(_point(self.anchors, jnp.asarray(row)), self.rest)
            selected, rest = self.selection.split(recompute(moved))
            point = self._replace(anchors=(selected,), rest=rest)
            means.append(point.losses(batching, np.ones((1, 1)), 1))
        return np.concatenate(means)


def _combined(anchors: tuple[Tree, ...], coefficients: jax.Array) -> Tree:
    def leaf(*parts: jax.Array) -> jax.Array:
        terms = [part * c.astype(part.dtype) for part, c in zip(parts, coefficients, strict=True)]
        return functools.reduce(jnp.add, terms)

    return jax.tree.map(leaf, *anchors)


@jax.jit
def _point(anchors: tuple[Tree, ...], row: jax.Array) -> Tree:
    return _combined(anchors, row)


@compiled(static=2)
def _losses(
    functions: Any,
    selection: Selection,
    has_aux: bool,
    anchors: tuple,
    rest: Tree,
    batch: Tree,
    coefficients: jax.Array,
) -> jax.Array:
    """The loss of a batch at each row of coefficients."""

    def one(row: jax.Array) -> jax.Array:
        loss = functions[0](selection.merge(_combined(anchors, row), rest), batch)
        several = isinstance(loss, (tuple, list)) and not has_aux
        check(
            not several, "the loss function returns several values, not one number; for (loss, aux) give has_aux=True"
        )
        return jnp.asarray(loss[0] if has_aux else loss)

    # One point goes unmapped: a mapped axis of length one costs a convolution its fast path.
    return one(coefficients[0])[None] if coefficients.shape[0] == 1 else jax.vmap(one)(coefficients)
