"""The loss on the line between two sets of parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.batches import Batches
from lrjax.spectra.examples import plain
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.loss_points import LossPoints
from lrjax.spectra.perturbations import norm
from lrjax.spectra.programs import Functions
from lrjax.spectra.results import readable, to_dict
from lrjax.spectra.rules import HESSIAN
from lrjax.spectra.selection import like_selected, named_leaves
from lrjax.spectra.sources import BatchSource
from lrjax.spectra.where import Where

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Float64


class LinearPath(NamedTuple):
    """The loss on the line from parameters a to parameters b, and its barrier.

    Attributes:
        grid: [n], the share t of b, ascending from 0 to 1.
        losses: [n] float64, at (1 - t) a + t b.
        barrier: max_t L(t) - (1 - t) L(0) - t L(1), the largest excess over the line between the losses of the ends;
            0 where no point is above it.
        barrier_at: the t of that maximum.
        distance: |b - a|.

    References:
        Entezari et al. 2022, The role of permutation invariance in linear mode connectivity of neural networks, arXiv
        2110.06296, definition 1.

    Example:
        >>> path = linear_path(lambda w, x: jnp.mean((w**2 - x) ** 2), jnp.ones(1), -jnp.ones(1), [jnp.ones(4)])
        >>> path.barrier, path.barrier_at, path.distance
        (1.0, 0.5, 2.0)
    """

    grid: Float64[np.ndarray, "n"]
    losses: Float64[np.ndarray, "n"]
    barrier: float
    barrier_at: float
    distance: float

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


def linear_path(
    loss_fn: Callable[[Tree, Tree], Float[Array, ""]],
    params_a: Tree,
    params_b: Tree,
    batches: BatchSource,
    *,
    num_points: int = 25,
    where: Where = None,
    weight: Callable[[Tree], ArrayLike] | None = None,
    num_examples: int | None = None,
    in_axes: Tree | int = 0,
    shuffles: bool = False,
    additive: bool = True,
    has_aux: bool = False,
    chunk: int = 1,
    recompute: Callable[[Tree], Tree] | None = None,
    checks: bool = True,
) -> LinearPath:
    """The loss along the line from one set of parameters to another, and the barrier between them.

    Two networks are linearly mode connected where the barrier is about zero. Statistics of BatchNorm are not computed again:
    without `recompute` the points between the ends use statistics that belong to no network, and barriers come out too high
    (Jordan et al. 2023).

    Args:
        loss_fn: `(params, batch) -> scalar`, the mean over the batch's examples; pass the same function object each time.
        params_a: a pytree of any library, or a module, at t = 0.
        params_b: like `params_a`, at t = 1.
        batches: a list of batches, a loader that can be read again, or a function that returns a fresh iterator over them.
        num_points: values of t, evenly from 0 to 1. The barrier is the maximum over these points.
        where: which parameters differ: see `lrjax.spectra.selection.select`. The others must be the same in both.
        weight: `batch -> number`, what its loss weighs in the mean, as in `bind`; default its number of examples.
        num_examples: what the weights are divided by, in place of their sum.
        in_axes: where the examples of a batch lie, as in `bind`.
        shuffles: whether a stream may give other batches at each pass.
        additive: whether the loss of a batch is the mean over its examples, as in `bind`.
        has_aux: whether `loss_fn` returns `(scalar, auxiliary data)`.
        chunk: points evaluated at once, by `vmap`.
        recompute: `params -> params`, called with the parameters of each point before its loss, for statistics of
            BatchNorm; the batches are then read once a point.
        checks: validate the loss first, as `bind` does.

    Returns:
        The path; `lrjax.plots.landscape.path_figure` draws it.

    Raises:
        LrjaxError: trees of different paths or shapes, or that differ outside of `where`; NaN parameters; a loss that is not a
            finite scalar at the ends.

    References:
        Frankle et al. 2020, Linear mode connectivity and the lottery ticket hypothesis, arXiv 1912.05671.
        Entezari et al. 2022, The role of permutation invariance in linear mode connectivity of neural networks, arXiv
        2110.06296.
        Jordan et al. 2023, REPAIR: REnormalizing permuted activations for interpolation repair, arXiv 2211.08403.

    Example:
        >>> loss = lambda w, x: jnp.mean((x @ w) ** 2)
        >>> path = linear_path(loss, jnp.zeros(2), 2 * jnp.ones(2), [jnp.eye(2)], num_points=3)
        >>> path.losses.tolist(), path.barrier
        ([0.0, 1.0, 4.0], 0.0)
    """
    check(num_points >= 2, f"num_points must be >= 2, got {num_points}")
    selection, start, rest = validation.prepare(params_a, where, "linear path")
    _, end, others = validation.prepare(params_b, where, "linear path")
    end = _like(end, start)
    if recompute is None:
        _check_same(rest, others)
    functions = Functions(loss_fn, has_aux=has_aux)
    points = LossPoints(functions, selection, (start, end), rest)
    look = validation.Inspection(HESSIAN, functions, (selection, start, rest), additive) if checks else None
    data = Batches(batches, weight=weight, num_examples=num_examples, in_axes=in_axes, shuffles=shuffles, look=look)
    t = np.linspace(0.0, 1.0, num_points)
    losses = points.recomputed(data, np.stack([1 - t, t], axis=1), recompute, chunk)
    check(
        bool(np.isfinite(losses[[0, -1]]).all()),
        "the loss at an end is NaN or infinite: there is no barrier between them",
    )
    excess = losses - (1 - t) * losses[0] - t * losses[-1]
    highest = int(np.argmax(excess))
    difference = ravel_pytree(jax.tree.map(jnp.subtract, end, start))[0]
    distance = float(norm(difference, (0,))[0])
    return LinearPath(t, losses, float(excess[highest]), float(t[highest]), distance)


def _like(tree: Tree, like: Tree) -> Tree:
    """The leaves of `tree` in the containers of `like`."""
    given = frozenset(named_leaves(tree))
    leaves = like_selected(like, tree, "params_b", given)
    check(
        len(leaves) == len(given),
        "params_b has more parameters than params_a: they are of different networks",
    )
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(like)]
    return jax.tree.unflatten(jax.tree.structure(like), map(jnp.asarray, leaves, dtypes))


def _equal(x: Any, y: Any) -> bool:
    x, y = plain(x), plain(y)
    return x.shape == y.shape and bool(np.all((x == y) | ((x != x) & (y != y))))


def _check_same(rest: Tree, others: Tree) -> None:
    ours, theirs = named_leaves(rest), named_leaves(others)
    for path in sorted(ours.keys() | theirs.keys()):
        same = path in ours and path in theirs and _equal(ours[path], theirs[path])
        check(
            same,
            f"{path} differs between the ends but is not moved along the path: compute it at each point (recompute=), widen "
            "`where`, or give both ends the same",
        )
