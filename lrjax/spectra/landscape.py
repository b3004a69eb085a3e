"""Loss landscapes: the loss along a direction, or in the plane of two, through the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike

from lrjax.errors import check
from lrjax.spectra import validation
from lrjax.spectra.batches import Batches
from lrjax.spectra.frameworks import Tree
from lrjax.spectra.loss_points import LossPoints
from lrjax.spectra.perturbations import normalised, rows_of
from lrjax.spectra.programs import Functions
from lrjax.spectra.results import readable, to_dict
from lrjax.spectra.rules import HESSIAN
from lrjax.spectra.selection import named_leaves
from lrjax.spectra.sources import BatchSource
from lrjax.spectra.where import Where

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Float, Float64, PRNGKeyArray

    from lrjax.spectra.perturbations import FilterAxis


class Landscape(NamedTuple):
    """The loss on a grid in the plane, or on the line, through the parameters.

    Attributes:
        losses: [n] or [n, m] float64; `losses[i, j]` at params + grids[0][i] d_0 + grids[1][j] d_1.
        grids: one or two arrays [n], [m], in units of the directions.
        center: the loss at the parameters.
        directions: [1, D] or [2, D], as used: after normalisation.
        normalise: "filter", "layer" or None.

    References:
        Li et al. 2018, Visualizing the Loss Landscape of Neural Nets, arXiv 1712.09913.

    Example:
        >>> import jax.numpy as jnp
        >>> cut = loss_landscape(lambda w, x: jnp.mean((x @ w) ** 2), jnp.zeros(2), [jnp.eye(2)], jnp.ones(2), normalise=None)
        >>> cut.losses.shape, cut.center, float(cut.losses[0])
        ((21,), 0.0, 1.0)
    """

    losses: Float64[np.ndarray, "n"] | Float64[np.ndarray, "n m"]
    grids: tuple[Float64[np.ndarray, "n"], ...]
    center: float
    directions: Float[Array, "k D"]
    normalise: str | None

    to_dict = to_dict

    def __repr__(self) -> str:
        return readable(self)


def _grids(radius: float, num_points: int, grid: Any, k: int) -> tuple[np.ndarray, ...]:
    if grid is None:
        check(radius > 0 and num_points >= 2, f"radius must be > 0 and num_points >= 2, got {radius} and {num_points}")
        grid = np.linspace(-radius, radius, num_points)
    grids = grid if isinstance(grid, tuple) else (grid,) * k
    check(len(grids) == k, f"there are {k} directions and {len(grids)} grids: give one grid for all, or a tuple of {k}")
    made = tuple(np.asarray(g, np.float64) for g in grids)
    right = all(g.ndim == 1 and g.size > 0 and np.all(np.isfinite(g)) for g in made)
    check(right, "a grid is an array [n] of finite numbers, in units of its direction")
    return made


def loss_landscape(
    loss_fn: Callable[[Tree, Tree], Float[Array, ""]],
    params: Tree,
    batches: BatchSource,
    directions: Tree | Float[ArrayLike, "k D"] | PRNGKeyArray | tuple[Tree, ...],
    *,
    radius: float = 1.0,
    num_points: int = 21,
    grid: Float[ArrayLike, "n"] | tuple[Float[ArrayLike, "n"], ...] | None = None,
    normalise: str | None = "filter",
    biases: bool = False,
    filter_axis: FilterAxis = -1,
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
) -> Landscape:
    """The loss around the parameters, along one direction or in the plane of two.

    With normalise="filter" each filter of a direction, d <- d |w| / |d|, gets the norm of that filter of the parameters, and
    biases and parameters of normalisations, arrays of one axis, are left where they are, as in the paper: landscapes of
    networks of different scales can then be compared. "layer" does the same with whole arrays. Along eigenvectors take None,
    which moves along the direction as it is given.

    Statistics of BatchNorm are not computed again at the points: with running statistics the loss far from the parameters is
    that of a network whose activations are not normalised. `recompute` computes them at each point.

    Args:
        loss_fn: `(params, batch) -> scalar`, the mean over the batch's examples. Pass the same function object each time: the
            compiled program lives as long as it does.
        params: a pytree of any library, or a module.
        batches: a list of batches, a loader that can be read again, or a function that returns a fresh iterator over them.
        directions: one, or a tuple of two, each a tree like `params`, a flat vector [D] or a random key; or the rows of an
            array [k, D], such as `top.vectors[:2]` of an `Eigen`. A key alone gives two normally distributed directions.
        radius: the grid reaches from -radius to radius, in units of the normalised direction.
        num_points: of that grid, in each direction.
        grid: [n] coordinates instead, or a tuple of one array a direction.
        normalise: "filter", "layer" or None.
        biases: normalise arrays of one axis too, each as a single filter, instead of leaving them out.
        filter_axis: the axis of a kernel that numbers its filters: -1 for flax, Haiku and `x @ w`, 0 for Equinox; or a function
            of the path.
        where: which parameters are moved: see `lrjax.spectra.selection.select`.
        weight: `batch -> number`, what its loss weighs in the mean, as in `bind`; default its number of examples.
        num_examples: what the weights are divided by, in place of their sum.
        in_axes: where the examples of a batch lie, as in `bind`.
        shuffles: whether a stream may give other batches at each pass.
        additive: whether the loss of a batch is the mean over its examples, as in `bind`.
        has_aux: whether `loss_fn` returns `(scalar, auxiliary data)`.
        chunk: points evaluated at once, by `vmap`; more pay for small networks on a GPU.
        recompute: `params -> params`, called with the parameters of each point before its loss, outside any compiled
            program; the batches are then read once a point.
        checks: validate the loss first, as `bind` does.

    Returns:
        The landscape; `lrjax.plots.landscape.landscape_figure` draws it.

    Raises:
        LrjaxError: a direction of another shape, zero, NaN or parallel to the other; NaN parameters; a loss that is not a
            finite scalar at the parameters.

    References:
        Li et al. 2018, Visualizing the Loss Landscape of Neural Nets, arXiv 1712.09913, section 4.

    Example:
        >>> import jax.numpy as jnp
        >>> loss = lambda w, x: jnp.mean((x @ w) ** 2) / 2
        >>> axes = jnp.eye(2)
        >>> plane = loss_landscape(loss, jnp.zeros(2), [axes], axes, grid=jnp.array([0.0, 1.0, 2.0]), normalise=None)
        >>> plane.losses.tolist()
        [[0.0, 0.25, 1.0], [0.25, 0.5, 1.25], [1.0, 1.25, 2.0]]
    """
    selection, selected, rest = validation.prepare(params, where, "loss landscape")
    given = rows_of(directions, selected, frozenset(named_leaves(params)))
    rows = normalised(given, selected, normalise, biases=biases, filter_axis=filter_axis)
    grids = _grids(radius, num_points, grid, len(rows))
    anchors = (selected, *map(ravel_pytree(selected)[1], rows))
    functions = Functions(loss_fn, has_aux=has_aux)
    points = LossPoints(functions, selection, anchors, rest)
    look = validation.Inspection(HESSIAN, functions, (selection, selected, rest), additive) if checks else None
    data = Batches(batches, weight=weight, num_examples=num_examples, in_axes=in_axes, shuffles=shuffles, look=look)
    offsets = np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, len(grids))
    # The parameters themselves come first: no grid needs to hold them.
    offsets = np.concatenate([np.zeros((1, len(grids))), offsets])
    coefficients = np.concatenate([np.ones((len(offsets), 1)), offsets], axis=1)
    center, *losses = points.recomputed(data, coefficients, recompute, chunk)
    check(bool(np.isfinite(center)), "the loss at the parameters is NaN or infinite: there is no landscape around it")
    return Landscape(np.reshape(losses, [grid.size for grid in grids]), grids, float(center), rows, normalise)
