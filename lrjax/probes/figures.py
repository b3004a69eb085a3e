"""Figures of curvature: a spectral density, eigenvalues and the angle between top eigenvectors through training.

Each is drawn from plain arrays, in a notebook too; `figures` draws those of a run.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib import figure
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from lrjax.errors import check
from lrjax.experiment.rundir.lanes import lane_config, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.plots.density import density_figure
from lrjax.plots.drawing import (
    BLUE,
    GREEN,
    GREY,
    STYLE,
    VERMILLION,
    WIDTH,
    Figure,
    canvas,
    legend_below,
    plain_log,
    thousands,
)
from lrjax.spectra.training_edge import training_edge

MOST_PANELS, COLUMNS = 12, 3
FEW = 25  # measurements that are marked by dots
WIDE = 30.0  # largest lambda_1 over the median from which the axis is logarithmic: a spike would hide the rest
FAR = 3.0  # an edge so many times above all of lambda_1 is given as a number
EDGE_COLOURS = ("black", VERMILLION, GREEN)
NAMES = {"hessian": "Hessian", "ggn": "GGN", "gradient_covariance": "Gradient covariance K"}


__all__ = ["Course", "cosine_figure", "density_figure", "eigenvalues_figure", "figures"]


class Course(NamedTuple):
    """Measurements of one lane through training.

    Attributes:
        steps: [T].
        values: [T, k] eigenvalues, descending; for `cosine_figure` [T].
        label: heading of its panel.
        edges: text -> [T], thresholds beside lambda_1.
    """

    steps: ArrayLike
    values: ArrayLike
    label: str = ""
    edges: Mapping[str, ArrayLike] = {}


def eigenvalues_figure(courses: Sequence[Course], *, matrix: str = "hessian") -> Figure:
    """Eigenvalues through training, a panel a lane, with the edges of stability beside lambda_1.

    Args:
        courses: one or more; of more than 12, 12 at even distances are shown.
        matrix: whose eigenvalues; names the figure.

    Raises:
        LrjaxError: no courses.

    Example:
        >>> steps, rates = np.arange(4), np.full(4, 0.5)
        >>> course = Course(steps, np.array([[1.0], [2.0], [3.9], [4.1]]), edges={r"$2/\\eta$": 2 / rates})
        >>> eigenvalues_figure([course]).name
        'eigenvalues_hessian'
    """
    courses, note = _few(courses)
    name = NAMES.get(matrix, matrix.replace("_", " "))
    logarithmic = any(_is_wide(course) for course in courses)
    with matplotlib.rc_context(STYLE):
        fig, axes = _panels(len(courses))
        for axis, course in zip(axes, courses, strict=True):
            _eigenvalues(axis, course, logarithmic)
        _finish(fig, axes, courses, r"eigenvalue $\lambda$")
    edge = " Dashed: where full-batch training with the learning rate of that step stops being stable along the top \
eigenvector."
    scale = " Eigenvalues that are zero or negative are not on the logarithmic axis." if logarithmic else ""
    caption = (
        f"Largest eigenvalues, on the same examples at every step.{edge * any(c.edges for c in courses)}{scale}{note}"
    )
    return Figure(f"eigenvalues_{matrix}", f"{name}: largest eigenvalues through training", caption, fig)


def cosine_figure(courses: Sequence[Course]) -> Figure:
    """|cos| between the top eigenvectors of the Hessian and of the gradient covariance K through training.

    Args:
        courses: with `values` [T] in 0..1; of more than 12, 12 at even distances are shown.

    Raises:
        LrjaxError: no courses.

    Example:
        >>> cosine_figure([Course(np.arange(3), np.array([0.1, 0.8, 0.9]))]).name
        'cos_hk'
    """
    courses, note = _few(courses)
    with matplotlib.rc_context(STYLE):
        fig, axes = _panels(len(courses), sharey=True)
        for axis, course in zip(axes, courses, strict=True):
            axis.plot(course.steps, course.values, _style(course), color=BLUE, markersize=3)
            axis.set_ylim(0.0, 1.04)
        _finish(fig, axes, courses, r"$|\cos(e_H^1, e_K^1)|$")
    caption = (
        "1: the direction of largest curvature is that of the largest gradient noise, as the break-even theory assumes "
        f"(its assumption 2). Two random directions of D parameters have about 1/sqrt(D).{note}"
    )
    return Figure("cos_hk", "Top eigenvectors of Hessian and gradient covariance", caption, fig)


def _few(courses: Sequence[Course]) -> tuple[list[Course], str]:
    check(len(courses) > 0, "there is nothing to draw: give one course or more")
    if len(courses) <= MOST_PANELS:
        return list(courses), ""
    chosen = np.linspace(0, len(courses) - 1, MOST_PANELS).round().astype(int)
    return [courses[place] for place in chosen], f" {MOST_PANELS} of {len(courses)} lanes are shown."


def _panels(count: int, **subplots: Any) -> tuple[figure.Figure, list[Axes]]:
    """A figure of `count` axes in up to three columns, and these axes."""
    if count == 1:
        fig, axes = canvas(height=3.4, **subplots)
        return fig, [axes[0, 0]]
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    fig, axes = canvas(rows, columns, height=0.8 + 1.7 * rows, width=WIDTH if columns < 3 else 7.0, **subplots)
    for axis in axes.flat[count:]:
        axis.remove()
    return fig, list(axes.flat[:count])


def _finish(fig: figure.Figure, axes: list[Axes], courses: list[Course], label: str) -> None:
    columns = min(len(axes), COLUMNS)
    for place, (axis, course) in enumerate(zip(axes, courses, strict=True)):
        axis.set_title(textwrap.fill(course.label, 28 if columns > 1 else 60), fontsize=8.5)
        thousands(axis)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=4 if columns > 1 else 7, integer=True))
        if place + columns >= len(axes):
            axis.set_xlabel("step")
    if len(axes) > columns:
        fig.supylabel(label, fontsize=10)
    else:
        axes[0].set_ylabel(label)
    legend_below(fig, 3)


def _style(course: Course) -> str:
    return "o-" if len(np.asarray(course.steps)) <= FEW else "-"


def _is_wide(course: Course) -> bool:
    first = np.asarray(course.values, float)[:, 0]
    first = first[first > 0]
    return first.size > 1 and float(np.max(first)) > WIDE * float(np.median(first))


def _eigenvalues(axis: Axes, course: Course, logarithmic: bool) -> None:
    values, steps = np.asarray(course.values, float), np.asarray(course.steps)
    values = np.where(np.isfinite(values) & ((values > 0) | (not logarithmic)), values, np.nan)
    k = values.shape[1]
    text = r"$\lambda_2$" if k == 2 else rf"$\lambda_2,\dots,\lambda_{{{k}}}$"
    for place in range(k - 1, 0, -1):
        axis.plot(steps, values[:, place], color=BLUE, linewidth=0.8, alpha=0.4, label=text)
    axis.plot(steps, values[:, 0], _style(course), color=BLUE, markersize=3, linewidth=1.4, label=r"$\lambda_1$")
    low, high = np.nanmin(values, initial=0.0), np.nanmax(values, initial=0.0)
    high = _edges(axis, course, steps, float(high))
    if logarithmic:
        plain_log(axis)
    elif high > low:
        axis.set_ylim(low - 0.04 * (high - low) if low < 0 else 0.0, high + 0.08 * (high - low))
        if low < 0:
            axis.axhline(0.0, color=GREY, linewidth=0.8, linestyle=":", zorder=0)


def _edges(axis: Axes, course: Course, steps: NDArray[Any], high: float) -> float:
    """Draws the edges that are near the eigenvalues, names the others, and returns how high the axis must reach."""
    far = []
    for (text, edge), colour in zip(course.edges.items(), EDGE_COLOURS, strict=False):
        edge = np.asarray(edge, float)
        level = float(np.min(edge))
        if np.isfinite(level) and level <= FAR * high:
            axis.plot(steps, edge, "--", color=colour, linewidth=1.0, drawstyle="steps-post", label=text)
            high = max(high, min(float(np.max(edge)), 1.5 * level, FAR * high))
        else:
            far.append(rf"{text} $\geq$ {level:.3g}")
    if far:
        where = {"xycoords": "axes fraction", "ha": "right", "va": "top", "fontsize": 8}
        behind = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0}
        axis.annotate("\n".join(far), (0.99, 0.995), bbox=behind, **where)
    return high * (1.0 + 0.15 * len(far))


def figures(run: RunResult) -> list[Figure]:
    """Figures of a run's curvature: eigenvalues a matrix, and the angle between top eigenvectors.

    Args:
        run: from `lrjax.experiment.rundir.metrics.load_run`; it need not be finished.

    Returns:
        None for a run without "spectrum/step".

    Example:
        >>> from pathlib import Path
        >>> figures(RunResult([], [{}], {"state": "running"}, Path(), {}, [{"lane": 0}]))
        []
    """
    lanes = recorded(run, "spectrum/step")
    names = dict.fromkeys(name for _, arrays in lanes for name in arrays if name.endswith("_values"))
    drawn = []
    for name in (name for name in names if name.startswith("spectrum/")):
        matrix = name.removeprefix("spectrum/").removesuffix("_values")
        courses = [_course(run, lane, arrays, matrix) for lane, arrays in lanes if name in arrays]
        drawn.append(eigenvalues_figure(courses, matrix=matrix))
    angles = [
        Course(arrays["spectrum/step"], arrays["spectrum/cos_hk"], label(run, lane))
        for lane, arrays in lanes
        if "spectrum/cos_hk" in arrays
    ]
    return drawn + ([cosine_figure(angles)] if angles else [])


def _course(run: RunResult, lane: dict[str, Any], arrays: Mapping[str, Any], matrix: str) -> Course:
    steps = np.asarray(arrays["spectrum/step"])

    def of_step(own: Mapping[str, Any]) -> Any:
        # The rate at step t leads from state t to t + 1; the last state has none of its own.
        rates = np.asarray(own.get("step/learning_rate", ()))
        return rates[np.minimum(steps, len(rates) - 1)] if len(rates) else rates

    rates, edges = derived(arrays, "rates from each spectrum/step on", of_step), {}
    if rates.size:
        found = training_edge(lane_config(run, lane).get("optimizer", {}), rates, matrix)
        edges = {found.formula: found.values} if found else {}
    return Course(steps, arrays[f"spectrum/{matrix}_values"], label(run, lane), edges)


def label(run: RunResult, lane: Mapping[str, Any]) -> str:
    """Label that distinguishes a lane from the others of its run: its arm and the values that vary; empty for a single lane."""
    if len(run.lanes) == 1:
        return ""
    arms = {other["arm"] for other in run.lanes}
    varying = {key for other in run.lanes for key, value in other["values"].items() if value != lane["values"].get(key)}
    values = [f"{key.split('.')[-1]}={value}" for key, value in lane["values"].items() if key in varying]
    return ", ".join([lane["arm"].replace("_", " ")] * (len(arms) > 1) + values) or f"lane {lane['lane']}"
