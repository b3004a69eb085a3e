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
from lrjax.spectra.directions import tangent_of
from lrjax.spectra.gram import flat_gradient
from lrjax.spectra.programs import Functions, compiled
from lrjax.spectra.rules import GRADIENT_COVARIANCE
from lrjax.spectra.selection import Selection, Tree, Where

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Float64

CHUNK = 8


@compiled(static=3)
def _squared_distances(
    functions: Any, selection: Selection, treedef: Any, axes: tuple, selected: Tree, rest: Tree, leaves, center
) -> jax.Array:
    """|g_i - center|^2 of the examples in a chunk; `axes` is 0 for leaves that hold examples, else None."""

    def one(*parts: jax.Array) -> jax.Array:
        batch = treedef.unflatten(
            [part if axis is None else part[None] for part, axis in zip(parts, axes, strict=True)]
        )
        gradient = jax.grad(lambda s: functions[0](selection.merge(s, rest), batch)[0])(selected)
        parts = jax.tree.map(lambda g, c: jnp.sum(jnp.square(g - c)), gradient, center)
        return jnp.sum(jnp.stack(jax.tree.leaves(parts)))

    return jax.vmap(one, in_axes=axes)(*leaves)


def gradient_norms(
    example_loss: Callable[[Tree, Tree], Float[Array, "n"]],
    params: Tree,
    batches: validation.BatchSource,
    *,
    where: Where = None,
    center: Tree = None,
    chunk: int = CHUNK,
) -> Float64[np.ndarray, "n"]:
    """Squared norms |g_i|^2 of per-example gradients, or |g_i - c|^2, with no more than `chunk` gradients in memory.

    A convolution that is mapped over examples becomes a grouped one, which a CPU runs no faster: SimpleCNN took about
    5 ms an example alone and with a chunk of 4 or 8, and 7 ms with 16. A GPU wants a larger chunk.

    Args:
        example_loss: `(params, batch) -> [n]`, a loss an example. Pass the same function object each time: the
            compiled program lives as long as it does.
        params: a pytree of any library.
        batches: a list of batches, or a function that returns an iterator over them.
        where: which parameters: see `lrjax.spectra.selection.select`.
        center: c, flat [D] or a tree like `params`; zero by default.
        chunk: gradients computed at once.

    Returns:
        [n], float64, in the order of the examples.

    Raises:
        LrjaxError: NaN parameters, losses that are not one an example, no batches, or a chunk below 1.

    References:
        Goodfellow 2015, Efficient per-example gradient computations, arXiv 1510.01799; here in the plain form, for any network.

    Example:
        >>> gradient_norms(lambda w, x: x @ w, jnp.zeros(2), [jnp.array([[3.0, 4.0], [0.0, 2.0]])]).tolist()
        [25.0, 4.0]
    """
    check(chunk >= 1, f"chunk must be >= 1, got {chunk}")
    selection, selected, rest = validation.prepare(params, where, "gradient")
    like, unravel = ravel_pytree(selected)
    middle = unravel(jnp.zeros_like(like) if center is None else tangent_of(selection, selected, center))
    functions, parts = Functions(example_loss), []
    for batch, size in validation.iter_batches(batches):
        if not parts:
            validation.loss(GRADIENT_COVARIANCE, functions, params, batch, size)
        leaves, treedef = jax.tree.flatten(jax.tree.map(np.asarray, batch))
        axes = tuple(0 if leaf.ndim and leaf.shape[0] == size else None for leaf in leaves)
        for start in range(0, size, chunk):
            # The last chunk repeats an example to keep its shape, hence its program.
            index = np.minimum(np.arange(start, start + chunk), size - 1)
            taken = [leaf if axis is None else leaf[index] for leaf, axis in zip(leaves, axes, strict=True)]
            with jax.default_matmul_precision("highest"):
                norms = _squared_distances(functions, selection, treedef, axes, selected, rest, taken, middle)
            parts.append(norms[: size - start])
    check(bool(parts), "there are no batches: the function gave an empty iterator")
    return np.concatenate([np.asarray(part, np.float64) for part in parts])


def covariance_trace(
    example_loss: Callable[[Tree, Tree], Float[Array, "n"]],
    params: Tree,
    batches: validation.BatchSource,
    *,
    where: Where = None,
    chunk: int = CHUNK,
) -> float:
    """The exact trace of the per-example gradient covariance, Tr K = mean_i |g_i - g|^2 = mean_i |g_i|^2 - |g|^2.

    The mean gradient is subtracted before squaring, so that nothing cancels where it outweighs the noise.

    Args:
        example_loss: `(params, batch) -> [n]`, a loss an example.
        params: a pytree of any library.
        batches: a list of batches, or a function that returns an iterator over them; read twice.
        where: which parameters: see `lrjax.spectra.selection.select`.
        chunk: gradients computed at once, as in `gradient_norms`.

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
    selection, selected, rest = validation.prepare(params, where, "gradient covariance")
    functions, total, count = Functions(example_loss), jnp.zeros_like(ravel_pytree(selected)[0]), 0
    for batch, size in validation.iter_batches(batches):
        with jax.default_matmul_precision("highest"):
            total += size * flat_gradient(functions, selection, selected, rest, batch)
        count += size
    check(count > 0, "there are no batches: the function gave an empty iterator")
    center = total / count
    norms = gradient_norms(example_loss, params, batches, where=where, center=center, chunk=chunk)
    return float(norms.mean())
