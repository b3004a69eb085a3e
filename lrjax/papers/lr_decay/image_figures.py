"""Figures of the image runs and of transfer."""

import numpy as np

from lrjax.experiment.rundir.lanes import by_arm, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.claim import NotMeasured
from lrjax.papers.lr_decay.pattern_figures import colours, curves, mark_decays, name_of
from lrjax.papers.lr_decay.transfer_checks import ratios
from lrjax.plots.drawing import BLUE, GREY, VERMILLION, Figure, canvas, envelope, legend_below, thousands

TEST = "accuracy/test_accuracy"
STYLES = ("o-", "D--", "^:", "v-.")  # a target each
PATCH_ARMS = {
    "large": "large rate",
    "small": "small rate",
    "small_noise": "small rate, noise on activations",
    "small_after_noise": "small rate, noise on activations",
}


def training(run: RunResult) -> Figure | None:
    """Training loss of every step and test accuracy, an arm a colour."""
    arms = by_arm(recorded(run, TEST, "step/loss"))
    if not arms:
        return None
    fig, axes = canvas(2, 1, height=5.0, sharex=True)
    shades = colours(list(arms))
    for arm, own in arms.items():
        for _, arrays in own:
            loss = arrays["step/loss"]
            axes[0, 0].plot(*envelope(np.arange(len(loss)), loss, 400), color=shades[arm], linewidth=0.7, alpha=0.8)
        curves(axes[1, 0], own, TEST, shades[arm], name_of(*own[0]))
        mark_decays(axes[1, 0], own)
    axes[0, 0].set(ylabel="training loss", yscale="log")
    axes[1, 0].set(ylabel="test accuracy", xlabel="step")
    thousands(axes[1, 0])
    legend_below(fig, 2)
    caption = "Each decayed run is the undecayed one up to its decay (dotted). The settings are ours."
    return Figure("training", "Decay at several times", caption, fig)


def patches(run: RunResult) -> Figure | None:
    """Accuracy on clean images, on images with a patch and on patches alone."""
    names = {"test": "clean images", "mixed": "with patch", "patch": "patch alone"}
    arms = by_arm(recorded(run, *(f"accuracy/{name}_accuracy" for name in names)))
    if not arms:
        return None
    fig, axes = canvas(len(names), 1, height=6.0, sharex=True)
    shades = {"large": VERMILLION, "small": BLUE, "small_noise": "black", "small_after_noise": "black"}
    for axis, (name, label) in zip(axes[:, 0], names.items(), strict=True):
        for arm, own in arms.items():
            curves(axis, own, f"accuracy/{name}_accuracy", shades.get(arm, GREY), PATCH_ARMS.get(arm, arm))
            mark_decays(axis, own)
        axis.axhline(0.1, color=GREY, linewidth=0.8, zorder=0)
        axis.set_ylabel(label)
    axes[-1, 0].set_xlabel("step")
    thousands(axes[-1, 0])
    legend_below(fig, 2)
    caption = "After Li, Wei and Ma 2019: the patch codes the class. Dotted: where the large rate is annealed."
    return Figure("patches", "Which rate memorises the patch", caption, fig)


def explained(run: RunResult) -> Figure | None:
    """I(F; Y) and the part of it that a linear classifier explains."""
    arms = by_arm(recorded(run, "explained/mu"))
    if not arms:
        return None
    fig, axes = canvas(1, 1, height=3.2)
    for own in arms.values():
        curves(axes[0, 0], own, "explained/information", "black", "I(F; Y)")
        curves(axes[0, 0], own, "explained/mu", BLUE, "explained by the linear classifier")
        mark_decays(axes[0, 0], own)
    axes[0, 0].set(ylabel="bits", xlabel="step")
    thousands(axes[0, 0])
    legend_below(fig, 2)
    caption = (
        "mu = I(F; Y) - I(F; Y | L) of predicted labels, F of the network and L of a linear classifier (test images)."
    )
    return Figure("explained", "How much of what is learned is linear", caption, fig)


def transfer(run: RunResult) -> Figure | None:
    """T_2 and T_3 with intervals over seeds, and accuracy after transfer of each stage's snapshot."""
    if not any(lane["arm"] == "source" for lane in run.lanes):
        return None
    try:
        found = ratios(run)
    except (NotMeasured, IndexError):  # a run that is not finished
        return None
    fig, axes = canvas(2, 1, height=5.2)
    targets = list(dict.fromkeys(target for target, _ in found))
    for place, ((target, mode), (values, accuracy)) in enumerate(found.items()):
        colour = BLUE if mode == "fix" else VERMILLION
        for number, ratio in enumerate(values):
            x = place + 0.18 * (2 * number - 1)
            if np.isfinite(ratio.value):
                if np.isfinite(ratio.low):
                    axes[0, 0].plot([x, x], [ratio.low, ratio.high], color=colour, linewidth=1.0)
                axes[0, 0].plot([x], [ratio.value], "os"[number], color=colour, markersize=5)
        style = STYLES[targets.index(target) % len(STYLES)]
        axes[1, 0].plot(range(1, len(accuracy) + 1), accuracy, style, color=colour, label=f"{target}, {mode}")
    axes[0, 0].axhline(0.0, color=GREY, linewidth=0.8)
    axes[0, 0].set_xticks(range(len(found)), [f"{target}\n{mode}" for target, mode in found])
    axes[0, 0].set(ylabel="$T_2$ (circle), $T_3$ (square)")
    axes[1, 0].set(xlabel="snapshot at the end of stage", ylabel="accuracy after transfer")
    axes[1, 0].set_xticks(range(1, 4))
    legend_below(fig, 2)
    caption = "Ratios with 95 % intervals over seeds (Fieller); none where the gain of the source may be zero."
    return Figure("transfer", "Transferability of what each stage adds", caption, fig)
