"""Curvature and gradient noise through training: figures 2 to 5 of the paper."""

from typing import Any

from lrjax.experiment.rundir.lanes import Lanes
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.break_even.checks import CONTROL, SHARE
from lrjax.papers.break_even.drawing import (
    SEEDS,
    bars,
    colours,
    label,
    mark_accuracy,
    mark_judged,
    plot_curve,
    with_curve,
)
from lrjax.papers.break_even.recorded import accuracy_at, detections, mark_of, sizes
from lrjax.plots.drawing import GREY, Figure, canvas, legend_below, plain_log

K, H, RATIO = r"$\lambda_K^1$", r"$\lambda_H^1$", r"$\mathrm{Tr}(K)/\lambda_K^1$"
AT_EQUAL_ACCURACY = ("E1", "E3", "E3_full")  # experiments whose lambda_K is compared at equal training accuracy
# eta -> the paper's maxima of lambda_K and of Tr(K) / lambda_K
PAPER = {
    0.1: {"lambda_k1_raw": 0.87, "trace_over_lambda": 14.29},
    0.01: {"lambda_k1_raw": 3.01, "trace_over_lambda": 10.69},
}


def early_phase(run: RunResult) -> Figure | None:
    """Figure 2: lambda_K, lambda_H and alpha* against training accuracy, with the break-even point of each run."""
    rows = [(name, text) for name, text in (
        ("lambda_k1_raw", K), ("lambda_h1", H), ("next_step/alpha_star", r"$\alpha^*$"),
        ("next_step/increase_rate", "steps that\nraise the loss"),
    ) if with_curve(run, name)]  # fmt: skip
    if len(rows) < 2 or not with_curve(run, "train_accuracy"):
        return None
    fig, axes = canvas(len(rows), 1, height=1.9 * len(rows) + 1.1, sharex=True)
    for axis, (name, text) in zip(axes[:, 0], rows, strict=True):
        plot_curve(axis, run, name, x="accuracy")
        axis.set_ylabel(text)
        if name != "next_step/increase_rate":
            plain_log(axis)
        _mark_break_even(axis, run)
    axes[-1, 0].set_xlabel("training accuracy")
    shaded = run.config["experiment"] in AT_EQUAL_ACCURACY
    if shaded:
        axes[0, 0].axvspan(*SHARE, color=GREY, alpha=0.15, linewidth=0, zorder=-1, label="judged: ratio here")
    legend_below(fig, 2)
    caption = (
        f"Top eigenvalues of the gradient noise K and the Hessian H as accuracy grows: {SEEDS}. Dashed lines: the break-even "
        "point, where the left side of equation 1 first reaches 1; a run without one has none."
    ) + (" Shaded: training accuracies at which the rates are compared." if shaded else "")
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
    fig, axes = canvas(2, len(columns), height=5.4, width=5.0 * (1 + 0.5 * (len(columns) - 1)), sharex="col")
    intervals, judged, numbers = [], [], False
    for column, own in zip(axes.T, columns, strict=True):
        compared = [pair for pair in own if not pair[0]["arm"].startswith(CONTROL)]
        for axis, name in zip(column, ("lambda_k1_raw", "trace_over_lambda"), strict=True):
            plot_curve(axis, run, name, lanes=own)
            mark_accuracy(axis, run, own)
            judged.append(mark_judged(axis, run, name, compared))
            numbers |= _paper_maxima(axis, run, name, compared)
        intervals.append(bars(column[0], run, own, "lambda_k1", "lambda_k1_raw"))
        plain_log(column[0])
        column[-1].set_xlabel("epoch")
    axes[0, 0].set_ylabel(K)
    axes[1, 0].set_ylabel(RATIO)
    legend_below(fig, 2)
    caption = (
        f"K is estimated from {run.config['spectra']['noise_batches']} gradients of "
        f"{run.config['spectra']['noise_batch_size']} examples each, on the scale of such batches: {SEEDS}. "
        + ("Bars: 95 % jackknife intervals of a measurement. " if any(intervals) else "")
        + max(judged)
        + f"Dotted lines: the first time that {mark_of(run):.0%} of the training examples are right."
        + (" Dash-dotted lines: the paper's maxima." if numbers else "")
    )
    return Figure("conditioning", "Gradient noise and its conditioning", caption, fig)


def _is_batch_sweep(run: RunResult) -> bool:
    return any(lane["arm"].startswith("batch_") for lane in run.lanes)


def comparable(run: RunResult, lane: dict[str, Any]) -> bool:
    """Whether a lane is in the setting of the paper's printed maxima: SimpleCNN, CIFAR-10, S and M of 128, all images."""
    model, config = run.config["model"], run.config
    same = model["name"] == "simple_cnn" and model.get("width") == 32 and model["norm"] == "none"
    n = sizes(run, lane)
    return (
        same
        and not lane["arm"].startswith(("batch_norm", CONTROL))
        and config["data"]["name"] == "cifar10"
        and n.batch_size == config["spectra"]["noise_batch_size"] == 128
        and n.num_examples >= 45_000
    )


def _paper_maxima(axis: Any, run: RunResult, name: str, lanes: Lanes) -> bool:
    """Lines at the paper's maxima of the rates that it gives; whether there was one."""
    shades, seen = colours(run), set()
    for lane, _ in lanes:
        value = PAPER.get(lane["learning_rate"], {}).get(name) if comparable(run, lane) else None
        if value is not None and value not in seen:
            seen.add(value)
            axis.axhline(value, color=shades[label(run, lane)], linestyle="-.", linewidth=1.1, label="paper: maximum")
    return bool(seen)


def sharpness(run: RunResult) -> Figure | None:
    """Figure 4: lambda_H against epochs, with 2 / eta of each rate."""
    lanes = with_curve(run, "lambda_h1")
    if not lanes:
        return None
    fig, axes = canvas(1, 1, height=4.0)
    axis = axes[0, 0]
    plot_curve(axis, run, "lambda_h1")
    mark_accuracy(axis, run, lanes)
    judged = mark_judged(axis, run, "lambda_h1", [pair for pair in lanes if not pair[0]["arm"].startswith(CONTROL)])
    shades = colours(run)
    for name, (lane, _) in {label(run, lane): (lane, arrays) for lane, arrays in lanes}.items():
        axis.axhline(2 / lane["learning_rate"], color=shades[name], linestyle="--", linewidth=0.9, zorder=0)
    axis.set_xlabel("epoch")
    axis.set_ylabel(H)
    plain_log(axis)
    legend_below(fig, 2)
    caption = (
        rf"Largest eigenvalue of the Hessian: {SEEDS}. Dashed: $2/\eta$, where full-batch gradient descent breaks even. "
        + judged
    ).rstrip()
    return Figure("sharpness", "Curvature", caption, fig)


def batch_norm(run: RunResult) -> Figure | None:
    """Figure 5: what BatchNorm changes, with the scales of its last layer."""
    if not with_curve(run, "gamma_norm"):
        return None
    rows = (
        ("g_over_g5", r"$|g|/|g_5|$"), ("lambda_h1", H), ("lambda_k1_raw", K), ("gamma_norm", r"$|\gamma|$"),
        ("trace_over_lambda", RATIO),
    )  # fmt: skip
    fig, axes = canvas(len(rows), 1, height=1.7 * len(rows) + 1.1, sharex=True)
    judged = ""
    for axis, (name, text) in zip(axes[:, 0], rows, strict=True):
        plot_curve(axis, run, name)
        axis.set_ylabel(text)
        if name.startswith("lambda"):
            plain_log(axis)
        if name == "trace_over_lambda":
            judged = mark_judged(axis, run, name, with_curve(run, name))
    axes[-1, 0].set_xlabel("epoch")
    legend_below(fig, 2)
    caption = (
        "With and without BatchNorm: how much of a batch gradient lies in the top five eigenvectors of K (1: all of it), the "
        f"top eigenvalues of H and K, the scales of the last BatchNorm layer, and the conditioning of K: {SEEDS}. {judged}"
    ).rstrip()
    return Figure("batch_norm", "BatchNorm and the learning rate", caption, fig)
