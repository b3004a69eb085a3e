"""Loss landscapes and linear paths as figures."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from lrjax.plots.drawing import BLUE, GREY, STYLE, VERMILLION, Figure, canvas, legend_below, plain_log
from lrjax.spectra.landscape import Landscape
from lrjax.spectra.linear_path import LinearPath

LEVELS = 16
WIDE = 20.0  # ratio of the largest loss to the smallest from which on the scale is logarithmic
SCALINGS = {
    "filter": ", filters scaled to those of the parameters",
    "layer": ", layers scaled to those of the parameters",
}


def landscape_figure(landscape: Landscape, *, title: str = "Loss landscape") -> Figure:
    """The loss along a direction as a curve, or in a plane as contours; a wide range of positive losses is drawn in logarithms.

    Args:
        landscape: from `lrjax.spectra.loss_landscape`.
        title: heading of the figure.

    Example:
        >>> axis = np.linspace(-1, 1, 5)
        >>> bowl = Landscape(axis[:, None] ** 2 + axis**2, (axis, axis), 0.0, np.eye(2), None)
        >>> landscape_figure(bowl).name
        'landscape'
    """
    draw = _curve if len(landscape.grids) == 1 else _contours
    with matplotlib.rc_context(STYLE):
        fig, axes = canvas(height=3.2 if len(landscape.grids) == 1 else 4.2)
        scale = draw(axes[0, 0], landscape)
    finite = landscape.losses[np.isfinite(landscape.losses)]
    holes = landscape.losses.size - finite.size
    missing = (
        f" At {holes} of {landscape.losses.size} points the loss is not finite; they are left out." if holes else ""
    )
    caption = (
        f"Loss around the parameters (cross, {landscape.center:.4g}), in units of the directions"
        f"{SCALINGS.get(landscape.normalise or '', '')}; {scale} scale.{missing}"
    )
    return Figure("landscape", title, caption, fig)


def _is_wide(losses: np.ndarray) -> bool:
    low, high = (float(f(losses, initial=v)) for f, v in ((np.min, np.inf), (np.max, -np.inf)))
    return 0 < low < np.inf and high > WIDE * low


def _curve(axis: Axes, landscape: Landscape) -> str:
    finite = np.isfinite(landscape.losses)
    axis.plot(landscape.grids[0][finite], landscape.losses[finite], color=BLUE)
    axis.plot([0.0], [landscape.center], "x", color=VERMILLION, markersize=7, zorder=3)
    axis.set(xlabel="along the direction", ylabel="loss")
    wide = _is_wide(np.append(landscape.losses[finite], landscape.center))
    if wide:
        plain_log(axis)
    return "logarithmic" if wide else "linear"


def _contours(axis: Axes, landscape: Landscape) -> str:
    surface = np.ma.masked_invalid(landscape.losses.T)
    finite = surface.compressed()
    wide = _is_wide(finite)
    if finite.size and np.ptp(finite) > 0 and min(surface.shape) > 1:
        low, high = float(finite.min()), float(finite.max())
        levels = np.geomspace(low, high, LEVELS) if wide else np.linspace(low, high, LEVELS)
        norm = LogNorm(low, high) if wide else None
        filled = axis.contourf(*landscape.grids, surface, levels=levels, cmap="viridis", norm=norm)
        axis.contour(*landscape.grids, surface, levels=levels, colors="white", linewidths=0.4)
        bar = axis.figure.colorbar(filled, ax=axis, label="loss", format="%.3g", ticks=levels[:: max(1, LEVELS // 5)])
        bar.minorticks_off()
    axis.plot([0.0], [0.0], "x", color=VERMILLION, markersize=7, zorder=3)
    axis.set(xlabel="along direction 0", ylabel="along direction 1")
    return "logarithmic" if wide else "linear"


def path_figure(path: LinearPath, *, title: str = "Loss on the line between two networks") -> Figure:
    """The loss between two sets of parameters, the line between its ends, and the barrier.

    Args:
        path: from `lrjax.spectra.linear_path`.
        title: heading of the figure.

    Example:
        >>> grid = np.array([0.0, 0.5, 1.0])
        >>> path_figure(LinearPath(grid, np.array([0.1, 0.9, 0.3]), 0.7, 0.5, 2.0)).name
        'linear_path'
    """
    finite = np.isfinite(path.losses)
    ends = path.losses[[0, -1]]
    with matplotlib.rc_context(STYLE):
        fig, axes = canvas(height=3.2)
        axis = axes[0, 0]
        axis.plot(path.grid[finite], path.losses[finite], color=BLUE, marker="o", markersize=2.5, label="loss")
        axis.plot([0.0, 1.0], ends, color=GREY, linestyle="--", label="line between the ends")
        if 0 < path.barrier < np.inf:
            foot = float(ends[0] + path.barrier_at * (ends[1] - ends[0]))
            top = foot + path.barrier
            axis.plot([path.barrier_at] * 2, [foot, top], color=VERMILLION, label=f"barrier {path.barrier:.3g}")
        axis.set(xlabel="share t of the second network", ylabel="loss")
        legend_below(fig, 3)
    holes = int(np.sum(~finite))
    missing = f" At {holes} of {finite.size} points the loss is not finite; they are left out." if holes else ""
    caption = (
        f"Loss at (1 - t) a + t b. The barrier, its largest excess over the line between the ends, is {path.barrier:.4g} at "
        f"t = {path.barrier_at:.3g}; the networks are {path.distance:.4g} apart.{missing}"
    )
    return Figure("linear_path", title, caption, fig)
