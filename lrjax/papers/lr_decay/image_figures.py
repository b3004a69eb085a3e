"""Figures of the image runs and of transfer."""

import numpy as np
from matplotlib.axes import Axes

from lrjax.experiment.rundir.lanes import by_arm, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import NotMeasured
from lrjax.papers.drawn import averaged, judged_here, seeds_and_mean
from lrjax.papers.lr_decay.drawing import SEEDS, colours, curves, ends, mark_decays, mark_judged, name_of
from lrjax.papers.lr_decay.observe import Ratio, decays
from lrjax.papers.lr_decay.transfer_checks import accuracies, ratios
from lrjax.plots.drawing import BLUE, GREY, VERMILLION, Figure, canvas, legend_below, thousands

TEST = "accuracy/test_accuracy"
LOSS = "step/loss"
STRETCHES = 200  # of a curve of the loss of every step
STYLES = ("-", "--", ":", "-.")  # a target each
PATCH_ARMS = {
    "large": "large rate",
    "small": "small rate",
    "small_noise": "small rate, noise on activations",
    "small_after_noise": "small rate, noise on activations",
}


def training(run: RunResult) -> Figure | None:
    """Training loss of every step and test accuracy, an arm a colour."""
    arms = by_arm(recorded(run, TEST, LOSS))
    if not arms:
        return None
    fig, axes = canvas(2, 1, height=5.6, sharex=True)
    axes[0, 0].set_yscale("log")
    shades = colours(list(arms))
    for place, (arm, own) in enumerate(arms.items()):
        series = [averaged(arrays, LOSS, STRETCHES) for _, arrays in own]
        seeds_and_mean(axes[0, 0], series, shades[arm], name_of(own[0][0]), place)
        curves(axes[1, 0], own, TEST, shades[arm], name_of(own[0][0]), place)
        ends(axes[1, 0], own, TEST, shades[arm])
        for axis in axes[:, 0]:
            mark_decays(axis, own)
    mark_judged(axes[0, 0], next(iter(arms.values())))
    axes[0, 0].set(ylabel="training loss")
    axes[1, 0].set(ylabel="test accuracy", xlabel="step")
    thousands(axes[1, 0])
    legend_below(fig, 2)
    caption = (
        f"{SEEDS} The loss is averaged over {STRETCHES} stretches a lane at most. Each decayed run is the undecayed one up to "
        f"its decay (dotted). {_JUDGED.get(run.config['experiment'], '')}The settings are ours."
    )
    return Figure("training", "Decay at several times", caption, fig)


_JUDGED = {
    "L1": "Judged are loss and accuracy at the end. ",
    "L2": "Judged are the best values before and after each decay, against those of the undecayed run. ",
}


def patches(run: RunResult) -> Figure | None:
    """Accuracy on clean images, on images with a patch and on patches alone."""
    names = {"test": "clean images", "mixed": "with patch", "patch": "patch alone"}
    arms = by_arm(recorded(run, *(f"accuracy/{name}_accuracy" for name in names)))
    if not arms:
        return None
    fig, axes = canvas(len(names), 1, height=6.4, sharex=True)
    shades = {"large": VERMILLION, "small": BLUE, "small_noise": "black", "small_after_noise": "black"}
    for axis, (name, label) in zip(axes[:, 0], names.items(), strict=True):
        for place, (arm, own) in enumerate(arms.items()):
            curves(axis, own, f"accuracy/{name}_accuracy", shades.get(arm, GREY), PATCH_ARMS.get(arm, arm), place)
            mark_decays(axis, own)
        axis.axhline(0.1, color=GREY, linewidth=0.8, zorder=0)
        axis.set_ylabel(label)
    steps = next(iter(arms.values()))[0][0]["steps"]
    for axis, places in ((axes[0, 0], (steps,)), (axes[2, 0], (steps // 2, steps))):
        for at in places:
            judged_here(axis, at, text="end, judged" if at == steps else "half way, judged")
    axes[-1, 0].set_xlabel("step")
    thousands(axes[-1, 0])
    legend_below(fig, 2)
    caption = (
        f"After Li, Wei and Ma 2019: the patch codes the class. {SEEDS} Dotted: where the large rate is annealed. The grey "
        "line is a guess."
    )
    return Figure("patches", "Which rate memorises the patch", caption, fig)


def explained(run: RunResult) -> Figure | None:
    """I(F; Y) and the part of it that a linear classifier explains."""
    arms = by_arm(recorded(run, "explained/mu"))
    if not arms:
        return None
    fig, axes = canvas(1, 1, height=3.6)
    for own in arms.values():
        curves(axes[0, 0], own, "explained/information", "black", "I(F; Y)")
        curves(axes[0, 0], own, "explained/mu", BLUE, "explained by the linear classifier", 1)
        mark_decays(axes[0, 0], own)
        steps = np.asarray(own[0][1]["explained/step"])
        at = [steps[steps > 0][0], *decays(own[0][1])[:1], steps[-1]] if (steps > 0).any() else []
        for number, step in enumerate(at):
            judged_here(axes[0, 0], step, text=("first", "stage 1", "end")[number] if len(at) == 3 else "judged")
    axes[0, 0].set(ylabel="bits", xlabel="step")
    thousands(axes[0, 0])
    legend_below(fig, 2)
    caption = (
        "$\\mu = I(F; Y) - I(F; Y | L)$ of predicted labels, $F$ of the network and $L$ of a linear classifier (test images). "
        f"{SEEDS} Judged is the share $\\mu / I(F; Y)$ at the first measurement, at the end of stage 1 and at the end."
    )
    return Figure("explained", "How much of what is learned is linear", caption, fig)


def _interval(axis: Axes, x: float, ratio: Ratio, marker: str, colour: str) -> None:
    if np.isfinite(ratio.value):
        if np.isfinite(ratio.low):
            axis.plot([x, x], [ratio.low, ratio.high], color=colour, linewidth=1.0)
        axis.plot([x], [ratio.value], marker, color=colour, markersize=5)


def transfer(run: RunResult) -> Figure | None:
    """T_2 and T_3 with intervals over seeds, and accuracy after transfer of each stage's snapshot."""
    if not any(lane["arm"] == "source" for lane in run.lanes):
        return None
    try:
        found, by_seed = ratios(run), accuracies(run)
    except (NotMeasured, IndexError):  # a run that is not finished
        return None
    fig, axes = canvas(2, 1, height=5.6)
    targets = list(dict.fromkeys(target for target, _ in found))
    for place, ((target, mode), (values, accuracy)) in enumerate(found.items()):
        colour = BLUE if mode == "fix" else VERMILLION
        for number, ratio in enumerate(values):
            _interval(axes[0, 0], place + 0.18 * (2 * number - 1), ratio, "os"[number], colour)
        style = STYLES[targets.index(target) % len(STYLES)]
        stage = np.arange(1, len(accuracy) + 1)
        series = [(stage, own) for own in by_seed[target, mode][1]]
        label = f"{target}, {mode}"
        seeds_and_mean(axes[1, 0], series, colour, label, linestyle=style, linewidth=1.5, marker="o", markersize=4)
    axes[0, 0].axhline(0.0, color=GREY, linewidth=0.8)
    axes[0, 0].set_xticks(range(len(found)), [f"{target}\n{mode}" for target, mode in found])
    axes[0, 0].set(ylabel="$T_2$ (circle), $T_3$ (square), judged")
    axes[1, 0].set(xlabel="snapshot at the end of stage", ylabel="accuracy after transfer")
    axes[1, 0].set_xticks(range(1, 4))
    legend_below(fig, 2)
    caption = (
        "Above, ratios with 95 % intervals over seeds (Fieller); none where the gain of the source may be zero. Judged is "
        f"whether $T_3$ is under $T_2$. Below: {SEEDS[0].lower()}{SEEDS[1:]}"
    )
    return Figure("transfer", "Transferability of what each stage adds", caption, fig)
