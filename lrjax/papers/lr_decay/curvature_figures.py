"""The instruments through training: lambda_H and batch sharpness, each times the rate over two, and the edge at 1."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, Lanes, by_arm, lane_config, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.drawn import seeds_and_mean
from lrjax.papers.lr_decay.drawing import SEEDS, colours, mark_decays, name_of, rates_at
from lrjax.plots.drawing import GREY, VERMILLION, Figure, canvas, legend_below, plain_log, thousands
from lrjax.spectra.training_edge import training_edge

LAMBDA, SHARPNESS = "spectrum/lambda_h1", "batch_sharpness/value"
STYLES = {  # array -> label, style and width of its mean
    LAMBDA: (r"$\eta\lambda_H/2$", "-", 1.8),
    SHARPNESS: (r"$\eta\,\times$ batch sharpness $/\,2$", "--", 1.3),
}
JUDGED = "gradient_descent"  # the arm whose largest ratio a claim judges
# words with which an arm's name begins -> title of its panel; the first that fits, and the rest of the name is in the legend
_PANELS = {
    "label": "wrong labels",
    "point": "random points among complex patterns",
    "joint": "random points",
    "sgd": "mini-batches, Nesterov momentum",
    "gradient_descent": "full batch, no momentum",
    "full_batch": "full batch, Nesterov momentum",
    "larger": "full batch, larger rate",
    "momentum": "full batch, momentum",
    "l2": "full batch, weight decay",
}


def over_edge(arrays: Arrays, name: str) -> NDArray[np.float64]:
    """The rate that led to each measurement times what was measured, over two: 1 where a quadratic begins to diverge.

    Args:
        arrays: of a lane.
        name: of an array of curvature.
    """
    return np.asarray(arrays[name], np.float64) * rates_at(arrays, name.split("/")[0]) / 2


def _split(arm: str) -> tuple[str, str]:
    """Title of an arm's panel, and its name there."""
    words = next((words for words in _PANELS if arm.startswith(words)), "")
    return _PANELS.get(words, "full batch"), arm.removeprefix(words).strip("_") or "no decay"


def _mark_largest(axis: Axes, own: Lanes) -> None:
    ratios = [(arrays["spectrum/step"], over_edge(arrays, LAMBDA)) for _, arrays in own]
    places = [(steps[np.nanargmax(y)], np.nanmax(y)) for steps, y in ratios if np.isfinite(y).any()]
    if places:
        label = "largest of a seed, judged"
        axis.plot(*np.array(places).T, "o", color=VERMILLION, markersize=5, zorder=5, label=label)


def curvature(run: RunResult) -> Figure | None:
    """eta lambda_H / 2 and eta x batch sharpness / 2 through training, on one axis, with the edge at 1."""
    arms = by_arm(recorded(run, LAMBDA))
    if not arms:
        return None
    titles = list(dict.fromkeys(_split(arm)[0] for arm in arms))
    shades = colours(list(dict.fromkeys(_split(arm)[1] for arm in arms)))
    fig, axes = canvas(len(titles), 1, height=2.1 * len(titles) + 1.0, sharex=True, sharey=True)
    for axis, title in zip(axes[:, 0], titles, strict=True):
        axis.set_yscale("log")
        for arm, own in arms.items():
            if _split(arm)[0] == title:
                _curves(axis, own, shades[_split(arm)[1]])
                _edges(axis, run, own[0][0])
        axis.set_title(title)
        axis.set_ylabel(r"$\eta\,\times$ curvature $/\,2$")
        plain_log(axis)
    for label, style, width in STYLES.values():
        axes[0, 0].plot([], [], style, color="black", linewidth=width, label=label)
    axes[-1, 0].set_xlabel("step")
    thousands(axes[-1, 0])
    legend_below(fig, 2)
    judged = " The dot is the largest of each seed, which is judged." if JUDGED in arms else ""
    caption = (
        "$\\eta$ is the rate of the step before. Solid: the largest eigenvalue of the Hessian; dashed: the curvature of a "
        f"batch along its own gradient. {SEEDS} Dotted lines are decays. The losses are without l2 penalty, BatchNorm with the "
        f"statistics of what is seen. Above 1 a quadratic diverges under gradient descent.{judged}"
    )
    return Figure("curvature", "Curvature against the edge of stability", caption, fig)


def _edges(axis: Axes, run: RunResult, lane: dict) -> None:
    """Lines at the edge of gradient descent, and at that of an arm's momentum."""
    axis.axhline(1.0, color="black", linewidth=0.9, zorder=0, label="edge of a quadratic")
    edge = training_edge(lane_config(run, lane).optimizer.to_dict() | {"l2": None}, lane["learning_rate"])
    if edge is not None and edge.name != "gradient_descent":
        limit = float(edge.values) * lane["learning_rate"] / 2
        words = {"nesterov": "edge with Nesterov momentum", "heavy_ball": "edge with momentum"}[edge.name]
        axis.axhline(limit, color=GREY, linestyle="-.", linewidth=0.9, zorder=0, label=words)


def _curves(axis: Axes, own: Lanes, colour: Any) -> None:
    arm = own[0][0]["arm"]
    for name, (_, style, width) in STYLES.items():
        if not all(len(arrays.get(name, ())) for _, arrays in own):
            continue
        series = [(np.asarray(arrays[f"{name.split('/')[0]}/step"]), over_edge(arrays, name)) for _, arrays in own]
        series = [(x[np.isfinite(y)], y[np.isfinite(y)]) for x, y in series]
        label = (_split(arm)[1] if "constant_" not in arm else name_of(own[0][0])).replace("_", " ")
        seeds_and_mean(axis, series, colour, label if name == LAMBDA else "", linestyle=style, linewidth=width)
    mark_decays(axis, own)
    if arm == JUDGED:
        _mark_largest(axis, own)
