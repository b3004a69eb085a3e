"""Curvature and gradient noise through training: figures 2 to 5 of the paper, the condition itself, and the detectors."""

from typing import Any

import numpy as np

from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.drawing import colours, label, mark_accuracy, plot_curve, reference, with_curve
from lrjax.papers.break_even.recorded import DETECTORS, accuracy_at, detections, mark_of, sizes, stability_of
from lrjax.papers.claim import NotMeasured
from lrjax.plots.drawing import Figure, canvas, legend_below, plain_log

K, H, RATIO = r"$\lambda_K^1$", r"$\lambda_H^1$", r"$\mathrm{Tr}(K)/\lambda_K^1$"


def early_phase(run: RunResult) -> Figure | None:
    """Figure 2: lambda_K, lambda_H and alpha* against training accuracy, with the break-even point of each run."""
    rows = [(name, text) for name, text in (
        ("lambda_k1_raw", K), ("lambda_h1", H), ("next_step/alpha_star", r"$\alpha^*$"),
        ("next_step/increase_rate", "steps that\nraise the loss"),
    ) if with_curve(run, name)]  # fmt: skip
    if len(rows) < 2 or not with_curve(run, "train_accuracy"):
        return None
    fig, axes = canvas(len(rows), 1, height=1.7 * len(rows) + 0.9, sharex=True)
    for axis, (name, text) in zip(axes[:, 0], rows, strict=True):
        plot_curve(axis, run, name, x="accuracy")
        axis.set_ylabel(text)
        if name != "next_step/increase_rate":
            plain_log(axis)
        _mark_break_even(axis, run)
    axes[-1, 0].set_xlabel("training accuracy")
    legend_below(fig, 3)
    caption = (
        "Top eigenvalues of the gradient noise K and the Hessian H as accuracy grows. Dashed lines: the break-even point, "
        "where the left side of equation 1 first reaches 1; a run without one has none."
    )
    return Figure("early_phase", "The early phase", caption, fig)


def _mark_break_even(axis: Any, run: RunResult) -> None:
    shades = colours(run)
    for lane, arrays in with_curve(run, "curvature_std"):
        at = accuracy_at(arrays, detections(run, lane, arrays)["D1"].step)
        if at is not None:
            axis.axvline(at, color=shades[label(run, lane)], linestyle="--", linewidth=0.9, zorder=0)


def conditioning(run: RunResult) -> Figure | None:
    """Figure 3: lambda_K and Tr(K) / lambda_K against epochs; sweeps over rates and over batch sizes in columns."""
    lanes = with_curve(run, "lambda_k1_raw")
    columns = [[p for p in lanes if p[0]["arm"].startswith("batch_") is batch] for batch in (False, True)]
    columns = [column for column in columns if column] if _is_batch_sweep(run) else [lanes] if lanes else []
    if not columns:
        return None
    fig, axes = canvas(2, len(columns), height=4.6, width=5.0 * (1 + 0.5 * (len(columns) - 1)), sharex="col")
    for column, own in zip(axes.T, columns, strict=True):
        for axis, name in zip(column, ("lambda_k1_raw", "trace_over_lambda"), strict=True):
            plot_curve(axis, run, name, lanes=own)
            mark_accuracy(axis, run, own)
        plain_log(column[0])
        column[-1].set_xlabel("epoch")
    axes[0, 0].set_ylabel(K)
    axes[1, 0].set_ylabel(RATIO)
    legend_below(fig, 3)
    caption = (
        f"K is estimated from {run.config['spectra']['noise_batches']} gradients of "
        f"{run.config['spectra']['noise_batch_size']} examples each, on the scale of such batches. Dotted lines: the first "
        f"time that {mark_of(run):.0%} of the training examples are right."
    )
    return Figure("conditioning", "Gradient noise and its conditioning", caption, fig)


def _is_batch_sweep(run: RunResult) -> bool:
    return any(lane["arm"].startswith("batch_") for lane in run.lanes)


def sharpness(run: RunResult) -> Figure | None:
    """Figure 4: lambda_H against epochs, with 2 / eta of each rate."""
    lanes = with_curve(run, "lambda_h1")
    if not lanes:
        return None
    fig, axes = canvas(1, 1, height=3.4)
    axis = axes[0, 0]
    plot_curve(axis, run, "lambda_h1")
    mark_accuracy(axis, run, lanes)
    shades = colours(run)
    for name, (lane, _) in {label(run, lane): (lane, arrays) for lane, arrays in lanes}.items():
        axis.axhline(2 / lane["learning_rate"], color=shades[name], linestyle="--", linewidth=0.9, zorder=0)
    axis.set_xlabel("epoch")
    axis.set_ylabel(H)
    plain_log(axis)
    legend_below(fig, 3)
    caption = r"Largest eigenvalue of the Hessian. Dashed: $2/\eta$, where full-batch gradient descent breaks even."
    return Figure("sharpness", "Curvature", caption, fig)


def stability(run: RunResult) -> Figure | None:
    """Equation 1 itself: its left side, and what share of it the spread of curvatures has."""
    lanes = [pair for pair in with_curve(run, "curvature_std") if _known(run, *pair)]
    if not lanes:
        return None
    fig, axes = canvas(2, 1, height=4.6, sharex=True)
    shades, seen = colours(run), set()
    for lane, arrays in lanes:
        steps, parts = stability_of(run, lane, arrays)
        epochs, name = steps / sizes(run, lane).steps_per_epoch, label(run, lane)
        style = dict(color=shades[name], markersize=2.5, linewidth=1.0)
        axes[0, 0].plot(epochs, parts.lhs, "o-", label=None if name in seen else name, **style)
        axes[1, 0].plot(epochs, parts.noise_share, "o-", **style)
        seen.add(name)
        found = detections(run, lane, arrays)["D1"]
        if found.step is not None:
            axes[0, 0].plot(
                found.step / sizes(run, lane).steps_per_epoch, 1.0, "s", color="black", markersize=5, zorder=5
            )
    reference(axes[0, 0], 1.0, "edge of stability")
    plain_log(axes[0, 0])
    axes[0, 0].set_ylabel("left side of eq. 1")
    axes[1, 0].set_ylabel("share of noise")
    axes[1, 0].set_xlabel("epoch")
    legend_below(fig, 3)
    caption = (
        r"$(1-\eta\lambda_H^1)^2+s^2\eta^2(N-S)/(S(N-1))$ from the curvatures of single examples along the top eigenvector; "
        "SGD is stable along it up to 1. Squares: the break-even point. Below, the part of the condition that noise has."
    )
    return Figure("stability", "The stability condition", caption, fig)


def _known(run: RunResult, lane: dict[str, Any], arrays: Any) -> bool:
    try:
        return bool(stability_of(run, lane, arrays)[0].size)
    except NotMeasured:
        return False


def batch_norm(run: RunResult) -> Figure | None:
    """Figure 5: what BatchNorm changes, with the scales of its last layer."""
    if not with_curve(run, "gamma_norm"):
        return None
    rows = (
        ("g_over_g5", r"$|g|/|g_5|$"), ("lambda_h1", H), ("lambda_k1_raw", K), ("gamma_norm", r"$|\gamma|$"),
        ("trace_over_lambda", RATIO),
    )  # fmt: skip
    fig, axes = canvas(len(rows), 1, height=1.6 * len(rows) + 0.9, sharex=True)
    for axis, (name, text) in zip(axes[:, 0], rows, strict=True):
        plot_curve(axis, run, name)
        axis.set_ylabel(text)
        if name.startswith("lambda"):
            plain_log(axis)
    axes[-1, 0].set_xlabel("epoch")
    legend_below(fig, 3)
    caption = (
        "With and without BatchNorm: how much of a batch gradient lies in the top five eigenvectors of K (1: all of it), the "
        "top eigenvalues of H and K, the scales of the last BatchNorm layer, and the conditioning of K."
    )
    return Figure("batch_norm", "BatchNorm and the learning rate", caption, fig)


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
