"""Figure 1: where training goes, as a picture of what the network predicts on test images."""

import importlib
import importlib.util
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Lanes, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.break_even.checks import maximum
from lrjax.papers.break_even.drawing import colours, label
from lrjax.papers.break_even.recorded import curve, parting_of, point_steps, points_of
from lrjax.papers.claim import NotMeasured
from lrjax.plots.drawing import Figure, canvas, legend_below

NEIGHBOURS, MIN_DIST = 15, 0.1


def pca(points: NDArray[Any]) -> NDArray[Any]:
    """The two principal components of rows [T, n], with the sign that makes the largest entry of each direction positive.

    Example:
        >>> pca(np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [4.0, 0.0, 0.0]]))[:, 0].round(6).tolist()
        [-2.0, 0.0, 2.0]
    """
    centred = points - points.mean(axis=0)
    directions = np.linalg.svd(centred, full_matrices=False)[2][:2]
    signs = np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])
    return centred @ (directions * np.where(signs == 0, 1, signs)[:, None]).T


def embedding(points: NDArray[Any]) -> tuple[NDArray[Any], str]:
    """Points in the plane, and by which method: UMAP where umap-learn is installed (the extra `umap`), else PCA.

    Args:
        points: [T, n] predictions of all runs together.
    """
    if importlib.util.find_spec("umap") is None or len(points) <= NEIGHBOURS:
        return pca(points), "PCA"
    umap: Any = importlib.import_module("umap")
    made = umap.UMAP(n_neighbors=NEIGHBOURS, min_dist=MIN_DIST, metric="euclidean", random_state=0)
    return made.fit_transform(points), "UMAP"


def trajectory(run: RunResult) -> Figure | None:
    """Figure 1: the embedded predictions by lambda_K and by accuracy, and the distance between two trajectories."""
    lanes = _lanes(run)
    if not lanes:
        return None
    steps = [point_steps(arrays) for _, arrays in lanes]
    placed, method = _placed(lanes)
    ends = np.cumsum([len(own) for own in steps])[:-1]
    fig, axes = canvas(3, 1, height=8.4)
    shades = colours(run)
    for axis, name, text in zip(
        axes[:2, 0], ("lambda_k1_raw", "train_accuracy"), (r"$\lambda_K^1$", "accuracy"), strict=True
    ):
        for (lane, arrays), at, way in zip(lanes, steps, np.split(placed, ends), strict=True):
            values = np.interp(at, *curve(arrays, name))
            axis.plot(*way.T, color=shades[label(run, lane)], linewidth=1.0, label=label(run, lane), zorder=1)
            shown = axis.scatter(*way.T, c=values, cmap="magma", s=9, zorder=2, vmin=0, vmax=_most(lanes, name))
        axis.set_xticks([])
        axis.set_yticks([])
        fig.colorbar(shown, ax=axis, label=text)
    found = _distance(axes[2, 0], run, lanes)
    legend_below(fig, 3)
    caption = (
        f"Predictions on test images, the lanes of the first seed together, embedded by {method}; colour: lambda_K (top) and "
        f"training accuracy (middle). {found}"
    )
    return Figure("trajectory", "Where the runs go", caption, fig)


def _placed(lanes: Lanes) -> tuple[NDArray[Any], str]:
    """The predictions of all lanes in the plane, one lane after the other, and by which method."""
    first, numbers = lanes[0][1], ", ".join(str(lane["lane"]) for lane, _ in lanes)

    def place(own: Any) -> NDArray[Any]:
        found, method = embedding(np.concatenate([points_of(arrays)[1] for _, arrays in lanes]))
        return np.concatenate([found, np.full((1, 2), float(method == "UMAP"))])  # the method as a last row

    found = derived(first, f"predictions of lanes {numbers} in the plane", place)
    return found[:-1], "UMAP" if found[-1, 0] else "PCA"


def _lanes(run: RunResult) -> Lanes:
    """Lanes of the first seed that recorded predictions and lambda_K, and did not diverge."""
    lanes = []
    for lane, arrays in recorded(run):
        try:
            own = point_steps(arrays).size > 1 and curve(arrays, "lambda_k1_raw").steps.size > 1
        except NotMeasured:
            continue
        if own and not diverged(lane) and lane["seed"] == run.lanes[0]["seed"]:
            lanes.append((lane, arrays))
    return lanes


def _most(lanes: Lanes, name: str) -> float:
    return max(float(curve(arrays, name).values.max()) for _, arrays in lanes)


def _distance(axis: Any, run: RunResult, lanes: Lanes) -> str:
    """Draws the distance to the closest point of the other run against lambda_K; returns a sentence for the caption."""
    shades, drawn = colours(run), False
    for lane, arrays in lanes:
        try:
            found = parting_of(run, lane, arrays)
        except NotMeasured:
            continue
        larger = min(r["learning_rate"] for r in run.lanes if r["learning_rate"] > lane["learning_rate"])
        noise = np.interp(point_steps(arrays), *curve(arrays, "lambda_k1_raw"))
        axis.plot(noise, found.distance, ".", color=shades[label(run, lane)])
        tops = [maximum(a, "lambda_k1_raw").raw for r, a in lanes if r["learning_rate"] == larger]
        axis.axvline(max(tops), color=shades[label(run, lane)], linestyle="--", linewidth=0.9)
        drawn = True
    axis.set_xlabel(r"$\lambda_K^1$ of the run with the smaller rate")
    axis.set_ylabel("distance to the\nother trajectory")
    if not drawn:
        axis.set_visible(False)
        return ""
    return "Bottom: L2 distance to the closest point of the run with the next larger rate; dashed: that run's largest lambda_K."
