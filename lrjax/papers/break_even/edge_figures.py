"""How far a run is from the edge of stability, how H and K are aligned, and when each detector fires."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lrjax.experiment.rundir.lanes import Arrays, Lanes, lane_config
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.assumption_checks import growth_ends
from lrjax.papers.break_even.checks import CONTROL
from lrjax.papers.break_even.drawing import SEEDS, bars, colours, label, plot_seeds, reference, with_curve
from lrjax.papers.break_even.recorded import (
    DETECTORS,
    Curve,
    accuracy_at,
    curve,
    detections,
    rates_at,
    sizes,
    stability_of,
)
from lrjax.papers.claim import NotMeasured
from lrjax.plots.drawing import GREY, Figure, canvas, legend_below, plain_log

BATCH = "batch_sharpness/value"
SHORT = (3.0, 1.4)  # dashes of the second kind of curve on an axis, wide enough to be seen where the two coincide


def stability(run: RunResult) -> Figure | None:
    """Equation 1 itself: its left side, and what share of it the spread of curvatures has."""
    lanes = [pair for pair in with_curve(run, "curvature_std") if _known(run, *pair)]
    if not lanes:
        return None
    fig, axes = canvas(2, 1, height=5.2, sharex=True)
    for axis, part in zip(axes[:, 0], ("lhs", "noise_share"), strict=True):
        plot_seeds(axis, run, lanes, _of_stability(run, part))
    shades = colours(run)
    for lane, arrays in lanes:
        found, style = detections(run, lane, arrays)["D1"], dict(markeredgecolor="black", markersize=5, zorder=5)
        if found.step is not None:
            at = found.step / sizes(run, lane).steps_per_epoch
            axes[0, 0].plot(at, 1.0, "s", color=shades[label(run, lane)], **style)
    reference(axes[0, 0], 1.0, "edge of stability")
    plain_log(axes[0, 0])
    axes[0, 0].set_ylabel("left side of eq. 1")
    axes[1, 0].set_ylabel("share of noise")
    axes[1, 0].set_xlabel("epoch")
    legend_below(fig, 2)
    caption = (
        r"$(1-\eta\lambda_H^1)^2+s^2\eta^2(N-S)/(S(N-1))$ from the curvatures of single examples along the top eigenvector; "
        f"SGD is stable along it up to 1. Squares: the break-even point of each seed. Below, the part of the "
        f"condition that noise has. {SEEDS.capitalize()}."
    )
    return Figure("stability", "The stability condition", caption, fig)


def _of_stability(run: RunResult, part: str) -> Callable[[dict[str, Any], Arrays], Curve]:
    def read(lane: dict[str, Any], arrays: Arrays) -> Curve:
        steps, found = stability_of(run, lane, arrays)
        return Curve(steps, getattr(found, part))

    return read


def _known(run: RunResult, lane: dict[str, Any], arrays: Any) -> bool:
    try:
        return bool(stability_of(run, lane, arrays)[0].size)
    except NotMeasured:
        return False


def edge(run: RunResult) -> Figure | None:
    """eta lambda_H / 2 and eta times batch sharpness / 2 of each lane without momentum, with the edge at 1."""
    batch = [pair for pair in with_curve(run, BATCH) if not _momentum(run, pair[0])]
    full = [pair for pair in with_curve(run, "lambda_h1") if not _momentum(run, pair[0])]
    if not batch or not full:
        return None
    fig, axes = canvas(1, 1, height=4.4)
    axis = axes[0, 0]
    plot_seeds(axis, run, full, _of_edge("lambda_h1"), words=r": $\eta\lambda_H^1/2$")
    plot_seeds(axis, run, batch, _of_edge(BATCH), dashes=SHORT, words=r": $\eta\,$batch sharpness$/2$")
    reference(axis, 1.0, "edge of stability")
    plain_log(axis)
    axis.set(xlabel="epoch", ylabel="curvature over that of the edge")
    legend_below(fig, 1)
    caption = (
        "Largest eigenvalue of the Hessian (solid) and curvature of batches of the training's size along their own gradients "
        rf"(dashed), both times $\eta/2$: {SEEDS}. At 1 a quadratic would be at its edge; the first meets it under the full "
        "batch, the second under SGD."
    )
    return Figure("edge", "At the edge of stability", caption, fig)


def _momentum(run: RunResult, lane: dict[str, Any]) -> float:
    return float(lane_config(run, lane).optimizer.get("momentum") or 0.0)


def _of_edge(name: str) -> Callable[[dict[str, Any], Arrays], Curve]:
    def read(lane: dict[str, Any], arrays: Arrays) -> Curve:
        found = curve(arrays, name)
        return Curve(found.steps, rates_at(lane, arrays, found.steps) * found.values / 2)

    return read


def noise_scale(run: RunResult) -> Figure | None:
    """The gradient noise scale, tr K / |g|^2 in examples, with its interval and the batch size in use."""
    lanes = with_curve(run, "noise_scale")
    if not lanes:
        return None
    fig, axes = canvas(1, 1, height=4.0)
    axis = axes[0, 0]
    plot_seeds(axis, run, lanes, lambda _, arrays: curve(arrays, "noise_scale"))
    intervals = bars(axis, run, lanes, "noise_scale", "noise_scale")
    for size in sorted({sizes(run, lane).batch_size for lane, _ in lanes}):
        reference(axis, size, f"batch size, {size}")
    plain_log(axis)
    axis.set(xlabel="epoch", ylabel="gradient noise scale (examples)")
    legend_below(fig, 2)
    caption = (
        rf"$\mathrm{{Tr}}(K)/|g|^2$ of single examples, the batch at which noise and mean gradient are as large: {SEEDS}."
        + (" Bars: 95 % intervals of a measurement; one that ends at the top may be infinite." if intervals else "")
    )
    return Figure("noise_scale", "The gradient noise scale", caption, fig)


def alignment(run: RunResult) -> Figure | None:
    """Assumption 2: the angle between the top eigenvectors of H and K, and the ratio of their eigenvalues."""
    lanes = [pair for pair in with_curve(run, "cos_hk") if not pair[0]["arm"].startswith(CONTROL)]
    if not lanes:
        return None
    fig, axes = canvas(2, 1, height=5.6)
    plot_seeds(axes[0, 0], run, lanes, lambda _, arrays: curve(arrays, "cos_hk"))
    axes[0, 0].set(xlabel="epoch", ylabel=r"$|\langle e_H^1, e_K^1\rangle|$", ylim=(0, 1.02))
    reference(axes[0, 0], float(np.sqrt(0.5)), "45 degrees")
    _mark_peaks(axes[0, 0], run, lanes)
    shades = colours(run)
    for lane, arrays in lanes:
        top, noise = curve(arrays, "lambda_h1"), curve(arrays, "lambda_k1_raw")
        steps = np.intersect1d(top.steps, noise.steps)
        h, k = np.interp(steps, *top), np.interp(steps, *noise)
        early = steps <= growth_ends(arrays)
        axes[1, 0].plot(h[~early], k[~early], "o", color=shades[label(run, lane)], markersize=3, fillstyle="none")
        axes[1, 0].plot(h[early], k[early], "o", color=shades[label(run, lane)], markersize=3.5)
    _power_one(axes[1, 0])
    axes[1, 0].set(xlabel=r"$\lambda_H^1$", ylabel=r"$\lambda_K^1$")
    legend_below(fig, 2)
    caption = (
        "Assumption 2 says that the top eigenvectors of H and K are one (above: 1) and their eigenvalues proportional (below: "
        f"the slope of the grey lines). Above, {SEEDS}; noise of the batches lowers it. Dotted lines, filled circles: "
        "up to the peak of the smoothed largest eigenvalue of H, over which claims on it are judged."
    )
    return Figure("alignment", "Are H and K aligned?", caption, fig)


def _mark_peaks(axis: Any, run: RunResult, lanes: Lanes) -> None:
    shades = colours(run)
    for lane, arrays in lanes:
        at = growth_ends(arrays) / sizes(run, lane).steps_per_epoch
        axis.axvline(at, color=shades[label(run, lane)], linestyle=":", linewidth=0.9, zorder=0)


def _power_one(axis: Any) -> None:
    """Makes both axes logarithmic and draws lines along which K's eigenvalue is proportional to that of H."""
    axis.set_xscale("log")
    plain_log(axis)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    ends = np.array([left, right])
    for share in np.geomspace(low / right, high / left, 8):
        axis.plot(ends, share * ends, color=GREY, linewidth=0.5, zorder=0)
    axis.set(xlim=(left, right), ylim=(low, high))


def detector_table(run: RunResult) -> Figure | None:
    """Every detector on every lane, as a table."""
    lanes = with_curve(run, "lambda_k1_raw")[:12]
    if not lanes:
        return None
    rows = [
        [_told(run, lane, arrays, detections(run, lane, arrays)[name]) for name in DETECTORS] for lane, arrays in lanes
    ]
    names = [f"{label(run, lane)}\nseed {lane['seed']}" for lane, _ in lanes]
    fig, axes = canvas(1, 1, height=0.6 + 0.52 * len(rows), width=6.4)
    axes[0, 0].axis("off")
    made = axes[0, 0].table(cellText=rows, rowLabels=names, colLabels=list(DETECTORS), loc="center", cellLoc="center")
    made.auto_set_font_size(False)
    made.set_fontsize(7)
    made.scale(1.0, 2.3)
    caption = (
        "When the run breaks even, as step (epoch, training accuracy). D1: the left side of equation 1 reaches 1; D2: the "
        "smoothed peak of lambda_K and of lambda_H; D3: alpha* falls to 2; D4: over 30 % of steps raise the loss; D5: the "
        "trajectory leaves that of the next larger rate. -: not reached; empty: not measured."
    )
    cells = [
        [name.replace("\n", ", ").replace("$", "").replace("\\eta", "eta").replace("\\beta", "beta"), *row]
        for name, row in zip(names, rows, strict=True)
    ]
    cells = [[cell.replace("\n", " ") for cell in row] for row in cells]
    return Figure("detectors", "The break-even point by five detectors", caption, fig, (["lane", *DETECTORS], cells))


def _told(run: RunResult, lane: dict[str, Any], arrays: Any, found: Any) -> str:
    if found.step is None:
        return "" if found.note.startswith("not measured") else "-"
    accuracy = accuracy_at(arrays, found.step)
    seen = "" if accuracy is None or not np.isfinite(accuracy) else f", {accuracy:.0%}"
    return f"{found.step:.0f}\n({found.step / sizes(run, lane).steps_per_epoch:.1f}{seen})"
