"""Figures of the PS10 runs: accuracy by subset through the stages, memorised noise, root cause, rules."""

from typing import Any

import matplotlib
import numpy as np
from matplotlib import figure
from matplotlib.axes import Axes

from lrjax.experiment.rundir.lanes import Arrays, Lanes, by_arm, recorded
from lrjax.experiment.rundir.metrics import RunResult
from lrjax.papers.lr_decay.observe import decays
from lrjax.plots.drawing import BLUE, GREEN, GREY, PURPLE, VERMILLION, Figure, canvas, legend_below, thousands

SUBSETS = {"simple": "simple patterns", "complex": "complex patterns", "all": "all"}
_SHADES = (VERMILLION, BLUE, GREEN, PURPLE)


def colours(arms: list[str]) -> dict[str, Any]:
    """A colour for each arm; decay is black."""
    rest = [arm for arm in arms if arm != "decay"]
    many = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    shades = _SHADES if len(rest) <= len(_SHADES) else many
    return {arm: shades[i % len(shades)] for i, arm in enumerate(rest)} | {"decay": "black"}


def name_of(lane: dict[str, Any], arrays: Arrays) -> str:
    """An arm in words: its name, or its rate where it is constant."""
    if lane["arm"].split("_")[0] == "constant" and lane["arm"] != "constant":
        return f"constant {lane['learning_rate']:g}"
    return lane["arm"].replace("_", " ")


def curves(axis: Axes, own: Lanes, name: str, colour: Any, label: str | None, style: str = "-") -> None:
    """Every seed thinly, and their mean."""
    stream = name.split("/")[0]
    steps = [np.asarray(arrays[f"{stream}/step"]) for _, arrays in own]
    values = [np.asarray(arrays[name], float) for _, arrays in own]
    for step, value in zip(steps, values, strict=True):
        axis.plot(step, value, style, color=colour, linewidth=0.7, alpha=0.35)
    length = min(map(len, values))
    mean = np.mean([value[:length] for value in values], axis=0)
    axis.plot(steps[0][:length], mean, style, color=colour, label=label)


def mark_decays(axis: Axes, own: Lanes) -> None:
    """Vertical lines where the rate falls, if it does so a few times."""
    at = decays(own[0][1])
    for step in at if len(at) < 9 else []:
        axis.axvline(step, color=GREY, linewidth=0.8, linestyle=":", zorder=0)


def _panels(
    run: RunResult, names: dict[str, str], arms: dict[str, Lanes]
) -> tuple[figure.Figure, Any] | tuple[None, None]:
    if not arms:
        return None, None
    shades = colours(list(arms))
    fig, axes = canvas(len(names), 1, height=1.9 * len(names) + 0.9, sharex=True)
    for axis, (name, label) in zip(axes[:, 0], names.items(), strict=True):
        for arm, own in arms.items():
            if all(len(arrays.get(name, ())) for _, arrays in own):
                curves(axis, own, name, shades[arm], name_of(*own[0]))
        axis.set_ylabel(label)
        axis.set_ylim(-0.02, 1.04)
    axes[-1, 0].set_xlabel("step")
    thousands(axes[-1, 0])
    return fig, axes


def accuracy_by_subset(run: RunResult) -> Figure | None:
    """Test accuracy on simple, complex and all patterns through the stages, an arm a colour."""
    arms = by_arm(recorded(run, "subsets/test_complex"))
    fig, axes = _panels(run, {f"subsets/test_{k}": label for k, label in SUBSETS.items()}, arms)
    if fig is None or axes is None:
        return None
    for axis in axes[:, 0]:
        mark_decays(axis, arms.get("decay", next(iter(arms.values()))))
    legend_below(fig, 2)
    caption = (
        "Accuracy on test samples of the same patterns, without noise. Thin lines are seeds, the thick one is their mean; "
        "dotted lines are the decays. Up to the first decay the decayed run is the constant one at its first rate."
    )
    return Figure("accuracy_by_subset", "Simple patterns first, complex ones after the decay", caption, fig)


def gain_by_stage(run: RunResult) -> Figure | None:
    """Accuracy at the end of each stage of the decayed run, and of the constant runs at the same steps."""
    arms = by_arm(recorded(run, "subsets/test_complex"))
    if "decay" not in arms:
        return None
    ends = [*decays(arms["decay"][0][1]), int(arms["decay"][0][0]["steps"])]
    fig, axes = canvas(1, 2, height=3.0, sharey=True)
    shades = colours(list(arms))
    for axis, kind in zip(axes[0], ("simple", "complex"), strict=True):
        for place, (arm, own) in enumerate(arms.items()):
            rows = []
            for _, arrays in own:
                steps = np.asarray(arrays["subsets/step"])
                rows.append([arrays[f"subsets/test_{kind}"][np.flatnonzero(steps <= end)[-1]] for end in ends])
            x = np.arange(len(ends)) + 0.14 * (place - 1.5)
            axis.plot(x, np.mean(rows, axis=0), "o", color=shades[arm], markersize=5, label=name_of(*own[0]))
            for row in rows:
                axis.plot(x, row, "_", color=shades[arm], alpha=0.6)
        axis.set(xlabel="stage", title=SUBSETS[kind])
        axis.set_xticks(range(len(ends)), [str(i + 1) for i in range(len(ends))])
    axes[0, 0].set_ylabel("test accuracy at its end")
    legend_below(fig, 2)
    caption = "Means of seeds as dots, seeds as dashes, at the steps at which the stages of the decayed run end."
    return Figure("gain_by_stage", "What each stage adds", caption, fig)


def memorised_noise(run: RunResult) -> Figure | None:
    """Accuracy on noise against complex test accuracy: both through training, one panel a kind of noise."""
    arms = by_arm(recorded(run, "subsets/train_noise_given"))
    kinds = [k for k in ("label", "point", "joint") if any(arm.startswith(k) for arm in arms)]
    if not kinds:
        return None
    fig, axes = canvas(len(kinds), 1, height=2.4 * len(kinds) + 0.6, sharex=True)
    shades = {"decay": "black", "constant_1": BLUE, "constant_2": GREEN}
    for axis, kind in zip(axes[:, 0], kinds, strict=True):
        for arm, colour in shades.items():
            for number, (lane, arrays) in enumerate(arms.get(f"{kind}_{arm}", [])):
                x, y = arrays["subsets/test_complex"], arrays["subsets/train_noise_given"]
                label = ("decay" if arm == "decay" else f"constant {lane['learning_rate']:g}") if number == 0 else None
                axis.plot(x, y, color=colour, alpha=0.7, linewidth=1.0, label=label)
                axis.plot(x[-1:], y[-1:], "o", color=colour, markersize=4)
        axis.axhline(0.0 if kind == "label" else 0.1, color=GREY, linewidth=0.8, zorder=0)
        axis.set(ylabel="accuracy on noise", title=f"noise: {kind}")
    axes[-1, 0].set_xlabel("accuracy on complex patterns (test, clean)")
    legend_below(fig, 3)
    caption = (
        "A line is a run, its dot the end. High is bad: agreement with meaningless training labels. The grey line is what a "
        "network scores that ignores the noise. At the same accuracy on complex patterns the lower line memorises less."
    )
    return Figure("memorised_noise", "Noise memorised, at matched complexity", caption, fig)


def noisy_accuracy(run: RunResult) -> Figure | None:
    """Simple, complex and noise accuracy through training, a figure's panels a kind of noise in turn."""
    found = recorded(run, "subsets/train_noise_given")
    arms = {arm: own for arm, own in by_arm(found).items() if arm.startswith("label")}
    names = {f"subsets/test_{k}": SUBSETS[k] for k in ("simple", "complex")} | {"subsets/train_noise_given": "noise"}
    fig, _ = _panels(run, names, arms)
    if fig is None:
        return None
    legend_below(fig, 2)
    caption = (
        "With wrong labels on a tenth of the training set: clean test accuracy by subset, and agreement with the noise."
    )
    return Figure("noisy_accuracy", "Wrong labels: what is learned and what is memorised", caption, fig)


def root_cause(run: RunResult) -> Figure | None:
    """Complex training accuracy and training loss against steps, mini-batches against the full batch."""
    arms = by_arm(recorded(run, "subsets/train_complex"))
    if not arms:
        return None
    fig, axes = canvas(2, 1, height=4.8, sharex=True)
    shades = colours(list(arms))
    for arm, own in arms.items():
        style = "--" if arm.endswith("decay") else "-"
        curves(axes[0, 0], own, "subsets/train_complex", shades[arm], name_of(*own[0]), style)
        curves(axes[1, 0], own, "subsets/train_loss", shades[arm], None, style)
    axes[0, 0].set(ylabel="complex patterns,\ntraining accuracy")
    axes[1, 0].set(ylabel="training loss\n(evaluation mode)", xlabel="step", yscale="log")
    thousands(axes[1, 0])
    legend_below(fig, 2)
    caption = "The same data, rate and number of steps; only the noise of mini-batches differs."
    return Figure("root_cause", "Without mini-batch noise there are no stages", caption, fig)


def curvature(run: RunResult) -> Figure | None:
    """eta lambda_max / 2 of gradient descent through training, and 1, where a quadratic model begins to diverge."""
    found = recorded(run, "spectrum/lambda_h1")
    if not found:
        return None
    fig, axes = canvas(1, 1, height=3.0)
    axis, highest = axes[0, 0], []
    for lane, arrays in found:
        steps, ratio = np.asarray(arrays["spectrum/step"]), arrays["spectrum/lambda_h1"] * lane["learning_rate"] / 2
        axis.plot(steps, ratio, color=BLUE, linewidth=0.8, label="seeds" if not highest else None)
        if np.isfinite(ratio).any():
            place = int(np.nanargmax(ratio))
            highest.append((steps[place], ratio[place]))
    axis.plot(*np.array(highest).T, "o", color=VERMILLION, markersize=5, label="the largest, which is judged")
    axis.axhline(1.0, color=GREY, linewidth=0.8, label="limit of a quadratic model")
    axis.set(ylabel="eta x lambda_max / 2", xlabel="step")
    thousands(axis)
    legend_below(fig, 3)
    caption = (
        "Gradient descent without momentum on all examples; the Hessian is that of the loss without its l2 penalty."
    )
    return Figure("curvature", "Gradient descent past the limit of a quadratic model", caption, fig)


def rules(run: RunResult) -> Figure | None:
    """Complex test accuracy and learning rate of every schedule and rule."""
    arms = by_arm(recorded(run, "subsets/test_complex"))
    arms = {arm: own for arm, own in arms.items() if arm not in ("growing_batch_1", "growing_batch_2")}
    if not arms:
        return None
    fig, axes = canvas(2, 1, height=5.4, sharex=True)
    shades = colours(list(arms))
    for arm, own in arms.items():
        averaged = arm == "schedule_free" and len(own[0][1].get("subsets/averaged_test_complex", ()))
        name = "subsets/averaged_test_complex" if averaged else "subsets/test_complex"
        curves(axes[0, 0], own, name, shades[arm], name_of(*own[0]))
        rates = own[0][1]["step/learning_rate"]
        axes[1, 0].plot(np.arange(len(rates)), rates, color=shades[arm], alpha=0.8)
    axes[0, 0].set(ylabel="complex patterns, test", ylim=(-0.02, 1.04))
    axes[1, 0].set(ylabel="learning rate (seed 0)", xlabel="step", yscale="log")
    thousands(axes[1, 0])
    legend_below(fig, 3)
    caption = (
        "Rules that read the loss change the rate of each lane by itself; schedule-free is evaluated at its average."
    )
    return Figure("rules", "When to decay", caption, fig)


def average(run: RunResult) -> Figure | None:
    """Complex accuracy of the undecayed run, its weight average, and the decayed run."""
    arms = by_arm(recorded(run, "subsets/averaged_test_complex"))
    if "constant" not in arms or "decay" not in arms:
        return None
    fig, axes = canvas(1, 1, height=3.2)
    axis = axes[0, 0]
    curves(axis, arms["constant"], "subsets/test_complex", VERMILLION, "undecayed")
    curves(axis, arms["constant"], "subsets/averaged_test_complex", BLUE, "undecayed, average of weights")
    curves(axis, arms["decay"], "subsets/test_complex", "black", "decayed")
    mark_decays(axis, arms["decay"])
    axis.set(ylabel="complex patterns, test", xlabel="step", ylim=(-0.02, 1.04))
    thousands(axis)
    legend_below(fig, 2)
    caption = (
        "The average runs from the decay's step on, with BatchNorm statistics of its own. No rate is changed for it."
    )
    return Figure("average", "Does averaging bring what decay brings?", caption, fig)


def valley(run: RunResult) -> Figure | None:
    """The training loss on the line from the average of the undecayed run to the weights, at the decay and at the end."""
    found = recorded(run, "path_to_average/losses")
    if not found:
        return None
    fig, axes = canvas(1, 1, height=3.0)
    for number, (_, arrays) in enumerate(found):
        curves_of = np.asarray(arrays["path_to_average/losses"])
        share = np.linspace(0, 1, curves_of.shape[1])
        for place, colour, label in ((0, VERMILLION, "when the rate decays"), (-1, "black", "at the end, judged")):
            axes[0, 0].plot(share, curves_of[place], color=colour, linewidth=1.0, label=None if number else label)
    axes[0, 0].set(xlabel="from the average (0) to the weights (1)", ylabel="training loss", yscale="log")
    legend_below(fig, 2)
    caption = (
        "A line is a seed; each point has batch statistics of its own. A barrier would stand between the two ends."
    )
    return Figure("valley", "Average and decayed weights on one line", caption, fig)
