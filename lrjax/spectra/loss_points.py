"""The loss at many points of parameter space: one compiled program, a loop over batches on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lrjax.errors import check
from lrjax.spectra.batches import Batches
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.selection import Selection


class LossPoints(NamedTuple):
    """Losses at linear combinations of anchors.

    Attributes:
        functions: the loss function.
        selection: which parameters are moved.
        anchors: trees of the selected parameters; a point is sum_i c_i anchors[i].
        rest: the other parameters.
    """

    functions: Functions
    selection: Selection
    anchors: tuple[Tree, ...]
    rest: Tree

    def losses(self, data: Batches, coefficients: np.ndarray, chunk: int) -> np.ndarray:
        """The mean loss at each row of `coefficients` [n, anchors]: float64 [n], in one pass over the batches.

        Raises:
            LrjaxError: a chunk below 1, or a stream that gives other batches.
        """
        check(chunk >= 1, f"chunk must be >= 1, got {chunk}")
        program = _losses.of(self.functions, self.selection)
        count = len(coefficients)
        chunk = min(chunk, count)
        # Filled up with copies of the last point, so that one program serves all chunks.
        filled = np.concatenate([coefficients, np.repeat(coefficients[-1:], -count % chunk, axis=0)])
        rows = [jnp.asarray(filled[start : start + chunk]) for start in range(0, len(filled), chunk)]
        total = np.zeros(count)
        with jax.default_matmul_precision("highest"):
            for _, batch, _, share in data:
                parts = [program(self.anchors, self.rest, batch, row) for row in rows]
                total += share * np.concatenate([np.asarray(part, np.float64) for part in parts])[:count]
        return total

    def recomputed(
        self, data: Batches, coefficients: np.ndarray, recompute: Callable[[Tree], Tree] | None, chunk: int
    ) -> np.ndarray:
        """`losses` at the parameters that `recompute` makes of each point; `losses` itself for None."""
        if recompute is None:
            return self.losses(data, coefficients, chunk)
        means = []
        for row in coefficients:
            moved = self.selection.merge(_point(self.anchors, jnp.asarray(row)), self.rest)
            selected, rest = self.selection.split(recompute(moved))
            point = self._replace(anchors=(selected,), rest=rest)
            means.append(point.losses(data, np.ones((1, 1)), 1))
        return np.concatenate(means)


def _combined(anchors: tuple[Tree, ...], coefficients: jax.Array) -> Tree:
    def leaf(*parts: jax.Array) -> jax.Array:
        terms = [part * c.astype(part.dtype) for part, c in zip(parts, coefficients, strict=True)]
        return functools.reduce(jnp.add, terms)

    return jax.tree.map(leaf, *anchors)


@jax.jit
def _point(anchors: tuple[Tree, ...], row: jax.Array) -> Tree:
    return _combined(anchors, row)


@compiled(static=1)
def _losses(
    functions: Any,
    selection: Selection,
    anchors: tuple,
    rest: Tree,
    batch: Tree,
    coefficients: jax.Array,
) -> jax.Array:
    """The loss of a batch at each row of coefficients."""

    def one(row: jax.Array) -> jax.Array:
        return functions[0](selection.merge(_combined(anchors, row), rest), batch)

    # One point goes unmapped: a mapped axis of length one costs a convolution its fast path.
    return one(coefficients[0])[None] if coefficients.shape[0] == 1 else jax.vmap(one)(coefficients)
