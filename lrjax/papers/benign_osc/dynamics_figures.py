"""Through time: the weak feature at every rate, the end of oscillation, and where the curvature ends."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, Lanes, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived, entries
from lrjax.papers.benign_osc import single_checks
from lrjax.papers.benign_osc.checks import EDGE, EDGES, LARGE_RATE
from lrjax.papers.benign_osc.cubic_map import CHAOS_ONSET, SIGN_STABLE_LIMIT, STABILITY_LIMIT
from lrjax.papers.benign_osc.drawing import as_drawn, at_records, judged, mark_limits, rate_colours
from lrjax.papers.benign_osc.inner_figures import CONTROL
from lrjax.papers.benign_osc.observe import LABELS, delta_of, largest_weak, positive_weak, stability
from lrjax.papers.benign_osc.theory import capacity, logistic_weak, small_lr_weak_end
from lrjax.papers.drawn import MOST, seeds_and_mean
from lrjax.plots.drawing import BLUE, GREY, PURPLE, VERMILLION, Figure, canvas, legend_below, sample, thousands

_LAW = dict(color="black", linestyle="--", linewidth=1.0, zorder=5)
_WEAK_CAPTION = (
    "Thin lines: seeds; thick: their mean (of the logarithm); bands: from the lowest to the highest seed, at most "
    f"{MOST} points a line. Grey, in dashes of several lengths where curves coincide: e up to 1. V is that of the class where "
    "it is smaller. Black dashes: the logistic law without noise, started from the V that the weak examples alone leave behind "
    "(mean over seeds), for e up to 1.302, where chaos begins. Ticks at the right: its capacity K = 1 - 1/e. "
)
_RINGS = (
    f"Rings at e = {LARGE_RATE:g}: the largest V of each seed, which is judged against delta/4 with delta as measured; the "
    "purple band has the map's delta."
)
_SINGLE_RINGS = (
    "Rings: V at the end, judged against delta/4 (the purple band has the map's delta), against the capacity and, for e below "
    "1, against V at the start. Diamonds: the time at which V is half its capacity, judged against the law."
)


def weak_feature(run: RunResult) -> Figure | None:
    """V through time for every e, the logistic prediction where it applies, the capacity K, and delta/4."""
    lanes = [pair for pair in recorded(run, "features/weak") if pair[0]["arm"] != CONTROL]
    if not lanes:
        return None
    colours = rate_colours(lane["e"] for lane, _ in lanes)
    fig, axes = canvas(1, 1, height=4.8)
    axis = axes[0, 0]
    axis.set(xlabel="step $t$", ylabel=_weak_label(lanes), yscale="log")
    _courses(axis, lanes, colours)
    for e, colour in colours.items():
        if 1.0 < e < CHAOS_ONSET:
            axis.plot(*_logistic([pair for pair in lanes if pair[0]["e"] == e], run.config), **_LAW)
        if e > 1.0:
            where = dict(transform=axis.get_yaxis_transform(), clip_on=False)
            axis.plot([1.0, 1.04], [capacity(e)] * 2, color=colour, linewidth=2.5, **where)
    _delta_quarter(axis, [e for e in colours if 1.0 < e < SIGN_STABLE_LIMIT])
    single = run.config["experiment"] == "E1"
    (_judged_single if single else _judged_largest)(axis, [pair for pair in lanes if not diverged(pair[0])])
    axis.plot([], [], label="logistic law", **_LAW)
    axis.annotate("$K$", (1.05, 1.0), xycoords="axes fraction", va="top")
    thousands(axis)
    legend_below(fig, 3)
    caption = _WEAK_CAPTION + (_SINGLE_RINGS if single else _RINGS)
    return Figure("weak_feature", "Growth of the weak feature", caption, fig)


def _courses(axis: Axes, lanes: Lanes, colours: dict[float, Any]) -> None:
    """Seeds, mean and band of each rate and length."""
    settings = sorted({(lane["e"], lane["steps"]) for lane, _ in lanes})
    rates = [e for e, _ in settings]
    for place, (e, steps) in enumerate(settings):
        own = [_weak_of(arrays) for lane, arrays in lanes if (lane["e"], lane["steps"]) == (e, steps)]
        label = f"$e={e:g}$" + (f", {steps / 1000:g}k steps" if rates.count(e) > 1 else "")
        # Those below the switch may coincide.
        style = {} if e <= STABILITY_LIMIT else {"linewidth": 2.6, "linestyle": "-"}
        seeds_and_mean(axis, own, colours[e], label, place, **style)


def _judged_largest(axis: Axes, lanes: Lanes) -> None:
    for lane, arrays in lanes:
        if lane["e"] == LARGE_RATE:
            judged(axis, lane["steps"], largest_weak(arrays))


def _judged_single(axis: Axes, lanes: Lanes) -> None:
    for lane, arrays in lanes:
        if lane["e"] in (*single_checks.SMALL_RATES, *single_checks.RATES):
            judged(axis, lane["steps"], positive_weak(arrays, -1))
        if lane["e"] in single_checks.RATES:
            judged(axis, single_checks.half_time(lane, arrays), capacity(lane["e"]) / 2.0, "D", markersize=6.5)


def _present(arrays: Arrays) -> NDArray[np.bool_]:
    """Which of the labels (+1, -1) occur among the training examples."""
    return np.array([np.any(arrays["data/y"] == label) for label in LABELS])


def _weak_label(lanes: Lanes) -> str:
    return r"$\min_y V_y$" if _present(lanes[0][1]).all() else "$V$"


def _weak_of(arrays: Arrays) -> tuple[NDArray[Any], NDArray[Any]]:
    """Steps, and the smallest V_y over the labels that occur; nan where it is 0 or not finite."""
    present = _present(arrays)

    def smaller(own: Arrays) -> NDArray[np.float32]:
        weak = own["features/weak"][:, present].astype(np.float32).min(axis=1)
        return np.where(np.isfinite(weak) & (weak > 0), weak, np.nan)

    return at_records(arrays, "V of the smaller label", smaller)


def _logistic(lanes: Lanes, config: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The logistic law in steps, from the mean start of the seeds of one e."""
    longest = max((_weak_of(arrays)[0] for _, arrays in lanes), key=lambda step: step[-1])
    curves = []
    for lane, arrays in lanes:
        present = _present(arrays)
        label = LABELS[int(np.argmax(present))]
        mine, strong = arrays["data/y"] == label, arrays["data/strong"].astype(bool)
        eps = float(arrays["data/v_norm"] / arrays["data/u_norm"]) ** 2
        xi_norm2 = float(np.mean(arrays["data/noise_norm2"]))
        first = derived(arrays, "V of each label at the start", lambda own: own["features/weak"][0])
        v0 = float(np.nanmean(first[present]))
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
    fig, axes = canvas(len(es), 1, height=1.3 + 1.1 * len(es), sharex=True, sharey=True)
    for axis, e in zip(axes[:, 0], es, strict=True):
        lane, arrays = next(pair for pair in lanes if pair[0]["e"] == e)
        places = sample(entries(arrays, "step/margin"), MOST)
        # sample() again, so that the name has all that the values depend on
        margins = derived(
            arrays,
            f"{MOST} of step/margin at uneven places",
            lambda own: as_drawn(own["step/margin"][sample(len(own["step/margin"]), MOST)]),
        )
        axis.plot(places, margins, ".", color=BLUE, markersize=2.6, markeredgewidth=0)
        axis.plot(*_weak_of(arrays), color=VERMILLION, label="$V$")
        axis.plot([], [], ".", color=BLUE, markersize=6, label="$yf=U+V$")
        axis.axhline(1.0, color=GREY, linewidth=0.8, zorder=0)
        axis.axhline(float(capacity(e)), color=VERMILLION, linewidth=0.8, linestyle=":", label="$K=1-1/e$")
        axis.set_title(f"$e={e:g}$", loc="right", pad=1.0)
        if e in single_checks.RATES:
            judged(axis, lane["steps"], positive_weak(arrays, -1), label="judged: $V$ at the end")
    axes[-1, 0].set_xlabel("step $t$")
    axes[len(es) // 2, 0].set_ylabel("$yf$ and $V$")
    thousands(axes[-1, 0])
    legend_below(fig, 2)
    caption = (
        "y f of the one example is U + V, and jumps around 1 while the weak component V grows towards its capacity K = "
        "1 - 1/e (dotted). At the capacity the fitted point is stable: the oscillation dies and U + V stays at 1. The first "
        f"seed, at most {MOST} points a line. Rings: V at the end, judged within {single_checks.END:.0%} of the capacity, to "
        "first order in the square of |v|/|u|."
    )
    return Figure("drift", "Oscillation ends by itself", caption, fig)


def edge_of_stability(run: RunResult) -> Figure | None:
    """eta lambda / 2 of single strong examples at the end against e: it ends near 1 where the rate is large."""
    lanes = [pair for pair in recorded(run, "curvature/power", "step/learning_rate") if not diverged(pair[0])]
    if not lanes:
        return None
    points = np.array([(lane["e"], _by_power_iteration(arrays)) for lane, arrays in lanes])
    fig, axes = canvas(1, 1, height=4.2)
    axis = axes[0, 0]
    grid = np.linspace(0.0, SIGN_STABLE_LIMIT, 200)
    axis.plot(grid, np.minimum(grid, 1.0), color="black", linewidth=0.9, label="theory without noise: min(e, 1)")
    axis.plot(*points.T, "o", color=BLUE, markersize=5, alpha=0.5, markeredgewidth=0, label="measured, one dot a seed")
    es = sorted(set(points[:, 0]))
    own = [points[points[:, 0] == e, 1] for e in es]
    axis.plot(es, [values.mean() for values in own], color=BLUE, linewidth=2.0, label="mean over seeds")
    axis.fill_between(es, [v.min() for v in own], [v.max() for v in own], color=BLUE, alpha=0.15, linewidth=0)
    caption = (
        "Largest Hessian eigenvalue of the loss of single training examples (mean over those measured, by power "
        "iteration) at the last step; the band is from the lowest to the highest seed. A fitted example is stable below 1; a "
        "run that still oscillates scatters around the line."
    )
    if run.config["experiment"] == "CLEAR":
        caption += _judged_edge(axis, [pair for pair in lanes if pair[0]["arm"] == "main"])
    mark_limits(axis)
    top = max(1.25, float(points[:, 1].max()) * 1.05)
    axis.set(xlabel="$e$", ylabel=r"$\eta\lambda_{\max}/2$ at the end", xlim=(0.0, 1.68), ylim=(0.0, top))
    legend_below(fig, 2)
    return Figure("edge_of_stability", "Where the curvature ends", caption, fig)


def _by_power_iteration(arrays: Arrays) -> float:
    def half(own: Arrays) -> float:
        return own["step/learning_rate"][-1] * own["curvature/power"][-1].mean() / 2.0

    return float(derived(arrays, "step/learning_rate times curvature/power over 2 at the end", half))


def _judged_edge(axis: Axes, lanes: Lanes) -> str:
    """What the claim judges and its margin; returns a sentence about it."""
    found = [
        (lane["e"], stability(arrays, lane["learning_rate"]).signal)
        for lane, arrays in lanes
        if lane["e"] in EDGES and entries(arrays, "curvature/output") and entries(arrays, "features/strong")
    ]
    if not found:
        return ""
    es, values = np.array(found).T
    judged(axis, es, values, "D", markersize=5.5, label="judged: without the noise patch")
    ends, sides = [min(EDGES) - 0.03, max(EDGES) + 0.03], (1.0 - EDGE, 1.0 + EDGE)
    axis.fill_between(ends, *sides, color=PURPLE, alpha=0.2, linewidth=0, label="its margin")
    return (
        " Diamonds: the same without the noise patch, one a seed, which the claim judges; their mean must lie within the "
        "purple margin at each of the three rates."
    )
