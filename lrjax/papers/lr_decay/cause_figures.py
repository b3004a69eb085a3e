"""Figures on the cause of the stages: root cause, rules, averaging, and the valley between average and decayed weights."""

import numpy as np

from lrjax.experiment.rundir.lanes import by_arm, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.drawn import judged_here, seeds_and_mean, thinned
from lrjax.papers.lr_decay.cause_checks import AVERAGED, HALF, LINE, TRAIN_COMPLEX
from lrjax.papers.lr_decay.checks import COMPLEX
from lrjax.papers.lr_decay.drawing import SEEDS, colours, curves, ends, mark_decays, name_of
from lrjax.papers.lr_decay.observe import at_step, decays
from lrjax.plots.drawing import BLUE, GREY, VERMILLION, Figure, canvas, legend_below, plain_log, thousands


def root_cause(run: RunResult) -> Figure | None:
    """Complex training accuracy and training loss against steps, mini-batches against the full batch."""
    arms = by_arm(recorded(run, TRAIN_COMPLEX))
    if not arms:
        return None
    fig, axes = canvas(2, 1, height=5.2, sharex=True)
    axes[1, 0].set_yscale("log")
    shades = colours(list(arms))
    for place, (arm, own) in enumerate(arms.items()):
        curves(axes[0, 0], own, TRAIN_COMPLEX, shades[arm], name_of(own[0][0]), place)
        curves(axes[1, 0], own, "subsets/train_loss", shades[arm], name_of(own[0][0]), place)
        ends(axes[0, 0], own, TRAIN_COMPLEX, shades[arm])
        for axis in axes[:, 0] if "decay" in arm else ():
            mark_decays(axis, own)
    judged_here(axes[0, 0], max(lane["steps"] for own in arms.values() for lane, _ in own), text="end, judged")
    axes[0, 0].set(ylabel="complex patterns,\ntraining accuracy")
    axes[1, 0].set(ylabel="training loss\n(evaluation mode)", xlabel="step")
    plain_log(axes[1, 0])
    thousands(axes[1, 0])
    legend_below(fig, 2)
    caption = (
        f"The same data, rate and number of steps; only the noise of mini-batches differs. {SEEDS} Dots are the ends, "
        "which are judged; dotted lines are the decays."
    )
    return Figure("root_cause", "Without mini-batch noise there are no stages", caption, fig)


def rules(run: RunResult) -> Figure | None:
    """Complex test accuracy and learning rate of every schedule and rule."""
    arms = by_arm(recorded(run, COMPLEX))
    arms = {arm: own for arm, own in arms.items() if arm not in ("growing_batch_1", "growing_batch_2")}
    if not arms:
        return None
    fig, axes = canvas(2, 1, height=5.8, sharex=True)
    shades = colours(list(arms))
    for place, (arm, own) in enumerate(arms.items()):
        averaged = arm == "schedule_free" and len(own[0][1].get(AVERAGED, ()))
        name = AVERAGED if averaged else COMPLEX
        curves(axes[0, 0], own, name, shades[arm], name_of(own[0][0]), place)
        ends(axes[0, 0], own, name, shades[arm])
        for number, (_, arrays) in enumerate(own):
            width = 0.6 if number else 1.6
            axes[1, 0].plot(
                *thinned(arrays, "step/learning_rate"),
                color=shades[arm],
                alpha=0.8,
                linewidth=width,
                drawstyle="steps-post",
            )
    axes[0, 0].set(ylabel="complex patterns, test", ylim=(-0.02, 1.04))
    axes[1, 0].set(ylabel="learning rate", xlabel="step", yscale="log")
    thousands(axes[1, 0])
    legend_below(fig, 3)
    caption = (
        f"{SEEDS} Dots are the ends, which are judged. Below, the rate of each seed, the first one thick, at 500 points a "
        "lane at most: rules that read the loss change it for each lane by itself. Schedule-free is evaluated at its average."
    )
    return Figure("rules", "When to decay", caption, fig)


def average(run: RunResult) -> Figure | None:
    """Complex accuracy of the undecayed run, its weight average, and the decayed run."""
    arms = by_arm(recorded(run, AVERAGED))
    if "constant" not in arms or "decay" not in arms:
        return None
    fig, axes = canvas(1, 1, height=3.6)
    axis = axes[0, 0]
    curves(axis, arms["constant"], COMPLEX, VERMILLION, "undecayed", 0)
    curves(axis, arms["constant"], AVERAGED, BLUE, "undecayed, average of weights", 1)
    curves(axis, arms["decay"], COMPLEX, "black", "decayed", 2)
    mark_decays(axis, arms["decay"])
    before = at_step(arms["constant"], COMPLEX, decays(arms["decay"][0][1])[0]).mean()
    after = float(np.mean([arrays[COMPLEX][-1] for _, arrays in arms["decay"]]))
    half = before + HALF * (after - before)
    axis.axhline(half, color=GREY, linestyle="-.", linewidth=1.0, zorder=0, label="half of decay's gain")
    ends(axis, arms["constant"], AVERAGED, BLUE)
    judged_here(axis, arms["constant"][0][0]["steps"], text="end, judged")
    axis.set(ylabel="complex patterns, test", xlabel="step", ylim=(-0.02, 1.04))
    thousands(axis)
    legend_below(fig, 2)
    caption = (
        "The average runs from the decay's step (dotted) on, with BatchNorm statistics of its own. No rate is changed for it. "
        f"{SEEDS} Judged is, by seed, whether the average ends under half of decay's gain."
    )
    return Figure("average", "Does averaging bring what decay brings?", caption, fig)


def valley(run: RunResult) -> Figure | None:
    """The training loss on the line from the average of the undecayed run to the weights, at the decay and at the end."""
    found = recorded(run, LINE)
    if not found:
        return None
    fig, axes = canvas(1, 1, height=3.2)
    axes[0, 0].set_yscale("log")
    for number, (place, colour, label) in enumerate(
        ((0, VERMILLION, "when the rate decays"), (-1, "black", "at the end, judged"))
    ):
        losses = [np.asarray(arrays[LINE])[place] for _, arrays in found]
        share = np.linspace(0, 1, len(losses[0]))
        seeds_and_mean(axes[0, 0], [(share, own) for own in losses], colour, label, number)
    axes[0, 0].set(xlabel="from the average (0) to the weights (1)", ylabel="training loss")
    legend_below(fig, 2)
    caption = f"{SEEDS} Each point has batch statistics of its own. A barrier would stand between the two ends."
    return Figure("valley", "Average and decayed weights on one line", caption, fig)
