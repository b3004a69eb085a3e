"""The figures of a paper, drawn from runs in every state, and what the figures of all papers share.

A series of one number a step is thinned through `lrjax.experiment.rundir.reading.derived`: a record keeps what is drawn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived, entries
from lrjax.papers.claim import NotMeasured
from lrjax.plots.drawing import GREY, STYLE, Figure, envelope

Draw = Callable[[RunResult], Figure | None]
Series = tuple[NDArray[Any], NDArray[Any]]
MOST = 500  # points of a curve
# Dashes in units of the width, which falls: of curves that coincide the wide ones show beside and between the narrow ones.
_DASHES = ((), (3, 1.5), (1, 1.2), (6, 2, 1, 2), (8, 3))
_WIDTHS = (3.6, 2.7, 2.0, 1.4, 0.9)


def is_whole(run: RunResult) -> bool:
    """Whether the run directory has all that a finished run leaves."""
    return not getattr(run, "missing", ()) and not getattr(run, "gaps", ())


def drawn(draws: Iterable[Draw], run: RunResult) -> list[Figure]:
    """Calls each function; a figure without data is left out, and so is one that a run that is not whole has too little for.

    Args:
        draws: functions of a run that give a figure or None.
        run: it need not be finished.

    Example:
        >>> drawn([lambda run: None], None)
        []
    """
    figures = []
    with matplotlib.rc_context(STYLE):
        for draw in draws:
            try:
                figures.append(draw(run))
            except NotMeasured:
                continue
            except Exception:
                if is_whole(run):
                    raise
    return [figure for figure in figures if figure is not None]


def thinned(arrays: Mapping[str, Any], name: str, most: int = MOST, until: int | None = None) -> Series:
    """A recorded series at no more than `most` places: the least and greatest of each stretch, in their order, and the last.

    Args:
        arrays: of a lane.
        name: of a series, "step/..." with a value a step, or that of a probe.
        most: values; 3 or more. Those that are not finite are left out.
        until: only so many first values.

    Returns:
        (steps, values), [n] each.

    Example:
        >>> steps, values = thinned({"step/loss": np.array([1.0, 0.0, 0.5, 9.0, 1.0, 1.0, 1.0, 2.0])}, "step/loss", 5)
        >>> steps.tolist(), values.tolist()
        ([1, 3, 4, 7], [0.0, 9.0, 1.0, 2.0])
    """

    def places(own: Mapping[str, Any]) -> NDArray[np.int32]:
        values = np.asarray(own[name])[:until]
        found, _ = envelope(np.arange(values.size), values, most if values.size <= most else most - 1)
        last = np.flatnonzero(np.isfinite(values))[-1:]
        return np.union1d(found, last).astype(np.int32)

    def steps(own: Mapping[str, Any]) -> NDArray[Any]:
        stream = name.rsplit("/", 1)[0]
        return places(own) if stream == "step" else np.asarray(own[f"{stream}/step"])[places(own)]

    kept = f"{most} of {name}" if until is None else f"{most} of the first {until} of {name}"
    return derived(arrays, f"steps of {kept}", steps), derived(
        arrays, kept, lambda own: np.asarray(own[name])[places(own)]
    )


def averaged(arrays: Mapping[str, Any], name: str, most: int = 120) -> Series:
    """A series of one number a step by the means of `most` stretches of equal length, each at its middle.

    The places depend on the length alone: seeds share them. A rest shorter than a stretch is left out.

    Args:
        arrays: of a lane.
        name: "step/...".
        most: stretches; a shorter series is left as it is.

    Returns:
        (steps, means), [n] each.

    Example:
        >>> steps, means = averaged({"step/loss": np.array([1.0, 3.0, 5.0, 7.0])}, "step/loss", 2)
        >>> steps.tolist(), means.tolist()
        ([0.5, 2.5], [2.0, 6.0])
    """

    def means(own: Mapping[str, Any]) -> NDArray[np.float32]:
        values = np.asarray(own[name], np.float64)
        width = max(1, -(-values.size // most))
        return values[: values.size // width * width].reshape(-1, width).mean(axis=1).astype(np.float32)

    found = derived(arrays, f"means of {most} stretches of {name}", means)
    width = max(1, -(-entries(arrays, name) // most))
    return (np.arange(found.size) + 0.5) * width - 0.5, found


def look(place: int) -> dict[str, Any]:
    """Width and dashes of the curve that is drawn as number `place`: of five that coincide each stays visible.

    Example:
        >>> look(0)["linewidth"] > look(1)["linewidth"] > look(2)["linewidth"]
        True
    """
    turn = place % len(_WIDTHS)
    return {
        "linewidth": _WIDTHS[turn],
        "linestyle": (0, _DASHES[turn]),
        "dash_capstyle": "butt",
        "zorder": 3 + turn / 10,
    }


def seeds_and_mean(
    axis: Axes, series: Sequence[tuple[ArrayLike, ArrayLike]], colour: Any, label: str, place: int = 0, **style: Any
) -> None:
    """Seeds as thin lines, their mean as a thick one, and a band from the lowest to the highest.

    On a logarithmic axis, which must be one already, the mean is that of the logarithms. A seed whose steps are not those of
    most seeds, such as one that diverged, is left out of mean and band.

    Args:
        axis: to draw on.
        series: (steps, values) a seed.
        colour: of all of it.
        label: of the mean, or of a single seed.
        place: number of the curve on its axis, see `look`.
        **style: of the thick line, such as a marker.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axis = Figure().subplots()
        >>> seeds_and_mean(axis, [([0, 1], [1.0, 2.0]), ([0, 1], [3.0, 4.0])], "black", "a")
        >>> axis.lines[-1].get_ydata().tolist()
        [2.0, 3.0]
    """
    pairs = [(np.asarray(x), np.asarray(y, np.float64)) for x, y in series]
    grids = [x.tobytes() for x, _ in pairs]
    if not grids:
        return
    common = max(grids, key=grids.count)
    shared = np.array([y for (_, y), grid in zip(pairs, grids, strict=True) if grid == common])
    x = pairs[grids.index(common)][0]
    if len(pairs) > 1:
        for own, y in pairs:
            axis.plot(own, y, color=colour, linewidth=0.6, alpha=0.5)
        axis.fill_between(x, shared.min(axis=0), shared.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    log = axis.get_yscale() == "log" and bool(np.all(shared > 0))
    mean = np.exp(np.log(shared).mean(axis=0)) if log else shared.mean(axis=0)
    axis.plot(x, mean, color=colour, label=label, **(look(place) | style))


def judged_here(
    axis: Axes, start: float, stop: float | None = None, text: str = "judged here", align: str = "center"
) -> None:
    """Marks what a claim judges: a stretch of x, or a place.

    Args:
        axis: to draw on, x in data units.
        start, stop: of the stretch; None: a place.
        text: beside the mark, at the top of the axis.
        align: of the text; "right" for a place at the end of the axis.
    """
    if stop is None:
        axis.axvline(start, color=GREY, linewidth=1.0, linestyle="-.", zorder=0)
    else:
        axis.axvspan(start, stop, color=GREY, alpha=0.12, linewidth=0, zorder=0)
    middle = start if stop is None else (start + stop) / 2
    if axis.get_xscale() == "log" and stop is not None and start > 0:
        middle = (start * stop) ** 0.5
    axis.annotate(
        text,
        (middle, 1.01),
        xycoords=axis.get_xaxis_transform(),
        ha=align,
        va="bottom",
        fontsize=8.5,
        color="#555555",
    )
