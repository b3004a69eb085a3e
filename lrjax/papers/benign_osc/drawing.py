"""Shared parts of the figures of benign oscillation: colours of e, marks of what is judged and where the theory changes."""

from collections.abc import Callable, Iterable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from lrjax.experiment.rundir.lanes import Arrays
from lrjax.experiment.rundir.reading import derived, entries
from lrjax.papers.benign_osc.cubic_map import SIGN_STABLE_LIMIT, STABILITY_LIMIT
from lrjax.papers.drawn import MOST
from lrjax.plots.drawing import GREY, sample


def rate_colours(values: Iterable[float]) -> dict[float, Any]:
    """A grey for each e up to 1, and above, where runs oscillate, a colour of viridis without its pale end."""
    es = sorted(set(values))
    stable, large = [e for e in es if e <= STABILITY_LIMIT], [e for e in es if e > STABILITY_LIMIT]
    shades = zip([*stable, *large], [*_places(stable, 0.4, 0.7), *_places(large, 0.1, 0.88)], strict=True)
    return {e: matplotlib.colormaps["Greys" if e <= STABILITY_LIMIT else "viridis"](place) for e, place in shades}


def _places(values: list[float], low: float, high: float) -> NDArray[np.float64]:
    return np.linspace(low, high, len(values)) if len(values) > 1 else np.full(len(values), (low + high) / 2)


def mark_limits(axis: Axes) -> None:
    """Vertical lines where the theory changes: the switch at e = 1, and the end of sign stability."""
    limits = ((STABILITY_LIMIT, "switch:\n$e=1$", "--"), (SIGN_STABLE_LIMIT, "sign flips:\n$e=1.598$", ":"))
    for place, text, style in limits:
        axis.axvline(place, color=GREY, linestyle=style, zorder=0)
        axis.annotate(
            text,
            (place, 1.01),
            xycoords=axis.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=8.5,
            color="#555555",
        )


def judged(axis: Axes, x: ArrayLike, y: ArrayLike, marker: str = "8", **style: Any) -> None:
    """Rings around what a claim judges; of a claim beside it, another marker such as "D"."""
    rings: dict[str, Any] = {"markersize": 8.5, "markerfacecolor": "none", "markeredgewidth": 1.1, "zorder": 6}
    axis.plot(x, y, marker, markeredgecolor="black", **(rings | style))


def as_drawn(values: ArrayLike) -> NDArray[np.float16]:
    """Rounded to three digits, for a linear axis: a record keeps half of the bytes.

    Example:
        >>> as_drawn([1.0, 1.0001, 1e9]).tolist()
        [1.0, 1.0, inf]
    """
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float16)


def at_records(
    arrays: Arrays, what: str, compute: Callable[[Arrays], NDArray[Any]], stream: str = "features"
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is drawn of a probe's records: at most `MOST` of them, the same ones of lanes of the same length.

    Args:
        arrays: of a lane.
        what: in words; unique in a lane.
        compute: arrays -> [T, ...], a row a record.
        stream: of the probe.

    Returns:
        Steps [n], and rows [n, ...].
    """
    places = sample(entries(arrays, f"{stream}/step"), MOST)
    return arrays[f"{stream}/step"][places], derived(arrays, f"{MOST} of {what}", lambda own: compute(own)[places])
