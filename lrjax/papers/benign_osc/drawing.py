"""Shared parts of the figures of benign oscillation: a colour for each e, and marks where the theory changes."""

from collections.abc import Iterable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lrjax.papers.benign_osc.cubic_map import SIGN_STABLE_LIMIT, STABILITY_LIMIT
from lrjax.plots.drawing import GREY


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
