"""Inside a run: weights, outputs, loss and residual sums of one lane at a small and one at a large rate."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived
from lrjax.papers.benign_osc.checks import LARGE_RATE, SMALL_RATE, WINDOW, until
from lrjax.papers.benign_osc.drawing import as_drawn, at_records
from lrjax.papers.benign_osc.observe import DELTAS, LABELS, accumulation, visits, window_end
from lrjax.papers.drawn import MOST, judged_here
from lrjax.plots.drawing import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILLION,
    Figure,
    canvas,
    plain_log,
    sample,
    thousands,
)

CONTROL = "time_matched"
Lane = tuple[dict[str, Any], Arrays]


def _nearest(lanes: list[Lane], e: float) -> Lane | None:
    """The lane closest in e; of several the one that did not diverge, the first seed."""
    return min(lanes, key=lambda pair: (diverged(pair[0]), abs(pair[0]["e"] - e)), default=None)


def inner_dynamics(run: RunResult) -> Figure | None:
    """Weights and outputs of one run at a small and one at a large rate (the paper's Figure 3, rebuilt)."""
    lanes = recorded(run, "features/inner_u", "step/example")
    lanes = [pair for pair in lanes if pair[0]["arm"] != CONTROL]
    chosen = [
        _nearest([pair for pair in lanes if pair[0]["e"] <= 1.0], SMALL_RATE),
        _nearest([pair for pair in lanes if pair[0]["e"] > 1.0], LARGE_RATE),
    ]
    columns = [pair for pair in chosen if pair is not None]
    if not columns:
        return None
    rows = (_strong_products, _weak_products, _noise_products, _margins, _losses, _residual_sums)
    fig, axes = canvas(len(rows), len(columns), height=10.6, width=5.4, sharey="row", sharex="col")
    for column, (lane, arrays) in zip(axes.T, columns, strict=True):
        seed = f", seed {lane['seed']}" if "seed" in lane["values"] else ""
        column[0].set_title(f"{'small' if lane['e'] <= 1 else 'large'} rate: $e={lane['e']:g}${seed}")
        for axis, draw in zip(column, rows, strict=True):
            draw(axis, lane, arrays)
        _mark_judged(column, lane, arrays, run.config["experiment"])
        column[-1].set_xlabel("step $t$")
        thousands(column[-1])
    for axis, label in zip(axes[:, 0], _ROW_LABELS, strict=True):
        axis.set_ylabel(label)
    plain_log(axes[4, 0])
    for place in (2, 5):
        if axes[place, 0].get_legend_handles_labels()[1]:
            axes[place, 0].legend(loc="upper left", handlelength=1.0)
    caption = (
        "One lane a column: neurons of the class +1 (a line each) and examples with label +1; a row has the same scale on "
        f"both sides, and at most {MOST} points a line. Above e = 1, y f jumps around 1 and the residuals 1 - y f add up "
        "(green: the lower bound of the accumulation law, drawn where every multiplier was positive), which drives the weak "
        "feature; below, the sum stops at once. Shaded: the steps that a claim judges, in all seeds. Assumption 4 asks for "
        f"visits outside the dotted lines, which are {DELTAS[0]:g} from 1; the accumulation law compares the sum at both ends "
        "of its stretch."
    )
    return Figure("inner_dynamics", "Inside a small-rate and a large-rate run", caption, fig)


_ROW_LABELS = (
    r"$\langle w_r,u\rangle$",
    r"$\langle w_r,v\rangle$",
    r"$\max_i\,\langle w_r,\xi_i\rangle$",
    "$y f$, strong visits",
    "train loss",
    r"$S_y=\sum(1-yf)$",
)


def _mark_judged(column: NDArray[Any], lane: dict[str, Any], arrays: Arrays, experiment: str) -> None:
    """The oscillating window of Assumption 4, and the stretch over which the accumulation law is judged."""
    if lane["e"] in WINDOW:
        judged_here(column[3], 0, window_end(arrays, lane["e"]))
        for side in (-1, 1):
            column[3].axhline(1.0 + side * DELTAS[0], color=PURPLE, linestyle=":", linewidth=1.0)
    if experiment == "CLEAR" and lane["e"] in (SMALL_RATE, LARGE_RATE):
        judged_here(column[5], until(lane) // 2, until(lane))


def _strong_products(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    drawn = at_records(arrays, "<w, u> of the class +1", lambda own: as_drawn(own["features/inner_u"][:, 0]))
    axis.plot(*drawn, color=BLUE, linewidth=0.7, alpha=0.7)


def _weak_products(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    drawn = at_records(arrays, "<w, v> of the class +1", lambda own: as_drawn(own["features/inner_v"][:, 0]))
    axis.plot(*drawn, color=VERMILLION, linewidth=0.7, alpha=0.7)


def _noise_products(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    """The largest over strong and over weak examples of the label, for each neuron."""
    label = arrays["data/y"] > 0
    strong = arrays["data/strong"].astype(bool)
    for kind, chosen, colour in (("strong", label & strong, BLUE), ("weak", label & ~strong, VERMILLION)):
        if np.any(chosen):

            def largest(own: Arrays, chosen: NDArray[np.bool_] = chosen) -> NDArray[np.float16]:
                return as_drawn(own["features/inner_xi"][:, 0][:, :, chosen].max(axis=2))

            drawn = at_records(arrays, f"largest <w, xi> of {kind} examples of the class +1", largest)
            axis.plot(*drawn, color=colour, linewidth=0.7, alpha=0.7)
            axis.plot([], [], color=colour, label=f"$i$ {kind}")


def _margins(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    def seen(own: Arrays) -> tuple[NDArray[Any], NDArray[Any]]:
        found = visits(own, LABELS[0])
        kept = sample(found.z.size, MOST)
        return found.step[kept].astype(np.int32), as_drawn(found.z[kept])

    name = f"{MOST} strong visits of the label +1"
    step = derived(arrays, f"steps of {name}", lambda own: seen(own)[0])
    z = derived(arrays, name, lambda own: seen(own)[1])
    axis.plot(step, z, ".", color=BLUE, markersize=2.6, markeredgewidth=0, alpha=0.8)
    axis.axhline(1.0, color=GREY, linewidth=0.8)
    if diverged(lane):
        axis.set_ylim(-1.0, 3.0)


def _losses(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    def loss(own: Arrays) -> NDArray[Any]:
        return np.where(own["features/loss"] > 0, own["features/loss"], np.nan)

    axis.plot(*at_records(arrays, "features/loss", loss), color="black")


def _residual_sums(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    def sums(own: Arrays) -> NDArray[np.float32]:
        found = accumulation(own, LABELS[0], lane["e"])
        bound = np.where((found.min_q > 0) & np.isfinite(found.bound), found.bound, np.nan)
        return np.stack([found.total, bound], axis=1).astype(np.float32)

    step, both = at_records(arrays, "S of the label +1 and its bound", sums)
    axis.plot(step, both[:, 0], color="black", label="$S_y$")
    axis.plot(step, both[:, 1], color=GREEN, linestyle="--", label="bound")
