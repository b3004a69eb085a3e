"""Final loss over learning rate, for each horizon of a sweep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from lrjax.plots.drawing import BLUE, GREEN, GREY, PURPLE, STYLE, VERMILLION, Figure, canvas, legend_below, plain_log

if TYPE_CHECKING:
    from lrjax.monitor.suggestion import Suggestion

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE)


def rates_figure(suggestion: Suggestion, *, title: str = "Final loss by learning rate") -> Figure:
    """Final loss over learning rate: a point a lane, a line a horizon, the optima with their intervals as bands.

    Args:
        suggestion: of `lrjax.suggest`.
        title: heading of the figure.

    Example:
        >>> from types import SimpleNamespace as New
        >>> rows = [New(horizon=9, learning_rate=r, loss=r + 1 / r, diverged=False) for r in (0.5, 1.0, 2.0)]
        >>> best = New(horizon=9, learning_rate=1.0, interval=(0.9, 1.1), at_edge=None)
        >>> found = New(rows=rows, optima=(best,), level=0.95, start_loss=9.0)
        >>> rates_figure(found).name
        'rates'
    """
    with matplotlib.rc_context(STYLE):
        fig, axes = canvas(height=3.6)
        axis = axes[0, 0]
        for number, best in enumerate(suggestion.optima):
            _horizon(axis, suggestion, best, COLOURS[number % len(COLOURS)])
        lost = sorted({row.learning_rate for row in suggestion.rows if row.diverged})
        if lost:
            height = np.full(len(lost), 0.97)
            transform = axis.get_xaxis_transform()
            axis.plot(lost, height, "x", color=GREY, transform=transform, label="a lane diverged")
        axis.axhline(suggestion.start_loss, color=GREY, linewidth=0.8, linestyle=":", zorder=0)
        axis.set_xscale("log")
        axis.set(xlabel="learning rate", ylabel="final loss")
        plain_log(axis)
        legend_below(fig, 3)
    caption = (
        "Points are lanes and lines their geometric means over seeds; a band is the interval of the best rate at level "
        f"{suggestion.level:.0%}, and the dotted line the loss at the start. Lanes that diverged are crosses at the top and no "
        f"points of the fit. {_edges(suggestion)}"
    )
    return Figure("rates", title, caption.strip(), fig)


def _horizon(axis: Axes, suggestion: Suggestion, best: Any, colour: str) -> None:
    rows = [row for row in suggestion.rows if row.horizon == best.horizon and not row.diverged]
    axis.plot([row.learning_rate for row in rows], [row.loss for row in rows], ".", color=colour, alpha=0.5)
    rates = sorted({row.learning_rate for row in rows})
    means = [np.exp(np.mean([np.log(row.loss) for row in rows if row.learning_rate == rate])) for rate in rates]
    axis.plot(rates, means, color=colour, label=f"{best.horizon} steps")
    if best.interval:
        axis.axvspan(*best.interval, color=colour, alpha=0.15, linewidth=0)
    if not best.at_edge:
        axis.axvline(best.learning_rate, color=colour, linewidth=0.9, linestyle="--")


def _edges(suggestion: Suggestion) -> str:
    at_edge = [str(best.horizon) for best in suggestion.optima if best.at_edge]
    return f"The minimum for {' and '.join(at_edge)} steps lies at an edge and is not marked." if at_edge else ""
