"""Per-example gradients: their squared norms, and the trace of their covariance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.batches import Batches
from lrjax.spectra.chunks import ON_CPU, chunk_size
from lrjax.spectra.directions import tangent_of
from lrjax.spectra.examples import Axes, rows_of
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.products import flat_mean_gradient, shares
from lrjax.spectra.programs import Functions, Remembered, compiled
from lrjax.spectra.rules import GRADIENT_COVARIANCE
from lrjax.spectra.selection import Selection, named_leaves
from lrjax.spectra.sources import BatchSource
from lrjax.spectra.where import Where

if TYPE_CHECKING:
    from jaxtyping import Float64

SIZES = Remembered()  # of chunks, by the shapes of what is differentiated


@compiled(static=3)
def _squared_distances(
    functions: Any, selection: Selection, treedef: Any, axes: tuple, selected: Tree, rest: Tree, leaves, center
) -> tuple[jax.Array, jax.Array]:
    """Largest entry m of |g_i - center| and |g_i - center|^2 / m^2 of the examples in a chunk.

    `axes` is the axis of examples of each leaf, None for those without.
    """

    def one(*parts: jax.Array) -> tuple[jax.Array, jax.Array]:
        batch = treedef.unflatten(
            [part if axis is None else jnp.expand_dims(part, axis) for part, axis in zip(parts, axes, strict=True)]
        )
        return _distance(jax.grad(lambda s: functions[0](selection.merge(s, rest), batch)[0])(selected), center)

    return jax.vmap(one, in_axes=axes)(*leaves)


def _distance(gradient: Tree, center: Tree) -> tuple[jax.Array, jax.Array]:
    away = jax.tree.leaves(jax.tree.map(jnp.subtract, gradient, center))
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(part), initial=0.0) for part in away]))
    unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
    return unit, jnp.sum(jnp.stack([jnp.sum(jnp.square(part / unit)) for part in away]))


@compiled(static=1)
def _distances_in_batch(
    functions: Any, selection: Selection, selected: Tree, rest: Tree, batch: Tree, picks: jax.Array, center: Tree
) -> tuple[jax.Array, jax.Array]:
    """The same for losses of a fixed batch length: each gradient is a pull-back through the whole batch, picks [chunk, B]."""
    pull = jax.vjp(lambda s: functions[0](selection.merge(s, rest), batch), selected)[1]
    return jax.vmap(lambda pick: _distance(pull(pick)[0], center))(picks)


def _takes_one_example(functions: Functions, prepared: tuple[Selection, Tree, Tree], batch: Tree, axes: Axes) -> bool:
    """Whether the losses of one example are one number; arrays of the whole batch in a closure make them more, or raise."""
    try:
        alone = rows_of(batch, axes, np.arange(1))
        return validation.value_shape(GRADIENT_COVARIANCE, functions, prepared, alone).shape == (1,)
    except Exception:
        return False


def gradient_norms(
    example_loss: Callable[[Tree, Tree], Any],
    params: Tree,
    batches: BatchSource,
    *,
    where: Where = None,
    weight: Callable[[Tree], Any] | None = None,
    in_axes: Tree = 0,
    center: Tree = None,
    chunk: int | None = None,
    has_aux: bool = False,
) -> Float64[np.ndarray, "n"]:
    """Squared norms |g_i|^2 of per-example gradients, or |g_i - c|^2, with no more than `chunk` gradients in memory.

    A convolution that is mapped over examples becomes a grouped one, which a CPU runs no faster: SimpleCNN took about
    5 ms an example alone and with a chunk of 4 or 8, and 7 ms with 16. A GPU wants as many as it holds. Losses that only take a
    whole batch (labels in a closure) are pulled back through it once for each example, which takes as many times as long.

    Args:
        example_loss: `(params, batch) -> [n]`, a loss an example. Pass the same function object each time: the
            compiled program lives as long as it does.
        params: a pytree of any library, or a module.
        batches: a list of batches, or a function that returns an iterator over them.
        where: which parameters: see `lrjax.spectra.selection.select`.
        weight: batch -> [B], as in `bind`; examples of weight zero (padding) are left out, the others count as they are.
        in_axes: where the examples of a batch lie, as in `bind`: None for leaves without, which are not cut.
        center: c, flat [D] or a tree like `params`; zero by default.
        chunk: gradients computed at once; None: 8 on a CPU, elsewhere as many of a batch as a quarter of the free memory holds.
        has_aux: whether `example_loss` returns `(losses, auxiliary data)`.

    Returns:
        [n], float64, in the order of the examples.

    Raises:
        LrjaxError: NaN parameters, losses that are not one an example, gradients that are not finite, no batches, or a chunk
            below 1.

    References:
        Goodfellow 2015, Efficient per-example gradient computations, arXiv 1510.01799; here in the plain form, for any network.

    Example:
        >>> gradient_norms(lambda w, x: x @ w, jnp.zeros(2), [jnp.array([[3.0, 4.0], [0.0, 2.0]])]).tolist()
        [25.0, 4.0]
    """
    prepared = validation.prepare(params, where, "gradient")
    functions = Functions(example_loss, has_aux=has_aux)
    look = validation.Inspection(GRADIENT_COVARIANCE, functions, prepared)
    data = Batches(batches, weight=weight, in_axes=in_axes, per_example=True, look=look)
    middle = None if center is None else tangent_of(prepared[1], center, frozenset(named_leaves(params)))
    return _norms(functions, prepared, data, middle, chunk)[0]


def _chunk(functions: Functions, prepared: tuple[Selection, Tree, Tree], batch: Tree, axes: Axes, most: int) -> int:
    """How many gradients this device computes at once; the same at each call with arrays of these shapes, hence programs."""
    selection, selected, rest = prepared
    one = rows_of(batch, axes, np.arange(1))
    shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves((selected, one)))
    known, key = SIZES.of(functions), (selection, shapes, most)

    def gradient(batch: Tree) -> Tree:
        return jax.grad(lambda s: functions[0](selection.merge(s, rest), batch)[0])(selected)

    if key not in known:
        known[key] = chunk_size(gradient, one, most)
    return known[key]


def _norms(
    functions: Functions, prepared: tuple[Selection, Tree, Tree], data: Batches, center: Any, chunk: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances from the center and weights of the examples that weigh something."""
    check(chunk is None or chunk >= 1, f"chunk must be >= 1, got {chunk}")
    selection, selected, rest = prepared
    like, unravel = ravel_pytree(selected)
    middle = unravel(jnp.zeros_like(like) if center is None else center)
    parts, weights, single = [], [], None
    for number, batch, _, _ in data:
        size = data.sizes[number]
        leaves, treedef = jax.tree.flatten(batch)
        axes = data.axes(batch, number)
        if single is None:
            single = _takes_one_example(functions, prepared, batch, axes)
        if chunk is None:  # a pull-back goes through the whole batch, whatever an example takes
            chunk = _chunk(functions, prepared, batch, axes, max(data.sizes)) if single else ON_CPU
        measured = []
        for start in range(0, size, chunk):
            # The last chunk repeats an example to keep its shape, hence its program.
            index = np.minimum(np.arange(start, start + chunk), size - 1)
            with jax.default_matmul_precision("highest"):
                if single:
                    taken = jax.tree.leaves(rows_of(batch, axes, index))
                    found = _squared_distances(functions, selection, treedef, axes, selected, rest, taken, middle)
                else:
                    picks = jnp.asarray(index[:, None] == np.arange(size)[None], like.dtype)
                    found = _distances_in_batch(functions, selection, selected, rest, batch, picks, middle)
            measured.append(found)
        # Read once a batch, so that the device does not wait for the host between chunks.
        largest, squares = (np.concatenate(part).astype(np.float64)[:size] for part in zip(*measured, strict=True))
        parts.append(largest**2 * squares)
        weights.append(np.broadcast_to(data.weights[number], (size,)) / (1 if data.weight else size))
    norms, shares = np.concatenate(parts), np.concatenate(weights)
    check(bool(np.all(np.isfinite(norms))), "the gradient of an example is not finite: look at the data and the loss")
    return norms[shares > 0], shares[shares > 0]


def covariance_trace(
    example_loss: Callable[[Tree, Tree], Any],
    params: Tree,
    batches: BatchSource,
    *,
    where: Where = None,
    weight: Callable[[Tree], Any] | None = None,
    in_axes: Tree = 0,
    chunk: int | None = None,
    has_aux: bool = False,
) -> float:
    """The exact trace of the per-example gradient covariance, Tr K = mean_i |g_i - g|^2 = mean_i |g_i|^2 - |g|^2.

    The mean gradient is subtracted before squaring, so that nothing cancels where it outweighs the noise.

    Args:
        example_loss: `(params, batch) -> [n]`, a loss an example.
        params: a pytree of any library, or a module.
        batches: a list of batches, or a function that returns an iterator over them; read twice.
        where: which parameters: see `lrjax.spectra.selection.select`.
        weight: batch -> [B], the weight of each example in both means, as in `bind`.
        in_axes: where the examples of a batch lie, as in `bind`.
        chunk: gradients computed at once, as in `gradient_norms`.
        has_aux: whether `example_loss` returns `(losses, auxiliary data)`.

    Returns:
        The trace, in float64.

    Raises:
        LrjaxError: as `gradient_norms`.

    References:
        Jastrzebski et al. 2020, The Break-Even Point on Optimization Trajectories, section 3.

    Example:
        >>> covariance_trace(lambda w, x: x @ w, jnp.zeros(2), [jnp.array([[3.0, 4.0]]), jnp.array([[1.0, 4.0]])])
        1.0
    """
    prepared = selection, selected, rest = validation.prepare(params, where, "gradient covariance")
    functions = Functions(example_loss, has_aux=has_aux)
    look = validation.Inspection(GRADIENT_COVARIANCE, functions, prepared)
    data = Batches(batches, weight=weight, in_axes=in_axes, per_example=True, look=look)
    center = jnp.zeros_like(ravel_pytree(selected)[0])
    for _, batch, _, share in data:
        weights, of_batch = shares(share)
        with jax.default_matmul_precision("highest"):
            center += of_batch * flat_mean_gradient(functions, selection, selected, rest, batch, weights)
    norms, of_examples = _norms(functions, prepared, data, center, chunk)
    return float(np.average(norms, weights=of_examples))
