"""A spectral density as a figure."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from lrjax.plots.drawing import BLUE, GREY, STYLE, VERMILLION, Figure, canvas, legend_below
from lrjax.spectra.density import Density

LABELLED = 8  # outliers that the caption names
DECADES = 0.1  # width of the Gaussian on the logarithmic axis


def density_figure(density: Density, outliers: ArrayLike | None = None, *, title: str = "Spectral density") -> Figure:
    """A spectral density over eigenvalues, and over their logarithms with the signs apart; outliers are marked.

    Args:
        density: from `lrjax.spectra.density.density`.
        outliers: [k] eigenvalues to mark; default those that were deflated.
        title: heading of the figure.

    Example:
        >>> nodes, weights = np.array([[-1.0, 0.0, 2.0]]), np.array([[0.2, 0.5, 0.2]])
        >>> density_figure(Density(nodes, weights, np.array([9.0]), 10, 0)).name
        'density'
    """
    marked = np.sort(np.asarray(density.atoms if outliers is None else outliers, float).ravel())[::-1]
    with matplotlib.rc_context(STYLE):
        fig, axes = canvas(2, 1, height=5.4)
        _linear(axes[0, 0], density, marked)
        zero = _logarithmic(axes[1, 0], density, marked)
        legend_below(fig, 3)
    share = f" {zero:.0%} of the eigenvalues are too small to have a sign in float32." if zero >= 0.005 else ""
    caption = (
        f"Share of the {density.size} eigenvalues by stochastic Lanczos quadrature, smoothed by a Gaussian; top over the "
        "eigenvalue, bottom over its size, positive and negative apart. Both heights are logarithmic, down to about the "
        f"height of a single eigenvalue.{share} {_listed(marked)}"
    )
    return Figure("density", title, caption.strip(), fig)


def _listed(marked: NDArray[Any]) -> str:
    if not marked.size:
        return ""
    more = ", ..." if marked.size > LABELLED else ""
    return f"Triangles: eigenvalues {', '.join(f'{value:.4g}' for value in marked[:LABELLED])}{more}."


def _floor(axis: Axes, heights: list[NDArray[Any]], single: float) -> None:
    """A log axis from below the height of one eigenvalue: lower values are the tail of a Gaussian."""
    top = max(float(np.max(height, initial=0.0)) for height in heights)
    axis.set_yscale("log")
    axis.set_ylim(min(0.3 * single, 0.1 * top), 2.0 * top)


def _marks(axis: Axes, places: NDArray[Any], colour: str, label: str) -> None:
    if places.size:
        height = np.full(places.size, 0.03)
        axis.plot(
            places, height, "v", color=colour, markersize=6, transform=axis.get_xaxis_transform(), label=label, zorder=3
        )


def _linear(axis: Axes, density: Density, marked: NDArray[Any]) -> None:
    points = np.concatenate([density.nodes[density.weights > 0], density.atoms])
    width = 0.01 * (float(np.ptp(points)) or 1.0)
    curve = density.on(sigma=width)
    axis.fill_between(curve.grid, curve.density, color=GREY, alpha=0.25, linewidth=0)
    axis.plot(curve.grid, curve.density, color="black", linewidth=0.9)
    axis.axvline(0.0, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
    _marks(axis, marked[marked >= 0], BLUE, "positive outlier")
    _marks(axis, marked[marked < 0], VERMILLION, "negative outlier")
    _floor(axis, [curve.density], 1.0 / (density.size * width * np.sqrt(2 * np.pi)))
    axis.set(xlabel=r"eigenvalue $\lambda$", ylabel=r"density, per unit of $\lambda$")


def _logarithmic(axis: Axes, density: Density, marked: NDArray[Any]) -> float:
    curve = density.on_log(sigma=DECADES)
    for height, colour, label in (
        (curve.positive, BLUE, r"$\lambda>0$"),
        (curve.negative, VERMILLION, r"$\lambda<0$"),
    ):
        if np.any(height > 0):
            axis.fill_between(curve.grid, height, color=colour, alpha=0.2, linewidth=0)
            axis.plot(curve.grid, height, color=colour, label=label)
    _marks(axis, np.log10(marked[marked > 0]), BLUE, "positive outlier")
    _marks(axis, np.log10(-marked[marked < 0]), VERMILLION, "negative outlier")
    _floor(axis, [curve.positive, curve.negative], 1.0 / (density.size * DECADES * np.sqrt(2 * np.pi)))
    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    axis.xaxis.set_major_formatter(lambda value, _: f"$10^{{{value:g}}}$")
    axis.set(xlabel=r"size of the eigenvalue, $|\lambda|$", ylabel="density, per decade")
    return curve.zero
