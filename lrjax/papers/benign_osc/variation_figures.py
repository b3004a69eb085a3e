"""The ablations: accuracy of each arm, and the laws of start, length and level that their claims judge."""

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from lrjax.experiment.rundir.lanes import Arrays, Lanes, diverged, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.experiment.rundir.reading import derived, entries
from lrjax.papers.benign_osc import checks
from lrjax.papers.benign_osc import variation_checks as varied
from lrjax.papers.benign_osc.accuracy_figures import CHANCE, last_accuracy
from lrjax.papers.drawn import seeds_and_mean
from lrjax.plots.drawing import BLUE, GREY, PURPLE, VERMILLION, Figure, canvas, plain_log

_NAMES = {
    "reference": "reference",
    "wide": "wider",
    "iid": "examples drawn iid",
    "cyclic": "fixed order",
    "unshared_filters": "filters not shared",
    "batch_16": "batch of 16",
    "batch_32": "batch of 32",
    "full_batch_oscillating": "full batch",
    "full_batch_stable": "full batch, stable",
    "label_noise": "label noise",
    "stable": "stable",
    "decay_8k": "large, then small",
    "decay_2k": "large, then small (early)",
    "averaged": "last iterate",
    "label_noise_small_rate": "label noise, small rate",
    "weaker": "shorter $v$",
    "long": "smaller $e$, longer run",
    "start": "other starts, small rate",
    "start_oscillating": "other starts",
}
_CONTROLS = {"full_batch_oscillating": "full_batch_stable", "label_noise": "stable", "decay_8k": "decay_2k"} | {
    arm: f"{arm}_stable" for arm in (*varied.VARIANTS, "batch_16", "batch_32")
}
Row = tuple[str, str, str, Lanes]


def ablations(run: RunResult) -> Figure | None:
    """Weak-only accuracy of each arm: seeds as dots, their mean, and the average of the iterates where it was kept."""
    rows, joined = _rows(recorded(run, "test_accuracy/weak_accuracy"))
    if not rows:
        return None
    fig, axes = canvas(1, 1, height=0.8 + 0.37 * len(rows))
    axis = axes[0, 0]
    means = {}
    for place, (_, kind, colour, own) in enumerate(rows):
        values = [last_accuracy(arrays, kind) for lane, arrays in own if not diverged(lane)]
        if values:
            means[place] = np.mean(values)
            axis.plot([min(values), max(values)], [place] * 2, color=colour, linewidth=4, alpha=0.25)
            axis.plot(values, [place] * len(values), "o", color=colour, markersize=5, alpha=0.5, markeredgewidth=0)
            axis.plot([means[place]], [place], "|", color="black", markersize=13, markeredgewidth=1.5)
        if len(values) < len(own):
            axis.annotate("a seed diverged", (0.51, place), va="center", fontsize=8.5)
    for place in joined:
        if {place, place + 1} <= means.keys():
            axis.plot([means[place], means[place + 1]], [place, place + 1], color="black", linewidth=0.8, zorder=1)
    axis.axvline(CHANCE, color=GREY, linewidth=0.8)
    axis.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=8.5)
    axis.set(xlabel="weak-only test accuracy at the end", xlim=(0.48, 1.02), ylim=(len(rows) - 0.4, -0.6))
    axis.grid(axis="y", color="#e6e6e6")
    caption = (
        "One dot a seed, the bar is their mean, the band is from the lowest to the highest; chance is 0.5. The arms differ "
        "from the reference in the one thing that is named, and in e and steps as written under it (for a batch, e is that "
        "of its mean loss). Black lines join two arms whose difference is judged, seed by seed: a quarter or more is asked "
        "for, and of the average of iterates that it is better at all."
    )
    return Figure("ablations", "What the effect needs", caption, fig)


def _rows(found: Lanes) -> tuple[list[Row], list[int]]:
    """Rows of the figure, an arm before its control, and the rows that are judged against the next one."""
    present = {lane["arm"] for lane, _ in found}
    order = [arm for first in _NAMES if first not in _CONTROLS.values() for arm in (first, _CONTROLS.get(first, first))]
    rows: list[Row] = []
    joined = []
    for arm in dict.fromkeys(arm for arm in [*order, *_NAMES, *sorted(present)] if arm in present):
        own = [pair for pair in found if pair[0]["arm"] == arm]
        if _CONTROLS.get(arm) in present:
            joined.append(len(rows))
        name = _NAMES.get(arm, _NAMES.get(arm.removesuffix("_stable"), arm) + ", stable" * arm.endswith("_stable"))
        rows.append((f"{name}\n{_setting(own)}", "weak_accuracy", VERMILLION, own))
        averaged = [pair for pair in own if entries(pair[1], "test_accuracy/averaged_weak_accuracy")]
        if averaged:
            joined.append(len(rows) - 1)
            rows.append((f"average of iterates\n{_setting(own)}", "averaged_weak_accuracy", PURPLE, averaged))
    return rows, joined


def _setting(own: Lanes) -> str:
    lane, arrays = own[0]
    es = ", ".join(f"{e:g}" for e in sorted({lane["e"] for lane, _ in own}))

    def first_change(own: Arrays) -> NDArray[Any]:
        rates = own.get("step/learning_rate", np.zeros(0))
        changes = np.flatnonzero(np.diff(rates) != 0)[:1]
        return np.stack([changes + 1, rates[changes + 1] / rates[changes]], axis=1)

    change = derived(arrays, "first change of step/learning_rate: step and factor", first_change)
    when = "".join(f", ×{factor:.2g} at {step / 1000:g}k" for step, factor in change)
    return f"$e={es}$, {lane['steps'] / 1000:g}k steps{when}"


def laws(run: RunResult) -> Figure | None:
    """The weak feature against the start, the time to learn it against its length, and the level that it reaches."""
    panels = [draw for draw in (_starts, _times, _levels) if draw(None, run)]
    if not panels:
        return None
    fig, axes = canvas(len(panels), 1, height=2.7 * len(panels))
    for axis, draw in zip(axes[:, 0], panels, strict=True):
        draw(axis, run)
        axis.legend(loc="best")
    caption = (
        "Thin lines and dots: seeds; thick: their mean (of the logarithm); bands: from the lowest to the highest seed. Each "
        "claim judges one number a seed. Start: the slope, which the dotted line has as proposition 6 says, at the small "
        "rate; the large rate, whose end does not depend on its start, must fail. Time: the slope against the dotted line of "
        "power 1. Level: the largest V over delta/4, delta as measured, which must lie above 1."
    )
    return Figure("laws", "Start, time and level of the weak feature", caption, fig)


def _sound(run: RunResult, arms: tuple[str, ...], *names: str) -> Lanes:
    return [pair for pair in recorded(run, *names) if pair[0]["arm"] in arms and not diverged(pair[0])]


def _curves(
    lanes: Lanes, x: Callable[[dict[str, Any], Arrays], float], y: Callable[[dict[str, Any], Arrays], float]
) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """A curve a seed, in ascending x; none where there is one x only."""
    points: dict[int, list[tuple[float, float]]] = {}
    for lane, arrays in lanes:
        points.setdefault(lane["seed"], []).append((x(lane, arrays), y(lane, arrays)))
    curves = [np.array(sorted(own)).T for own in points.values() if len({place for place, _ in own}) > 1]
    return [(own[0], own[1]) for own in curves]


def _squared_ratio(lane: dict[str, Any], arrays: Arrays) -> float:
    """|u|^2 / |v|^2, without the rounding by which seeds differ."""
    return float(f"{float(arrays['data/u_norm'] / arrays['data/v_norm']) ** 2:.4g}")


def _power_one(axis: Axes, curves: list[tuple[NDArray[Any], NDArray[Any]]]) -> None:
    """A dotted line of slope 1 through the mean of the first points."""
    x = curves[0][0]
    start = np.exp(np.mean([np.log(y[0]) for _, y in curves]))
    axis.plot(x, start * x / x[0], color="black", linestyle=":", linewidth=1.2, label="power 1", zorder=5)
    axis.set_xticks(x, [f"{place:.3g}" for place in x])
    axis.xaxis.set_minor_locator(NullLocator())


def _starts(axis: Axes | None, run: RunResult) -> bool:
    """max |<w, v>| over sigma_0; whether there is something to draw."""
    colours = {"start": (BLUE, "$e=0.5$, judged"), "start_oscillating": (VERMILLION, "$e=1.25$, must fail")}
    found = {
        arm: _curves(
            _sound(run, (arm,), "features/inner_v"),
            lambda lane, arrays: lane["values"]["model.init_scale"],
            varied.largest_inner,
        )
        for arm in colours
    }
    if axis is None or not found["start"]:
        return bool(found["start"])
    axis.set(
        xscale="log", yscale="log", xlabel=r"scale of the start $\sigma_0$", ylabel=r"$\max|\langle w,v\rangle|/|v|$"
    )
    for arm, (colour, label) in colours.items():
        seeds_and_mean(axis, found[arm], colour, label, linewidth=2.0, linestyle="-", marker="o", markersize=4)
    _power_one(axis, found["start"])
    return True


def _times(axis: Axes | None, run: RunResult) -> bool:
    """Steps to pass delta/4 over |u|^2 / |v|^2; whether there is something to draw."""
    lanes = _sound(run, ("reference", "weaker"), "features/weak")
    lanes = [pair for pair in lanes if np.isfinite(varied.passes(*pair))]
    curves = _curves(lanes, _squared_ratio, varied.passes)
    if axis is None or not curves:
        return bool(curves)
    axis.set(xscale="log", yscale="log", xlabel="$|u|^2/|v|^2$", ylabel=r"steps to pass $\delta/4$")
    seeds_and_mean(axis, curves, VERMILLION, "$e=1.25$, judged", linewidth=2.0, linestyle="-", marker="o", markersize=4)
    _power_one(axis, curves)
    plain_log(axis)
    return True


def _levels(axis: Axes | None, run: RunResult) -> bool:
    """The largest V over delta/4 of the long runs; whether there is something to draw."""
    lanes = _sound(run, ("long",), "features/weak", "step/example")
    if axis is None or not lanes:
        return bool(lanes)
    points = np.array([(lane["e"], np.exp(checks.over_threshold(lane, arrays))) for lane, arrays in lanes])
    axis.plot(*points.T, "o", color=VERMILLION, markersize=5, alpha=0.5, markeredgewidth=0, label="seeds")
    for e in np.unique(points[:, 0]):
        axis.plot(
            e,
            np.exp(np.log(points[points[:, 0] == e, 1]).mean()),
            "_",
            color="black",
            markersize=22,
            markeredgewidth=1.5,
        )
    axis.axhline(1.0, color="black", linestyle=":", linewidth=1.2, label=r"$\delta/4$")
    axis.set(
        xlabel="$e$", ylabel=r"largest $V$ over $\delta/4$", xlim=(1.0, 1.3), ylim=(0.0, 1.15 * points[:, 1].max())
    )
    return True
