"""Through time: inner dynamics of one small-rate and one large-rate run, the weak feature, the end of oscillation."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.benign_osc.cubic_map import CHAOS_ONSET, SIGN_STABLE_LIMIT
from lrjax.papers.benign_osc.drawing import mark_limits, rate_colours
from lrjax.papers.benign_osc.observe import LABELS, accumulation, delta_of, visits
from lrjax.papers.benign_osc.theory import capacity, logistic_weak, small_lr_weak_end
from lrjax.plots.drawing import (
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    VERMILLION,
    Figure,
    canvas,
    legend_below,
    plain_log,
    sample,
    thousands,
)

_SMALL, _LARGE = 0.2, 1.25  # the rates shown, or the nearest that were run
_CONTROL = "time_matched"
Lane = tuple[dict[str, Any], Arrays]


def _nearest(lanes: list[Lane], e: float) -> Lane | None:
    """The lane closest in e; of several the one that did not diverge, the first seed."""
    return min(lanes, key=lambda pair: (diverged(pair[0]), abs(pair[0]["e"] - e)), default=None)


def inner_dynamics(run: RunResult) -> Figure | None:
    """Weights and outputs of one run at a small and one at a large rate (the paper's Figure 3, rebuilt)."""
    lanes = recorded(run, "features/inner_u", "step/example")
    lanes = [pair for pair in lanes if pair[0]["arm"] != _CONTROL]
    chosen = [
        _nearest([pair for pair in lanes if pair[0]["e"] <= 1.0], _SMALL),
        _nearest([pair for pair in lanes if pair[0]["e"] > 1.0], _LARGE),
    ]
    columns = [pair for pair in chosen if pair is not None]
    if not columns:
        return None
    rows = (_strong_products, _weak_products, _noise_products, _margins, _losses, _residual_sums)
    fig, axes = canvas(len(rows), len(columns), height=10.0, width=5.4, sharey="row", sharex="col")
    for column, (lane, arrays) in zip(axes.T, columns, strict=True):
        seed = f", seed {lane['seed']}" if "seed" in lane["values"] else ""
        column[0].set_title(f"{'small' if lane['e'] <= 1 else 'large'} rate: $e={lane['e']:g}${seed}")
        for axis, draw in zip(column, rows, strict=True):
            draw(axis, lane, arrays)
        column[-1].set_xlabel("step $t$")
        thousands(column[-1])
    for axis, label in zip(axes[:, 0], _ROW_LABELS, strict=True):
        axis.set_ylabel(label)
    plain_log(axes[4, 0])
    for place in (2, 5):
        if axes[place, 0].get_legend_handles_labels()[1]:
            axes[place, 0].legend(loc="upper left", handlelength=1.0)
    caption = (
        "Neurons of the class +1 (a line each) and examples with label +1; a row has the same scale on both sides. "
        "Above e = 1, y f jumps around 1 and the residuals 1 - y f add up (green: the lower bound of the accumulation "
        "law, drawn where every multiplier was positive), which drives the weak feature; below, the sum stops at once."
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


def _strong_products(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    axis.plot(arrays["features/step"], arrays["features/inner_u"][:, 0], color=BLUE, linewidth=0.7, alpha=0.7)


def _weak_products(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    axis.plot(arrays["features/step"], arrays["features/inner_v"][:, 0], color=VERMILLION, linewidth=0.7, alpha=0.7)


def _noise_products(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    """The largest over strong and over weak examples of the label, for each neuron."""
    products = arrays["features/inner_xi"][:, 0]
    own = arrays["data/y"] > 0
    strong = arrays["data/strong"].astype(bool)
    for kind, chosen, colour in (("$i$ strong", own & strong, BLUE), ("$i$ weak", own & ~strong, VERMILLION)):
        if np.any(chosen):
            largest = products[:, :, chosen].max(axis=2)
            axis.plot(arrays["features/step"], largest, color=colour, linewidth=0.7, alpha=0.7)
            axis.plot([], [], color=colour, label=kind)


def _margins(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    seen = visits(arrays, LABELS[0])
    kept = sample(seen.z.size)
    axis.plot(seen.step[kept], seen.z[kept], ".", color=BLUE, markersize=2.4, markeredgewidth=0, alpha=0.7)
    axis.axhline(1.0, color=GREY, linewidth=0.8)
    if diverged(lane):
        axis.set_ylim(-1.0, 3.0)


def _losses(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    loss = arrays["features/loss"]
    axis.plot(arrays["features/step"], np.where(loss > 0, loss, np.nan), color="black")


def _residual_sums(axis: Axes, lane: dict[str, Any], arrays: Arrays) -> None:
    sums = accumulation(arrays, LABELS[0], lane["e"])
    bound = np.where((sums.min_q > 0) & np.isfinite(sums.bound), sums.bound, np.nan)
    axis.plot(sums.step, sums.total, color="black", label="$S_y$")
    axis.plot(sums.step, bound, color=GREEN, linestyle="--", label="bound")


def weak_feature(run: RunResult) -> Figure | None:
    """V through time for every e, the logistic prediction where it applies, the capacity K, and delta/4."""
    lanes = [pair for pair in recorded(run, "features/weak") if pair[0]["arm"] != _CONTROL]
    if not lanes:
        return None
    colours = rate_colours(lane["e"] for lane, _ in lanes)
    fig, axes = canvas(1, 1, height=4.8)
    axis = axes[0, 0]
    for lane, arrays in lanes:
        axis.plot(arrays["features/step"], _weak_of(arrays), color=colours[lane["e"]], linewidth=0.8, alpha=0.55)
    for e, colour in colours.items():
        own = [pair for pair in lanes if pair[0]["e"] == e]
        axis.plot([], [], color=colour, label=f"$e={e:g}$")
        if 1.0 < e < CHAOS_ONSET:
            step, predicted = _logistic(own, run.config)
            axis.plot(step, predicted, color=colour, linestyle="--", linewidth=1.8)
        if e > 1.0:
            axis.plot(
                [1.0, 1.04],
                [capacity(e)] * 2,
                color=colour,
                linewidth=2.5,
                transform=axis.get_yaxis_transform(),
                clip_on=False,
            )
    axis.set(xlabel="step $t$", ylabel=_weak_label(lanes), yscale="log")
    _delta_quarter(axis, [e for e in colours if 1.0 < e < SIGN_STABLE_LIMIT])
    axis.plot([], [], color="black", linestyle="--", linewidth=1.8, label="logistic law")
    axis.annotate("$K$", (1.05, 1.0), xycoords="axes fraction", va="top")
    thousands(axis)
    legend_below(fig, 4)
    caption = (
        "One line a seed (grey: e up to 1); V is that of the class where it is smaller. Dashes: the logistic law "
        "without noise, started from the V that the weak examples alone leave behind (mean over seeds), for e up to "
        "1.302, where chaos begins. Ticks at the right: its capacity K = 1 - 1/e."
    )
    return Figure("weak_feature", "Growth of the weak feature", caption, fig)


def _present(arrays: Arrays) -> NDArray[np.bool_]:
    """Which of the labels (+1, -1) occur among the training examples."""
    return np.array([np.any(arrays["data/y"] == label) for label in LABELS])


def _weak_label(lanes: list[Lane]) -> str:
    return r"$\min_y V_y$" if _present(lanes[0][1]).all() else "$V$"


def _weak_of(arrays: Arrays) -> NDArray[np.float64]:
    """The smallest V_y over the labels that occur; nan where it is 0 or not finite."""
    weak = arrays["features/weak"][:, _present(arrays)].astype(float).min(axis=1)
    return np.where(np.isfinite(weak) & (weak > 0), weak, np.nan)


def _logistic(own: list[Lane], config: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The logistic law in steps, from the mean start of the seeds of one e."""
    longest = max((arrays["features/step"] for _, arrays in own), key=lambda step: step[-1])
    curves = []
    for lane, arrays in own:
        label = LABELS[int(np.argmax(_present(arrays)))]
        mine, strong = arrays["data/y"] == label, arrays["data/strong"].astype(bool)
        eps = float(arrays["data/v_norm"] / arrays["data/u_norm"]) ** 2
        xi_norm2 = float(np.mean(arrays["data/noise_norm2"]))
        v0 = float(np.nanmean(arrays["features/weak"][0][_present(arrays)]))
        if xi_norm2 > 0 and np.any(mine & ~strong):
            kn = xi_norm2 / float(arrays["data/v_norm"]) ** 2
            scale = config["model"]["init_scale"]
            v0 = small_lr_weak_end(v0, scale, xi_norm2**0.5, int(np.sum(mine & ~strong)), kn)
        if v0 > 0:
            curves.append(logistic_weak(longest * np.mean(mine & strong), v0, lane["e"], eps))
    return longest, np.mean(curves, axis=0) if curves else np.full(longest.shape, np.nan)


def _delta_quarter(axis: Axes, es: list[float]) -> None:
    if es:
        quarters = [delta_of(e) / 4.0 for e in es]
        axis.axhspan(min(quarters) * 0.985, max(quarters) * 1.015, color=PURPLE, alpha=0.35, linewidth=0)
        where = axis.get_yaxis_transform()
        axis.annotate(r"$\delta/4$", (0.01, max(quarters) * 1.1), xycoords=where, va="bottom", color=PURPLE)


def drift(run: RunResult) -> Figure | None:
    """y f = U + V of a single example through time above e = 1: oscillation that ends by itself."""
    lanes = recorded(run, "features/weak", "step/margin")
    lanes = [pair for pair in lanes if pair[0]["e"] > 1.0 and not diverged(pair[0])]
    if not lanes:
        return None
    es = sorted({lane["e"] for lane, _ in lanes})
    fig, axes = canvas(len(es), 1, height=0.9 + 1.1 * len(es), sharex=True, sharey=True)
    for axis, e in zip(axes[:, 0], es, strict=True):
        _, arrays = next(pair for pair in lanes if pair[0]["e"] == e)
        kept = sample(len(arrays["step/margin"]))
        axis.plot(kept, arrays["step/margin"][kept], ".", color=BLUE, markersize=2.4, markeredgewidth=0)
        axis.plot(arrays["features/step"], _weak_of(arrays), color=VERMILLION, label="$V$")
        axis.plot([], [], ".", color=BLUE, markersize=6, label="$yf=U+V$")
        axis.axhline(1.0, color=GREY, linewidth=0.8, zorder=0)
        axis.axhline(float(capacity(e)), color=VERMILLION, linewidth=0.8, linestyle=":", label="$K=1-1/e$")
        axis.set_title(f"$e={e:g}$", loc="right", pad=1.0)
    axes[-1, 0].set_xlabel("step $t$")
    axes[len(es) // 2, 0].set_ylabel("$yf$ and $V$")
    thousands(axes[-1, 0])
    legend_below(fig, 3)
    caption = (
        "y f of the one example is U + V, and jumps around 1 while the weak component V grows towards its capacity K = "
        "1 - 1/e (dotted). At the capacity the fitted point is stable: the oscillation dies and U + V stays at 1."
    )
    return Figure("drift", "Oscillation ends by itself", caption, fig)


def edge_of_stability(run: RunResult) -> Figure | None:
    """eta lambda / 2 of single strong examples at the end against e: it ends near 1 where the rate is large."""
    lanes = [pair for pair in recorded(run, "curvature/power", "step/learning_rate") if not diverged(pair[0])]
    if not lanes:
        return None
    points = np.array(
        [(lane["e"], a["step/learning_rate"][-1] * a["curvature/power"][-1].mean() / 2.0) for lane, a in lanes]
    )
    fig, axes = canvas(1, 1, height=3.6)
    axis = axes[0, 0]
    grid = np.linspace(0.0, SIGN_STABLE_LIMIT, 200)
    axis.plot(grid, np.minimum(grid, 1.0), color="black", linewidth=0.9, label="theory without noise: min(e, 1)")
    axis.plot(*points.T, "o", color=BLUE, markersize=5, alpha=0.6, markeredgewidth=0, label="measured, one dot a run")
    mark_limits(axis)
    top = max(1.25, float(points[:, 1].max()) * 1.05)
    axis.set(xlabel="$e$", ylabel=r"$\eta\lambda_{\max}/2$ at the end", xlim=(0.0, 1.68), ylim=(0.0, top))
    legend_below(fig, 2)
    caption = (
        "Largest Hessian eigenvalue of the loss of single training examples (mean over those measured, by power "
        "iteration) at the last step. A fitted example is stable below 1; a run that still oscillates scatters around "
        "the line."
    )
    return Figure("edge_of_stability", "Where the curvature ends", caption, fig)
