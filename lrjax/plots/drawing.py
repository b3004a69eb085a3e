"""Shared parts of all figures: size, colours, thinning of long series, file format.

Figures are drawn for a page that is read on a phone too: 5 inches wide, so that 10 pt text stays legible when the page
scales them down. pyplot is not used: it keeps global state.
"""

import io
import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib import figure
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

WIDTH = 5.0
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.labelsize": 10,
    "axes.titlesize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "axes.axisbelow": True,
}
# Okabe and Ito's colours, which stay apart under the common kinds of colour blindness.
BLUE, VERMILLION, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#808080"
MOST_POINTS = 2000
DPI = 130
_GOLDEN = 0.6180339887498949


class Figure(NamedTuple):
    """A figure of a report: file name without ending, heading, what to see in it, and the drawing."""

    name: str
    title: str
    caption: str
    fig: figure.Figure
    table: tuple[list[str], list[list[Any]]] | None = None  # headings and rows, which a page shows instead


def canvas(
    rows: int = 1, columns: int = 1, *, height: float, width: float = WIDTH, **subplots: Any
) -> tuple[figure.Figure, NDArray[Any]]:
    """An empty figure and its axes [rows, columns].

    Example:
        >>> fig, axes = canvas(2, 1, height=4.0)
        >>> axes.shape
        (2, 1)
    """
    fig = figure.Figure(figsize=(width, height), layout="constrained")
    return fig, fig.subplots(rows, columns, squeeze=False, **subplots)


def sample(size: int, most: int = MOST_POINTS) -> NDArray[np.int64]:
    """At most `most` indices below `size`, in order, one at an uneven place of each of `most` equal stretches.

    An even stride would show one branch of a cycle whose period divides it.

    Example:
        >>> sample(4, most=8).tolist(), len(sample(10**6, most=8))
        ([0, 1, 2, 3], 8)
    """
    if size <= most:
        return np.arange(size)
    k = np.arange(most)
    return ((k + (k * _GOLDEN) % 1.0) * size / most).astype(np.int64)


def envelope(x: ArrayLike, y: ArrayLike, most: int = MOST_POINTS) -> tuple[NDArray[Any], NDArray[Any]]:
    """The least and the greatest y of each stretch, in their order: a spike of one step stays visible.

    Values that are not finite are left out.

    Example:
        >>> x, y = envelope(range(1000), [float(i == 700) for i in range(1000)], most=10)
        >>> len(x) <= 10, float(y.max())
        (True, 1.0)
    """
    x, y = np.asarray(x), np.asarray(y, float)
    x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if y.size <= most:
        return x, y
    length = -(-y.size // (most // 2))
    padded = np.full(-(-y.size // length) * length, y[-1])
    padded[: y.size] = y
    stretches = padded.reshape(-1, length)
    inside = np.stack([stretches.argmin(1), stretches.argmax(1)], axis=1) + length * np.arange(len(stretches))[:, None]
    kept = np.unique(np.minimum(inside, y.size - 1))
    return x[kept], y[kept]


def plain_log(axis: Axes) -> None:
    """A log y axis with numbers written out, at 1, 2, 5 where the range is narrow; call it when all is drawn."""
    if not math.isfinite(axis.yaxis.get_minpos()):
        return  # nothing on it is positive: `settle_scales`
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50 * low else (1.0,)))
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def thousands(axis: Axes) -> None:
    """Steps on the x axis, written as 5k, 10k."""
    axis.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}")


def legend_below(fig: figure.Figure, columns: int) -> None:
    """One legend under all axes, where it hides no data; entries of several axes are merged."""
    entries = {}
    for axis in fig.axes:
        handles, labels = axis.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    if entries:
        fig.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, columnspacing=1.0)


def settle_scales(fig: figure.Figure) -> None:
    """Makes a log axis on which nothing is positive, as where every lane diverged at once, a linear one.

    matplotlib refuses to draw such an axis.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axis = Figure().subplots()
        >>> _ = axis.set_yscale("log"), axis.plot([1, 2], [0, 0])
        >>> settle_scales(axis.figure)
        >>> axis.get_yscale()
        'linear'
    """
    for axis in fig.axes:
        # Not by the limits: to ask for them is to scale the axis.
        if axis.get_xscale() == "log" and not math.isfinite(axis.xaxis.get_minpos()):
            axis.set_xscale("linear")
        if axis.get_yscale() == "log" and not math.isfinite(axis.yaxis.get_minpos()):
            axis.set_yscale("linear")


def png(fig: figure.Figure) -> bytes:
    """A figure as a PNG file; the same data gives the same bytes."""
    buffer = io.BytesIO()
    settle_scales(fig)
    # Without the Software field, which names the version of matplotlib.
    fig.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
